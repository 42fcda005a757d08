#pragma once
// Writing impressions: greedy decoding of either branch with a key/value cache. Cross keys and
// values are computed once.
#include <algorithm>
#include <cmath>

#include "hybridmed/model/hybridmed.hpp"

namespace hybridmed::task {

struct GenerateOptions {
  Index steps = 32;  ///< most tokens after BOS
  bool stop_at_eos = true;
};

/// Token ids after BOS, one row a sample (EOS included; nothing follows it), and the gap between
/// the two best logits of each.
struct Generated {
  std::vector<std::vector<std::int32_t>> ids;
  std::vector<std::vector<double>> margin;
};

namespace detail {

/// Keys and values of one self-attention, grown by one position a step: (batch * steps, 2 width).
template <class T, class B>
struct Cache {
  Tensor<T, B> kv;
  Cache(Index batch, Index steps, Index width) : kv({batch * steps, 2 * width}) {}
};

template <class T, class B>
Tensor<T, B> attend_cached(const nn::SelfAttention<T, B>& attn, const Tensor<T, B>& x,
                           Cache<T, B>& cache, Index steps, Index t, const Segments<B>& queries,
                           const Segments<B>& keys) {
  const Index batch = x.rows(), d = x.cols();
  const Tensor<T, B> qkv = attn.qkv(x);
  Tensor<T, B> q({batch, d});
  for (Index b = 0; b < batch; ++b) {
    B::copy(d, qkv.data() + b * 3 * d, q.data() + b * d);
    B::copy(2 * d, qkv.data() + b * 3 * d + d, cache.kv.data() + (b * steps + t) * 2 * d);
  }
  return attn.proj(cross_attention(q, cache.kv, queries, keys, attn.heads));
}

/// branch: the cross-attention of a block; head: the output layer; memory (rows, d) with one
/// segment a sample.
template <class M, class T, class B, class Branch>
Generated greedy(const M& model, const nn::Linear<T, B>& head, Branch&& branch,
                 const Tensor<T, B>& memory, const Segments<B>& memory_segments,
                 const GenerateOptions& o) {
  static_assert(std::is_same_v<std::remove_cvref_t<decltype(model.text)>, model::TextEncoder<T, B>>,
                "hybridmed: generation keeps the keys and values of model::TextEncoder, so a model "
                "with another text encoder cannot generate; see docs/policies/text_encoder.md");
  if (o.steps < 0)
    fail("task", "generate", "expected at least 0 steps, got " + std::to_string(o.steps));
  const Index batch = memory_segments.count, steps = (std::min)(o.steps, model.config.positions()),
              d = model.config.d, vocab = model.config.vocab;
  using X = Tensor<T, B>;
  std::vector<X> cross;
  for (const auto& block : model.decoder.blocks) cross.push_back(branch(block).keys_values(memory));
  std::vector<Cache<T, B>> uni, dec;
  for (std::size_t i = 0; i < model.text.blocks.size(); ++i) uni.emplace_back(batch, steps, d);
  for (std::size_t i = 0; i < model.decoder.blocks.size(); ++i) dec.emplace_back(batch, steps, d);

  Generated out;
  out.ids.resize(static_cast<std::size_t>(batch));
  out.margin.resize(static_cast<std::size_t>(batch));
  std::vector<std::int32_t> token(static_cast<std::size_t>(batch),
                                  static_cast<std::int32_t>(model.config.bos)),
      place(token.size()), own, seen;
  std::vector<bool> done(token.size(), false);
  for (Index b = 0; b < batch; ++b) {
    own.push_back(static_cast<std::int32_t>(b));
    own.push_back(static_cast<std::int32_t>(b + 1));
  }
  const Segments<B> queries(own, batch);
  for (Index t = 0; t < steps; ++t) {
    seen.clear();
    for (Index b = 0; b < batch; ++b) {
      seen.push_back(static_cast<std::int32_t>(b * steps));
      seen.push_back(static_cast<std::int32_t>(b * steps + t + 1));
      place[static_cast<std::size_t>(b)] = static_cast<std::int32_t>(t);
    }
    const Segments<B> keys(seen, batch * steps);
    X x = add(gather_rows(model.text.token_embed.value, IndexTensor<B>::from_host(token, {batch})),
              gather_rows(model.text.pos.value, IndexTensor<B>::from_host(place, {batch})));
    for (std::size_t i = 0; i < uni.size(); ++i) {
      const auto& block = model.text.blocks[i];
      x = add(x, attend_cached(block.attn, block.ln1(x), uni[i], steps, t, queries, keys));
      x = add(x, block.mlp(block.ln2(x)));
    }
    for (std::size_t i = 0; i < dec.size(); ++i) {
      const auto& block = model.decoder.blocks[i];
      x = add(x, attend_cached(block.sa, block.ln1(x), dec[i], steps, t, queries, keys));
      x = add(x, branch(block)(x, queries, cross[i], memory_segments));
      x = add(x, block.ffn(block.ln3(x)));
    }
    const std::vector<T> logits = head(model.decoder.norm(x)).to_host();
    bool all = true;
    for (Index b = 0; b < batch; ++b) {
      const auto i = static_cast<std::size_t>(b);
      if (done[i]) continue;
      const T* z = logits.data() + b * vocab;
      Index best = 0;
      if (!std::isfinite(*std::max_element(z, z + vocab)) ||
          std::any_of(z, z + vocab, [](T x) { return std::isnan(x); }))
        fail("task", "generate", "the model's logits are not numbers",
             "its weights have diverged: take an earlier checkpoint");
      for (Index v = 1; v < vocab; ++v)
        if (z[v] > z[best]) best = v;
      T second = -std::numeric_limits<T>::infinity();
      for (Index v = 0; v < vocab; ++v)
        if (v != best && z[v] > second) second = z[v];
      token[i] = static_cast<std::int32_t>(best);
      out.ids[i].push_back(token[i]);
      out.margin[i].push_back(static_cast<double>(z[best] - second));
      done[i] = o.stop_at_eos && best == model.config.eos;
      all = all && done[i];
    }
    if (all) break;
  }
  return out;
}

}  // namespace detail

/// Impressions written from images, (B, 3, S, S).
template <class M, class T, class B>
Generated caption(const M& model, const Tensor<T, B>& image, const GenerateOptions& options = {}) {
  using X = Tensor<T, B>;
  if (!model.decoder.has.caption)
    fail("task", "caption", "the model was built without the captioning branch");
  model::need_images("caption", image, model.config.image_size);
  if (image.shape()[0] == 0) return {};
  const X memory = model.memory(
      model.image.template operator()<X>(image, nn::Mode::evaluation(), model::Levels::last)
          .levels[3]);
  const Index batch = image.shape()[0], places = memory.rows() / batch;
  std::vector<std::int32_t> range;
  for (Index b = 0; b < batch; ++b) {
    range.push_back(static_cast<std::int32_t>(b * places));
    range.push_back(static_cast<std::int32_t>((b + 1) * places));
  }
  return detail::greedy(
      model, model.decoder.fc_caption,
      [](const auto& block) -> const auto& { return block.caption; }, memory,
      Segments<B>(range, memory.rows()), options);
}

/// Impressions written from findings; a sample without findings attends to nothing.
template <class T, class B, class M>
Generated summarize(const M& model, const SectionView& findings,
                    const GenerateOptions& options = {}) {
  using X = Tensor<T, B>;
  if (!model.decoder.has.summarize)
    fail("task", "summarize", "the model was built without the summarization branch");
  const std::vector<std::int32_t> none(findings.offsets.size(), 0);
  const model::TextPlan<B> plan =
      model.plan(findings, {{}, none}, {}, model::TextPlan<B>::Cls::none);
  const X encoded = model.text.template operator()<X>(plan);
  std::vector<std::int32_t> range;
  for (Index b = 0; b < findings.batch(); ++b) {
    range.push_back(findings.offsets[static_cast<std::size_t>(b)]);
    range.push_back(findings.offsets[static_cast<std::size_t>(b + 1)]);
  }
  return detail::greedy(
      model, model.decoder.fc_summarize,
      [](const auto& block) -> const auto& { return block.summarize; }, encoded,
      Segments<B>(range, encoded.rows()), options);
}

}  // namespace hybridmed::task
