#pragma once
// The Generative Distillation Decoder (method 2.4): per block a shared causal self-attention, one
// cross-attention per branch, a shared feed-forward part; one output layer per branch. Both
// branches run stacked through what they share.
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/model/part_configs.hpp"
#include "hybridmed/model/text_plan.hpp"
#include "hybridmed/nn/transformer.hpp"

namespace hybridmed::model {

/// Which branches a decoder has, or a call wants.
struct Branches {
  bool summarize = true, caption = true;
};

template <class T, class B>
struct DecoderBlock {
  nn::LayerNorm<T, B> ln1;
  nn::SelfAttention<T, B> sa;
  nn::CrossAttention<T, B> summarize, caption;
  nn::LayerNorm<T, B> ln3;
  nn::FeedForward<T, B> ffn;
  Branches has;

  DecoderBlock(const DecoderConfig& c, Branches b)
      : ln1(c.width, c.ln_eps),
        sa(c.width, c.heads, nn::Stack{c.depth}),
        ln3(c.width, c.ln_eps),
        ffn(c.width, c.mlp_ratio * c.width, nn::Stack{c.depth}),
        has(b) {
    const auto cross = [&] {
      return nn::CrossAttention<T, B>(c.width, c.heads, c.ln_eps, nn::Stack{c.depth});
    };
    if (has.summarize) summarize = cross();
    if (has.caption) caption = cross();
  }
  template <class F>
  void visit(F&& f) {
    f("ln1", ln1);
    f("sa", sa);
    if (has.summarize) f("sum", summarize);
    if (has.caption) f("cap", caption);
    f("ln3", ln3);
    f("ffn", ffn);
  }
};

/// Hidden states of each branch before its output layer, at its target rows; undefined where not
/// asked for.
template <Value V>
struct DecoderStates {
  V summarize, caption;
};

template <class T, class B>
struct Decoder {
  std::vector<DecoderBlock<T, B>> blocks;
  nn::LayerNorm<T, B> norm;
  nn::Linear<T, B> fc_summarize, fc_caption;  // (V, d), no bias, untied
  Branches has;

  Decoder() = default;
  explicit Decoder(const DecoderConfig& c, Branches b = {}) : norm(c.width, c.ln_eps), has(b) {
    for (Index i = 0; i < c.depth && (b.summarize || b.caption); ++i) blocks.emplace_back(c, b);
    if (has.summarize) fc_summarize = nn::Linear<T, B>(c.width, c.vocabulary, false);
    if (has.caption) fc_caption = nn::Linear<T, B>(c.width, c.vocabulary, false);
  }
  template <class F>
  void visit(F&& f) {
    f("blocks", blocks);
    f("norm", norm);
    if (has.summarize) f("fc_sum", fc_summarize);
    if (has.caption) f("fc_cap", fc_caption);
  }

  /// encoded: text encoder states (rows, d). findings: the summarization memory, rows [0,
  /// findings_rows) of it. image: the captioning memory (B * M, d). All three are wide, as the
  /// residual stream is.
  template <Value W>
  DecoderStates<Like<W, T>> operator()(const W& encoded, const TextPlan<B>& plan, Branches want,
                                       const W& findings, const W& image) const {
    using V = Like<W, T>;
    if (!want.summarize && !want.caption) return {};
    // Block 0 sees the same input in both branches, and R_sum is a subset of R_cap: its
    // self-attention runs once.
    const BranchPlan<B>& widest = want.caption ? plan.caption : plan.summarize;
    W x = gather_rows(encoded, widest.rows);
    const Segments<B>* segments = &widest.queries;
    const Index split = want.summarize ? plan.summarize.count : 0;
    for (std::size_t k = 0; k < blocks.size(); ++k) {
      const auto& block = blocks[k];
      const W h = block.sa.onto(x, block.ln1(x), *segments, true);
      W s, c;
      if (k == 0) {
        if (want.summarize)
          s = want.caption && !plan.same_rows ? gather_rows(h, plan.summarize_in_caption) : h;
        if (want.caption) c = h;
      } else {
        if (want.summarize) s = slice_rows(h, 0, split);
        if (want.caption) c = slice_rows(h, split, value(h).rows());
      }
      if (want.summarize)
        s = block.summarize.onto(s, s, plan.summarize.queries,
                                 block.summarize.keys_values(findings), plan.summarize.memory);
      if (want.caption)
        c = block.caption.onto(c, c, plan.caption.queries, block.caption.keys_values(image),
                               plan.caption.memory);
      x = want.summarize && want.caption ? stack_rows(s, c) : want.summarize ? s : c;
      x = block.ffn.onto(x, block.ln3(x));
      if (want.summarize && want.caption) segments = &plan.stacked;
    }
    const V y = norm(x);
    DecoderStates<V> out;
    if (want.summarize) out.summarize = slice_rows(y, 0, split);
    if (want.caption) out.caption = slice_rows(y, split, value(y).rows());
    return out;
  }
};

}  // namespace hybridmed::model
