#pragma once
// The Generative Distillation Decoder (method 2.4): per block a shared causal self-attention, one
// cross-attention per branch, a shared feed-forward part; one output layer per branch. Both
// branches run stacked through what they share.
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/model/config.hpp"
#include "hybridmed/model/text_plan.hpp"
#include "hybridmed/nn/transformer.hpp"

namespace hybridmed::model {

/// Which branches a decoder has, or a call wants.
struct Branches {
  bool sum = true, cap = true;
};

template <class T, class B>
struct DecoderBlock {
  nn::LayerNorm<T, B> ln1;
  nn::SelfAttention<T, B> sa;
  nn::CrossAttention<T, B> sum, cap;
  nn::LayerNorm<T, B> ln3;
  nn::FeedForward<T, B> ffn;
  Branches has;

  DecoderBlock(const Config& c, Branches b)
      : ln1(c.d, c.ln_eps),
        sa(c.d, c.heads),
        ln3(c.d, c.ln_eps),
        ffn(c.d, c.mlp_ratio * c.d),
        has(b) {
    if (has.sum) sum = nn::CrossAttention<T, B>(c.d, c.heads, c.ln_eps);
    if (has.cap) cap = nn::CrossAttention<T, B>(c.d, c.heads, c.ln_eps);
  }
  template <class F>
  void visit(F&& f) {
    f("ln1", ln1), f("sa", sa);
    if (has.sum) f("sum", sum);
    if (has.cap) f("cap", cap);
    f("ln3", ln3), f("ffn", ffn);
  }
};

/// Hidden states of each branch before its output layer, at its target rows; undefined where not
/// asked for.
template <Value V>
struct DecoderStates {
  V sum, cap;
};

template <class T, class B>
struct Decoder {
  std::vector<DecoderBlock<T, B>> blocks;
  nn::LayerNorm<T, B> norm;
  nn::Linear<T, B> fc_sum, fc_cap;  // (V, d), no bias, untied
  Branches has;

  Decoder() = default;
  explicit Decoder(const Config& c, Branches b = {}) : norm(c.d, c.ln_eps), has(b) {
    for (Index i = 0; i < c.dec_blocks && (b.sum || b.cap); ++i) blocks.emplace_back(c, b);
    if (has.sum) fc_sum = nn::Linear<T, B>(c.d, c.vocab, false);
    if (has.cap) fc_cap = nn::Linear<T, B>(c.d, c.vocab, false);
  }
  template <class F>
  void visit(F&& f) {
    f("blocks", blocks), f("norm", norm);
    if (has.sum) f("fc_sum", fc_sum);
    if (has.cap) f("fc_cap", fc_cap);
  }

  /// encoded: text encoder states (rows, d). findings: the summarization memory, rows [0,
  /// findings_rows) of it. image: the captioning memory (B * M, d).
  template <Value V>
  DecoderStates<V> operator()(const V& encoded, const TextPlan<B>& plan, Branches want,
                              const V& findings, const V& image) const {
    if (!want.sum && !want.cap) return {};
    // Block 0 sees the same input in both branches, and R_sum is a subset of R_cap: its
    // self-attention runs once.
    const BranchPlan<B>& widest = want.cap ? plan.cap : plan.sum;
    V x = gather_rows(encoded, widest.rows);
    const Segments<B>* segments = &widest.queries;
    const Index split = want.sum ? plan.sum.count : 0;
    for (std::size_t k = 0; k < blocks.size(); ++k) {
      const auto& block = blocks[k];
      const V h = add(x, block.sa(block.ln1(x), *segments, true));
      V s, c;
      if (k == 0) {
        if (want.sum) s = want.cap && !plan.same_rows ? gather_rows(h, plan.sum_in_cap) : h;
        if (want.cap) c = h;
      } else {
        if (want.sum) s = slice_rows(h, 0, split);
        if (want.cap) c = slice_rows(h, split, value(h).rows());
      }
      if (want.sum)
        s = add(s,
                block.sum(s, plan.sum.queries, block.sum.keys_values(findings), plan.sum.memory));
      if (want.cap)
        c = add(c, block.cap(c, plan.cap.queries, block.cap.keys_values(image), plan.cap.memory));
      x = want.sum && want.cap ? stack_rows(s, c) : want.sum ? s : c;
      x = add(x, block.ffn(block.ln3(x)));
      if (want.sum && want.cap) segments = &plan.stacked;
    }
    x = norm(x);
    DecoderStates<V> out;
    if (want.sum) out.sum = slice_rows(x, 0, split);
    if (want.cap) out.cap = slice_rows(x, split, value(x).rows());
    return out;
  }
};

}  // namespace hybridmed::model
