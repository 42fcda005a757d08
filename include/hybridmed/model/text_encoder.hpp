#pragma once
// The uni-modal text encoder E_T (method 2.3), one for findings, impressions and prompts. CLS is
// the last row of a section, sees all of it and is seen by nobody; it has no position of its own.
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/model/part_configs.hpp"
#include "hybridmed/model/text_plan.hpp"
#include "hybridmed/nn/transformer.hpp"

namespace hybridmed::model {

/// A module that turns the packed tokens of a plan into states (rows, width), and states at the CLS
/// rows into global vectors, both wide; it says its width, and whether a token sees only those
/// before it. See docs/policies/text_encoder.md.
template <class E, class T, class B>
concept TextPolicy = nn::Module<E> &&
    requires(const E& e, const TextPlan<B>& plan, const Wide<Tensor<T, B>>& x,
             const Wide<Variable<T, B>>& v, const IndexTensor<B>& rows) {
  { e.width() } -> std::convertible_to<Index>;
  { e.causal() } -> std::convertible_to<bool>;
  { e.template operator()<Tensor<T, B>>(plan) } -> std::same_as<Wide<Tensor<T, B>>>;
  { e.template operator()<Variable<T, B>>(plan) } -> std::same_as<Wide<Variable<T, B>>>;
  { e.global(x, rows) } -> std::same_as<Wide<Tensor<T, B>>>;
  { e.global(v, rows) } -> std::same_as<Wide<Variable<T, B>>>;
};

/// `Order`: where the norm of a residual branch sits (nn::PreNorm, nn::PostNorm).
template <class T, class B, class Order = nn::PreNorm>
struct TextEncoder {
  using Block = nn::TransformerBlock<T, B, nn::SelfAttention<T, B>, nn::FeedForward<T, B>,
                                     nn::LayerNorm<T, B>, Order>;
  Parameter<T, B> token_embed, pos, cls;  // (V, d), (T, d), (d)
  std::vector<Block> blocks;
  nn::LayerNorm<T, B> norm;
  TextConfig config;

  TextEncoder() = default;
  explicit TextEncoder(const TextConfig& c)
      : token_embed({c.vocabulary, c.width}, init::normal(0.02)),
        pos({c.positions, c.width}, init::normal(0.01), no_decay),
        cls({c.width}, init::normal(0.02)),
        norm(c.width, c.ln_eps),
        config(c) {
    const nn::Stack stack{c.depth};
    for (Index i = 0; i < c.depth; ++i)
      blocks.emplace_back(c.width, c.ln_eps, nn::SelfAttention<T, B>(c.width, c.heads, stack),
                          nn::FeedForward<T, B>(c.width, c.mlp_ratio * c.width, stack));
  }
  template <class F>
  void visit(F&& f) {
    f("token_embed", token_embed);
    f("pos", pos);
    f("cls", cls);
    f("blocks", blocks);
    f("norm", norm);
  }
  Index width() const { return config.width; }
  /// Only then may a decoder's queries be its states: else a token has seen the next one.
  bool causal() const { return config.causal; }

  /// Raw states of every packed row, (rows, d).
  template <Value V>
  Wide<V> operator()(const TextPlan<B>& plan) const {
    using W = Wide<V>;
    W sum = gather_rows(use<W>(token_embed), plan.token);
    sum = add(sum, gather_rows(use<W>(pos), plan.position));
    sum = add(sum, gather_rows(use<W>(cls), plan.cls));
    auto x = cast<nn::stream_of<Order, V>>(sum);
    for (const auto& block : blocks) x = block(x, plan.segments, config.causal);
    return widen(x);
  }
  /// Global vectors of sections: norm(state at each CLS row). states (rows, d) -> (n, d).
  template <Value W>
  W global(const W& states, const IndexTensor<B>& cls_rows) const {
    return norm.wide(gather_rows(states, cls_rows));
  }
};

}  // namespace hybridmed::model
