#pragma once
// Writing impressions: greedy decoding of either branch with a key/value cache. Cross keys and
// values are computed once.
#include <algorithm>
#include <cmath>
#include <optional>

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
  std::string not_recorded{};  ///< why each step was issued kernel by kernel, on a backend that can
                               ///< record one
};

namespace detail {

/// What one step reads of the host: where its tokens stand.
template <class B>
struct Place {
  IndexTensor<B> positions;  // (batch)
  IndexTensor<B> rows;       // (batch): where their keys and values go
  Segments<B> seen;          // the rows that they see

  /// numbers (4 batch, 1): positions, rows, and pairs of rows, as Places has them; `count` steps.
  Place(const IndexTensor<B>& numbers, Index batch, Index count)
      : positions(numbers.row_slice(0, batch).view({batch})),
        rows(numbers.row_slice(batch, 2 * batch).view({batch})),
        seen(numbers.row_slice(2 * batch, 4 * batch).view({batch, 2}), batch, batch * count, count,
             false) {}
};

/// The places of all steps of a batch, computed before the first, in the backend's memory.
template <class B>
struct Places {
  Index batch, count;
  IndexTensor<B> all;  // (count * 4 batch, 1)

  Places(Index batch_, Index count_) : batch(batch_), count(count_) {
    std::vector<std::int32_t> numbers;
    const auto add = [&](Index n) { numbers.push_back(static_cast<std::int32_t>(n)); };
    for (Index t = 0; t < count; ++t) {
      for (Index b = 0; b < batch; ++b) add(t);
      for (Index b = 0; b < batch; ++b) add(b * count + t);
      for (Index b = 0; b < batch; ++b) {
        add(b * count);
        add(b * count + t + 1);
      }
    }
    all = IndexTensor<B>::from_host(numbers, {count * 4 * batch, 1});
  }
  IndexTensor<B> numbers(Index t) const {
    return all.row_slice(t * 4 * batch, (t + 1) * 4 * batch);
  }
  Place<B> place(const IndexTensor<B>& numbers) const { return {numbers, batch, count}; }
};

/// The steps of a batch, one after the other. Where the backend can record (BackendReplay; A: the
/// scalar of its sums), the second one is, and every later one runs that, its place brought to
/// where the recorded one reads it. What a step writes lies in memory that was there before.
template <class B, class A>
class DecodingSteps {
 public:
  explicit DecodingSteps(const Places<B>& places) : places_(places) {}

  /// issue(place): step t, in order from 0.
  template <class F>
  void step(Index t, F&& issue) {
    if constexpr (BackendReplay<B, A>) {
      if (t == 1 && places_.count > 2) record(issue);
      if (recording_) {
        B::move(places_.numbers(t).data(), now_.data(),
                static_cast<std::size_t>(now_.size()) * sizeof(std::int32_t));
        return B::replay(*recording_);
      }
    }
    issue(places_.place(places_.numbers(t)));
  }
  /// Why steps are not recorded; empty where they are, or there are too few.
  const std::string& failure() const { return failure_; }

 private:
  struct Nothing {};
  template <class X>
  struct RecordingOf {
    using type = Nothing;
  };
  template <class X>
  requires BackendReplay<X, A>
  struct RecordingOf<X> {
    using type = typename X::Recording;
  };
  template <class F>
  void record(F&& issue) {
    try {
      now_ = IndexTensor<B>({4 * places_.batch, 1});
      recording_ = B::record([&] { issue(places_.place(now_)); });
    } catch (const std::exception& e) {
      failure_ = e.what();
    }
  }

  const Places<B>& places_;
  IndexTensor<B> now_;  // the place that a recorded step reads
  std::optional<typename RecordingOf<B>::type> recording_;
  std::string failure_;
};

/// Keys and values of one self-attention: (batch * steps, 2 width), of which a step fills one row a
/// sample.
template <class T, class B>
struct Cache {
  Tensor<T, B> kv;
  Cache(const Places<B>& places, Index width) : kv({places.batch * places.count, 2 * width}) {}

  /// x (batch, width): the tokens of a step -> (batch, width)
  auto attend(const nn::SelfAttention<T, B>& attention, const Tensor<T, B>& x,
              const Segments<B>& queries, const Place<B>& place) const {
    const Index width = x.cols();
    const Tensor<T, B> qkv = attention.qkv(x);
    B::put_rows(x.rows(), 2 * width, qkv.data() + width, 3 * width, place.rows.data(), kv.data());
    return attention.proj.wide(cached_attention(qkv, kv, queries, place.seen, attention.heads));
  }
};

/// branch: the cross-attention of a block; head: the output layer; memory (rows, d) with one
/// segment a sample.
template <class M, class T, class B, class Branch>
Generated greedy(const M& model, const nn::Linear<T, B>& head, Branch&& branch,
                 const Tensor<accumulator_of<T>, B>& memory, const Segments<B>& memory_segments,
                 const GenerateOptions& o) {
  static_assert(BackendGeneration<B, T>,
                "hybridmed: the backend lacks put_rows or best_class for this scalar; see "
                "BackendGeneration in hybridmed/backend/concept.hpp");
  static_assert(std::is_same_v<std::remove_cvref_t<decltype(model.text)>, model::TextEncoder<T, B>>,
                "hybridmed: generation keeps the keys and values of model::TextEncoder, so a model "
                "with another text encoder cannot generate; see docs/policies/text_encoder.md");
  if (o.steps < 0)
    fail("task", "generate", "expected at least 0 steps, got " + std::to_string(o.steps));
  const Index batch = memory_segments.count, steps = (std::min)(o.steps, model.config.positions()),
              d = model.config.d, vocab = model.config.vocab;
  std::vector<Tensor<T, B>> cross;
  for (const auto& block : model.decoder.blocks) cross.push_back(branch(block).keys_values(memory));
  const Places<B> places(batch, steps);
  std::vector<Cache<T, B>> uni, dec;
  for (std::size_t i = 0; i < model.text.blocks.size(); ++i) uni.emplace_back(places, d);
  for (std::size_t i = 0; i < model.decoder.blocks.size(); ++i) dec.emplace_back(places, d);

  Generated out;
  out.ids.resize(static_cast<std::size_t>(batch));
  out.margin.resize(static_cast<std::size_t>(batch));
  const std::vector<std::int32_t> first(out.ids.size(),
                                        static_cast<std::int32_t>(model.config.bos));
  const auto token = IndexTensor<B>::from_host(first, {batch});
  const Tensor<accumulator_of<T>, B> margin({batch});
  std::vector<bool> done(out.ids.size(), false);
  std::vector<std::int32_t> own;
  for (Index b = 0; b < batch; ++b) {
    own.push_back(static_cast<std::int32_t>(b));
    own.push_back(static_cast<std::int32_t>(b + 1));
  }
  const Segments<B> queries(own, batch);
  const auto issue = [&](const Place<B>& place) {  // from `token` to the next one there
    auto x = add(gather_rows(model.text.token_embed.value, token),
                 gather_rows(model.text.pos.value, place.positions));
    for (std::size_t i = 0; i < uni.size(); ++i) {
      const auto& block = model.text.blocks[i];
      x = add(x, uni[i].attend(block.attn, block.ln1(x), queries, place));
      x = add(x, block.mlp(block.ln2(x)));
    }
    for (std::size_t i = 0; i < dec.size(); ++i) {
      const auto& block = model.decoder.blocks[i];
      x = add(x, dec[i].attend(block.sa, block.ln1(x), queries, place));
      x = add(x, branch(block)(x, queries, cross[i], memory_segments));
      x = add(x, block.ffn(block.ln3(x)));
    }
    const Tensor<T, B> logits = head(model.decoder.norm(x));
    B::best_class(batch, vocab, logits.data(), token.data(), margin.data());
  };
  DecodingSteps<B, accumulator_of<T>> in_order(places);
  for (Index t = 0; t < steps; ++t) {
    in_order.step(t, issue);
    const std::vector<std::int32_t> best = token.to_host();
    const auto margins = margin.to_host();
    bool all = true;
    for (std::size_t i = 0; i < best.size(); ++i) {
      if (done[i]) continue;
      if (best[i] < 0)
        fail("task", "generate", "the model's logits are not numbers",
             "its weights have diverged: take an earlier checkpoint");
      out.ids[i].push_back(best[i]);
      out.margin[i].push_back(static_cast<double>(margins[i]));
      done[i] = o.stop_at_eos && best[i] == model.config.eos;
      all = all && done[i];
    }
    if (all) break;
  }
  out.not_recorded = in_order.failure();
  return out;
}

}  // namespace detail

/// Impressions written from images, (B, 3, S, S).
template <class M, class T, class B>
Generated caption(const M& model, const Tensor<T, B>& image, const GenerateOptions& options = {}) {
  model::need_named_parts<M>();
  using X = Tensor<T, B>;
  if (!model.decoder.has.caption)
    fail("task", "caption", "the model was built without the captioning branch");
  model::need_images("caption", image, model.config.image_size);
  if (image.shape()[0] == 0) return {};
  const auto memory = model.memory(
      model.image.template operator()<X>(image, nn::Mode::evaluation(), model::Levels::last)
          .levels[3]);
  const Index batch = image.shape()[0], places = model.memory.pos.value.rows();
  if (memory.rows() != batch * places)
    fail("task", "caption",
         "expected maps of " + std::to_string(places) + " places, as levels() of the image " +
             "encoder says of its last level, got " + std::to_string(memory.rows()) + " rows of " +
             std::to_string(batch) + " images");
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
  model::need_named_parts<M>();
  using X = Tensor<T, B>;
  if (!model.decoder.has.summarize)
    fail("task", "summarize", "the model was built without the summarization branch");
  const std::vector<std::int32_t> none(findings.offsets.size(), 0);
  const model::TextPlan<B> plan =
      model.plan(findings, {{}, none}, {}, model::TextPlan<B>::Cls::none);
  const auto encoded = model.text.template operator()<X>(plan);
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
