#pragma once
// The causal uni-modal text encoder E_T (method 2.3), one for findings, impressions and prompts.
// CLS is the last row of a section, sees all of it and is seen by nobody; it has no position of its
// own.
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/model/config.hpp"
#include "hybridmed/model/text_plan.hpp"
#include "hybridmed/nn/transformer.hpp"

namespace hybridmed::model {

template <class T, class B>
struct TextEncoder {
  Parameter<T, B> token_embed, pos, cls;  // (V, d), (T, d), (d)
  std::vector<nn::TransformerBlock<T, B>> blocks;
  nn::LayerNorm<T, B> norm;

  TextEncoder() = default;
  explicit TextEncoder(const Config& c)
      : token_embed({c.vocab, c.d}, init::normal(0.02)),
        pos({c.positions(), c.d}, init::normal(0.01), no_decay),
        cls({c.d}, init::normal(0.02)),
        norm(c.d, c.ln_eps) {
    const nn::Stack stack{c.uni_blocks};
    for (Index i = 0; i < c.uni_blocks; ++i)
      blocks.emplace_back(c.d, c.ln_eps, nn::SelfAttention<T, B>(c.d, c.heads, stack),
                          nn::FeedForward<T, B>(c.d, c.mlp_ratio * c.d, stack));
  }
  template <class F>
  void visit(F&& f) {
    f("token_embed", token_embed);
    f("pos", pos);
    f("cls", cls);
    f("blocks", blocks);
    f("norm", norm);
  }
  /// Raw states of every packed row, (rows, d). The global vector of a section is norm(state at its
  /// CLS row).
  template <Value V>
  V operator()(const TextPlan<B>& plan) const {
    V x = gather_rows(use<V>(token_embed), plan.token);
    x = add(x, gather_rows(use<V>(pos), plan.position));
    x = add(x, gather_rows(use<V>(cls), plan.cls));
    for (const auto& block : blocks) x = block(x, plan.segments, true);
    return x;
  }
};

}  // namespace hybridmed::model
