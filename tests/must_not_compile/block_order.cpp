// expects: hybridmed: the order policy of TransformerBlock must be callable as
// Order::residual(x, norm, part) and return x's type; see docs/policies/transformer_block.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/transformer.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

struct Attention {
  template <class F>
  void visit(F&&) {}
  X operator()(const X& x) const { return x; }
};
struct Order {
#ifdef HYBRIDMED_CONTROL
  template <class V, class Norm, class F>
  static V residual(const V& x, const Norm&, F&& f) {
    return f(x);
  }
#else
  template <class V, class F>
  static V residual(const V& x, F&& f) {
    return f(x);
  }  // takes no norm
#endif
};
X f(const nn::TransformerBlock<float, Reference, Attention, nn::FeedForward<float, Reference>,
                               nn::LayerNorm<float, Reference>, Order>& block,
    const X& x) {
  return block(x);
}
