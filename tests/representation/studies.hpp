#pragma once
// A batch of studies with and without sections, and what HybridMED makes of it, by hand.
#include <doctest/doctest.h>

#include <set>

#include "../support.hpp"
#include "errors.hpp"
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/train/step.hpp"

namespace hybridmed::test::studies_by_hand {

using namespace hybridmed::representation;

using T = double;
using B = CpuBackend;
using X = Tensor<T, B>;
using V = Variable<T, B>;
using Model = model::HybridMed<T, B, model::AnyEncoder<T, B>>;
using Batch = model::Batch<T, B>;
using Ids = std::vector<std::int32_t>;

/// One study. An absent section has no ids.
struct Study {
  Ids findings, impression;
  std::uint64_t image = 0;
  std::int32_t key = 0;
};

constexpr Needs<ImageGlobal, ImpressionGlobal, ImageTokens, FindingsTokens, SummarizationLogits,
                CaptioningLogits>
    everything_but_teacher{};

/// Both sections; no findings; no impression; both, with the impression of the first; findings
/// without words.
inline const std::vector<Study> studies{{{1, 10, 11, 12, 13, 2}, {1, 20, 21, 2}, 1, 7},
                                        {{}, {1, 22, 23, 24, 2}, 2, 8},
                                        {{1, 14, 15, 16, 2}, {}, 3, 9},
                                        {{1, 17, 18, 19, 25, 26, 2}, {1, 20, 21, 2}, 4, 7},
                                        {{1, 2}, {1, 27, 2}, 5, 10}};
inline const Ids with_impression{0, 1, 3, 4}, with_words{0, 2, 3}, keys_present{7, 8, 7, 10};

inline Index length(const Ids& ids) { return static_cast<Index>(ids.size()); }

inline Batch batch_of(const Model& m, const std::vector<Study>& of) {
  Values pixels;
  Ids findings, f_offsets{0}, impression, i_offsets{0}, keys;
  for (const Study& s : of) {
    const Values picture = normal(3 * 64 * 64, 900 + s.image);
    pixels.insert(pixels.end(), picture.begin(), picture.end());
    findings.insert(findings.end(), s.findings.begin(), s.findings.end());
    impression.insert(impression.end(), s.impression.begin(), s.impression.end());
    f_offsets.push_back(static_cast<std::int32_t>(findings.size()));
    i_offsets.push_back(static_cast<std::int32_t>(impression.size()));
    keys.push_back(s.key);
  }
  return {tensor<T, B>(pixels, {static_cast<Index>(of.size()), 3, 64, 64}),
          m.plan({findings, f_offsets}, {impression, i_offsets}, keys)};
}

/// Weights drawn, vectors moved off 0 and 1.
inline Model make(const std::string& preset) {
  auto m = model::make_hybridmed<T, B>(model::Config::preset(preset));
  nn::initialise(m, 3);
  std::uint64_t seed = 40;
  nn::for_each_parameter(m, [&](const std::string&, auto& p) {
    ++seed;
    if (p.value.shape().rank() != 1) return;
    Values x = values(p.value);
    const Values noise = normal(p.value.size(), seed, 0.1);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += noise[i];
    p.value = tensor<T, B>(x, p.value.shape());
  });
  return m;
}

template <Value W, class... R, class Set>
Representations<W, Set> computed(const Model& m, const Batch& b, Needs<R...>, Set) {
  Representations<W, Set> r;
  (r.template want<R>(), ...);
  m.represent(b, nn::Mode::evaluation(), r);
  r.need_all();
  return r;
}

// ---- by hand

/// Chosen rows of a matrix.
inline Values rows_at(const Values& x, Index cols, const std::vector<Index>& rows) {
  Values y;
  for (const Index r : rows) {
    const Values row = rows_of(x, cols, r, r + 1);
    y.insert(y.end(), row.begin(), row.end());
  }
  return y;
}
/// x (n, in) times the transpose of w (out, in).
inline Values times_transpose(const Values& x, const X& w) {
  const Values weight = values(w);
  const auto in = static_cast<std::size_t>(w.cols()), out = static_cast<std::size_t>(w.rows());
  Values y;
  for (std::size_t r = 0; r < x.size() / in; ++r)
    for (std::size_t o = 0; o < out; ++o) {
      double sum = 0;
      for (std::size_t k = 0; k < in; ++k) sum += x[r * in + k] * weight[o * in + k];
      y.push_back(sum);
    }
  return y;
}
inline Values layer_normed(Values x, const nn::LayerNorm<T, B>& norm) {
  const Values gain = values(norm.weight.value), shift = values(norm.bias.value);
  const std::size_t n = gain.size();
  for (std::size_t r = 0; r < x.size() / n; ++r) {
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < n; ++i) mean += x[r * n + i] / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i)
      square += (x[r * n + i] - mean) * (x[r * n + i] - mean) / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i)
      x[r * n + i] = (x[r * n + i] - mean) / std::sqrt(square + norm.eps) * gain[i] + shift[i];
  }
  return x;
}
/// Encoder rows as the packing says it: the findings of all studies, then their impressions, each
/// with a CLS after it.
struct Layout {
  std::vector<Index> findings, impression, cls;
  Layout() {
    Index row = 0;
    for (const Study& s : studies) {
      findings.push_back(row);
      row += length(s.findings);
    }
    for (const Study& s : studies) {
      impression.push_back(row);
      row += length(s.impression);
      cls.push_back(row++);
    }
  }
};
/// The logits of one study alone, by the parts of the model.
inline Values logits_alone(const Model& m, const Study& s, bool summarize) {
  const Batch b = batch_of(m, {s});
  const X encoded = m.text.template operator()<X>(b.text);
  const X picture =
      m.memory(m.image.template operator()<X>(b.image, nn::Mode::evaluation(), model::Levels::last)
                   .levels[3]);
  const auto h = m.decoder(encoded, b.text, model::Branches{summarize, !summarize},
                           slice_rows(encoded, 0, b.text.findings_rows), picture);
  return values(summarize ? m.decoder.fc_summarize(h.summarize) : m.decoder.fc_caption(h.caption));
}
/// What a decoder branch is to say: the next token of every impression token but the last.
struct Targets {
  Values token, sample;
  std::vector<std::size_t> studies_of;  // in order
};
inline Targets targets(bool needs_findings) {
  Targets t;
  for (std::size_t b = 0; b < studies.size(); ++b) {
    const Ids& said = studies[b].impression;
    if (said.empty() || (needs_findings && studies[b].findings.empty())) continue;
    t.studies_of.push_back(b);
    for (std::size_t k = 1; k < said.size(); ++k) {
      t.token.push_back(said[k]);
      t.sample.push_back(static_cast<double>(b));
    }
  }
  return t;
}
template <class I>
Values of_ids(const std::vector<I>& ids) {
  return Values(ids.begin(), ids.end());
}

template <class F>
void for_each_preset(F&& f) {
  for (const std::string preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    CAPTURE(preset);
    const Model m = make(preset);
    f(m);
  }
}

}  // namespace hybridmed::test::studies_by_hand
