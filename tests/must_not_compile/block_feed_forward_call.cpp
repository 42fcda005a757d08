// expects: hybridmed: the feed-forward policy of TransformerBlock must be callable as mlp(x) and
// return x's type; see docs/policies/transformer_block.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/transformer.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

struct Ffn {
  template <class F>
  void visit(F&&) {}
#ifdef HYBRIDMED_CONTROL
  X operator()(const X& x) const { return x; }
#else
  X operator()(X& x) const { return x; }  // wants to change its input
#endif
};
struct Attention {
  template <class F>
  void visit(F&&) {}
  X operator()(const X& x) const { return x; }
};
X f(const nn::TransformerBlock<float, Reference, Attention, Ffn>& block, const X& x) {
  return block.train(x, nn::Mode::training(), 0);
}
