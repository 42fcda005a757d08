// expects: hybridmed: the attention policy of TransformerBlock lacks visit(f); see
// docs/policies/transformer_block.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/transformer.hpp>

using namespace hybridmed;

struct Attention {
#ifdef HYBRIDMED_CONTROL
  template <class F>
  void visit(F&&) {}
#endif
};
constexpr auto bytes = sizeof(nn::TransformerBlock<float, Reference, Attention>);
