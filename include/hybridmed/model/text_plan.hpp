#pragma once
// The bookkeeping of one batch of ragged text: which rows of the packed matrices are which tokens,
// targets, memories and words. Built once per step from token ids and offsets; no padding exists
// past this point.
#include <span>

#include "hybridmed/autograd/attention.hpp"
#include "hybridmed/autograd/variable.hpp"
#include "hybridmed/core/host.hpp"
#include "hybridmed/core/sections.hpp"

namespace hybridmed::model {

/// Rows of one decoder branch.
template <class B>
struct BranchPlan {
  IndexTensor<B> rows;    // encoder rows of its queries: impression tokens 0 .. L-2 of its samples
  IndexTensor<B> target;  // the next token of each
  IndexTensor<B> sample;  // the sample of each
  Segments<B> queries;    // one segment per sample
  Segments<B> memory;     // the same samples' rows in the memory
  Index count = 0;        // number of rows
};

template <class B>
struct TextPlan {
  /// Which CLS tokens are encoded. Training needs the impression's only.
  enum class Cls { none, impression, both };

  Index batch = 0, rows = 0;
  Index regions = 0;  // image tokens per image that it was made for
  IndexTensor<B> token, position,
      cls;                  // per encoder row: token id, position, 0 where it is CLS; -1 elsewhere
  Segments<B> segments;     // findings of every sample, then impressions
  Index findings_rows = 0;  // rows [0, findings_rows) belong to findings
  IndexTensor<B> findings_cls,
      impression_cls;  // rows of the CLS tokens, one a sample; empty where not encoded

  BranchPlan<B> summarize, caption;     // R_sum: both sections present; R_cap: impression present
  Segments<B> stacked;                  // queries of sum, then of cap, in one matrix
  IndexTensor<B> summarize_in_caption;  // for each sum row its place among the cap rows
  bool same_rows = true;                // R_sum equals R_cap

  IndexTensor<B> present;                   // samples with an impression (global alignment)
  IndexTensor<B> present_cls;               // their CLS rows
  IndexTensor<B> keys;                      // their impression keys
  IndexTensor<B> word_rows;                 // encoder rows of findings words, specials excluded
  Tensor<std::int32_t, Host> word_offsets;  // (samples with words + 1), host
  IndexTensor<B> word_samples;              // those samples
  IndexTensor<B>
      region_rows;         // their rows among the regions of all images; empty where all have words
  IndexTensor<B> numbers;  // all of these index tensors are parts of it

  TextPlan() = default;
  /// places: rows of the captioning memory per image; max_position: rows of the position table;
  /// regions_of_image: image tokens per image.
  TextPlan(const SectionView& findings, const SectionView& impression,
           std::span<const std::int32_t> impression_key, Index places, Index max_position,
           Index vocabulary, Cls with = Cls::impression, Index regions_of_image = 0)
      : batch(findings.batch()), regions(regions_of_image) {
    findings.check("findings");
    impression.check("impression");
    if (impression.batch() != batch ||
        (!impression_key.empty() && static_cast<Index>(impression_key.size()) != batch))
      fail("model", "TextPlan",
           "findings are of " + std::to_string(batch) + " samples, impressions of " +
               std::to_string(impression.batch()) +
               (impression_key.empty() ? std::string()
                                       : ", keys of " + std::to_string(impression_key.size())));
    ArenaVector<std::int32_t> tok, pos, is_cls, range, f_cls, i_cls,
        f_begin(static_cast<std::size_t>(batch)), i_begin(f_begin);
    const auto add_section = [&](const SectionView& s, bool cls_too,
                                 ArenaVector<std::int32_t>& begin,
                                 ArenaVector<std::int32_t>& cls_rows) {
      for (Index b = 0; b < batch; ++b) {
        begin[static_cast<std::size_t>(b)] = static_cast<std::int32_t>(tok.size());
        if (s.length(b) > max_position)
          fail("model", "TextPlan",
               "a section of " + std::to_string(s.length(b)) + " tokens, but positions for " +
                   std::to_string(max_position),
               "truncate it");
        if (s.length(b) == 1)
          fail("model", "TextPlan", "a section of one token",
               "a section is BOS ... EOS, or absent");
        for (Index t = 0; t < s.length(b); ++t) {
          if (s.id(b, t) < 0 || s.id(b, t) >= vocabulary)
            fail("model", "TextPlan",
                 "token id " + std::to_string(s.id(b, t)) + " is outside the vocabulary of " +
                     std::to_string(vocabulary));
          tok.push_back(s.id(b, t));
          pos.push_back(static_cast<std::int32_t>(t));
          is_cls.push_back(-1);
        }
        if (cls_too) {
          cls_rows.push_back(static_cast<std::int32_t>(tok.size()));
          tok.push_back(-1);
          pos.push_back(-1);
          is_cls.push_back(0);
        }
        range.push_back(begin[static_cast<std::size_t>(b)]);
        range.push_back(static_cast<std::int32_t>(tok.size()));
      }
    };
    add_section(findings, with == Cls::both, f_begin, f_cls);
    findings_rows = static_cast<Index>(tok.size());
    add_section(impression, with != Cls::none, i_begin, i_cls);
    rows = static_cast<Index>(tok.size());
    IndexStage<B> stage;  // all of them reach the backend in one copy
    stage.add(tok, token);
    stage.add(pos, position);
    stage.add(is_cls, cls);
    segments.fill(range, rows, stage);
    stage.add(f_cls, findings_cls);
    stage.add(i_cls, impression_cls);

    Branch s, c;
    ArenaVector<std::int32_t> in_cap, here, here_cls, key, words, word_start{0}, spoken;
    for (Index b = 0; b < batch; ++b) {
      const auto i = static_cast<std::size_t>(b);
      const Index nf = findings.length(b), ni = impression.length(b);
      if (ni > 0) {
        const auto at = static_cast<std::int32_t>(c.rows.size());
        if (nf > 0)
          for (Index t = 0; t + 1 < ni; ++t) in_cap.push_back(at + static_cast<std::int32_t>(t));
        if (nf > 0)
          s.add(impression, b, i_begin[i], f_begin[i], f_begin[i] + static_cast<std::int32_t>(nf));
        c.add(impression, b, i_begin[i], static_cast<std::int32_t>(b * places),
              static_cast<std::int32_t>((b + 1) * places));
        here.push_back(static_cast<std::int32_t>(b));
        if (with != Cls::none) here_cls.push_back(i_cls[i]);
        if (!impression_key.empty()) key.push_back(impression_key[i]);
      }
      if (nf > 2) {
        for (Index t = 1; t + 1 < nf; ++t)
          words.push_back(f_begin[i] + static_cast<std::int32_t>(t));
        word_start.push_back(static_cast<std::int32_t>(words.size()));
        spoken.push_back(static_cast<std::int32_t>(b));
      }
    }
    s.fill(summarize, findings_rows, stage);
    c.fill(caption, batch * places, stage);
    same_rows = summarize.count == caption.count;
    ArenaVector<std::int32_t> both = s.range;
    for (std::int32_t r : c.range) both.push_back(r + static_cast<std::int32_t>(summarize.count));
    stacked.fill(both, summarize.count + caption.count, stage);
    stage.add(in_cap, summarize_in_caption);
    stage.add(here, present);
    stage.add(here_cls, present_cls);
    stage.add(key, keys);
    stage.add(words, word_rows);
    stage.add(spoken, word_samples);
    ArenaVector<std::int32_t> region;
    if (static_cast<Index>(spoken.size()) < batch)  // else nothing is picked
      for (std::int32_t b : spoken)
        for (Index n = 0; n < regions; ++n)
          region.push_back(static_cast<std::int32_t>(b * regions + n));
    stage.add(region, region_rows);
    numbers = stage.upload();
    word_offsets =
        Tensor<std::int32_t, Host>::from_host(word_start, {static_cast<Index>(word_start.size())});
  }

  /// Calls f(Index) for everything that the host reads of it. Where all of these are equal, two
  /// plans differ in what lies in the backend's memory alone.
  template <class F>
  void each_extent(F&& f) const {
    for (Index n : {batch, rows, findings_rows, Index{same_rows}, summarize.count, caption.count})
      f(n);
    each_index(*this, [&](const IndexTensor<B>& t) { f(t.size()); });
    each_segments(*this, [&](const Segments<B>& s) {
      for (Index n : {s.count, s.rows, s.longest, Index{s.covering}}) f(n);
    });
    f(word_offsets.size());
    for (Index i = 0; i < word_offsets.size(); ++i) f(word_offsets.data()[i]);
  }
  /// The same plan with its index tensors in other memory, where `numbers` is still to be brought.
  TextPlan elsewhere() const {
    TextPlan copy(*this);
    if (!numbers.defined()) return copy;
    copy.numbers = IndexTensor<B>(numbers.shape());
    each_index(copy, [&](IndexTensor<B>& t) {
      if (!t.defined()) return;
      const Index begin = t.data() - numbers.data();
      t = copy.numbers.row_slice(begin, begin + t.size()).view(t.shape());
    });
    return copy;
  }

 private:
  template <class Plan, class F>
  static void each_segments(Plan& p, F&& f) {
    for (auto* s : {&p.segments, &p.summarize.queries, &p.summarize.memory, &p.caption.queries,
                    &p.caption.memory, &p.stacked})
      f(*s);
  }
  template <class Plan, class F>
  static void each_index(Plan& p, F&& f) {
    for (auto* t : {&p.token, &p.position, &p.cls, &p.findings_cls, &p.impression_cls,
                    &p.summarize.rows, &p.summarize.target, &p.summarize.sample, &p.caption.rows,
                    &p.caption.target, &p.caption.sample, &p.summarize_in_caption, &p.present,
                    &p.present_cls, &p.keys, &p.word_rows, &p.word_samples, &p.region_rows})
      f(*t);
    each_segments(p, [&](auto& s) { f(s.ranges); });
  }

  struct Branch {
    ArenaVector<std::int32_t> rows, target, sample, range, memory;
    void add(const SectionView& impression, Index b, std::int32_t first_row,
             std::int32_t memory_begin, std::int32_t memory_end) {
      range.push_back(static_cast<std::int32_t>(rows.size()));
      for (Index t = 0; t + 1 < impression.length(b); ++t) {
        rows.push_back(first_row + static_cast<std::int32_t>(t));
        target.push_back(impression.id(b, t + 1));
        sample.push_back(static_cast<std::int32_t>(b));
      }
      range.push_back(static_cast<std::int32_t>(rows.size()));
      memory.push_back(memory_begin);
      memory.push_back(memory_end);
    }
    void fill(BranchPlan<B>& plan, Index memory_rows, IndexStage<B>& stage) const {
      plan.count = static_cast<Index>(rows.size());
      stage.add(rows, plan.rows);
      stage.add(target, plan.target);
      stage.add(sample, plan.sample);
      plan.queries.fill(range, plan.count, stage);
      plan.memory.fill(memory, memory_rows, stage);
    }
  };
};

}  // namespace hybridmed::model
