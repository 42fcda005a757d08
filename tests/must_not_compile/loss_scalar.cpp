// expects: hybridmed: a loss reads values in the master scalar of a precision: of values in
// bfloat16, widen(x); see docs/policies/precision.md

#include <hybridmed/autograd/losses.hpp>
#include <hybridmed/backend/reference/backend.hpp>

using namespace hybridmed;
using V = Tensor<bfloat16, Reference>;

auto f(const V& logits, const IndexTensor<Reference>& target) {
#ifdef HYBRIDMED_CONTROL
  return cross_entropy(widen(logits), target, 0);
#else
  return cross_entropy(logits, target, 0);
#endif
}
