// expects: hybridmed: the norm policy of TransformerBlock must be callable as norm(x) and return
// x's type; see docs/policies/transformer_block.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/transformer.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

struct Norm {
  template <class F>
  void visit(F&&) {}
#ifdef HYBRIDMED_CONTROL
  X operator()(const X& x) const { return x; }
#else
  X operator()(const X& x, double eps) const { return x; }
#endif
};
struct Attention {
  template <class F>
  void visit(F&&) {}
  X operator()(const X& x) const { return x; }
};
X f(const nn::TransformerBlock<float, Reference, Attention, nn::FeedForward<float, Reference>,
                               Norm>& block,
    const X& x) {
  return block(x);
}
