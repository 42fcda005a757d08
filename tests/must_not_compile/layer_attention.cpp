// expects: hybridmed: this backend has no attention for this scalar; see
// docs/policies/backend.md

// Attention on a backend that serves layers without it.
#include <hybridmed/autograd/attention.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct B : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void attention();  // hides the kernel of that name
#endif
};
using X = hybridmed::Tensor<float, B>;
X call(const X& q, const X& kv, const hybridmed::Segments<B>& s) {
  return hybridmed::cross_attention(q, kv, s, s, 1);
}
