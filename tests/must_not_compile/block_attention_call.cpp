// expects: hybridmed: the attention policy of TransformerBlock must be callable as attn(x,
// args...) and return x's type; see docs/policies/transformer_block.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/transformer.hpp>

using namespace hybridmed;

struct Attention {
  template <class F>
  void visit(F&&) {}
#ifdef HYBRIDMED_CONTROL
  template <Value V>
  V operator()(const V& x, Index) const {
    return x;
  }
#else
  template <Value V>
  V operator()(const V& x) const {
    return x;
  }  // takes no segment length
#endif
};
using X = Tensor<float, Reference>;
X f(const nn::TransformerBlock<float, Reference, Attention>& block, const X& x) {
  return block(x, Index{4});
}
