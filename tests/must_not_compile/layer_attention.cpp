// expects: hybridmed: this backend has no attention for this scalar; see
// docs/policies/backend.md

// Attention on a backend that serves layers without it.
#include <hybridmed/autograd/attention.hpp>
#include <hybridmed/backend/cuda/backend.hpp>
#include <hybridmed/backend/reference/backend.hpp>

#ifdef HYBRIDMED_CONTROL
using B = hybridmed::Reference;
#else
using B = hybridmed::Cuda;
#endif
using X = hybridmed::Tensor<float, B>;
X call(const X& q, const X& kv, const hybridmed::Segments<B>& s) {
  return hybridmed::cross_attention(q, kv, s, s, 1);
}
