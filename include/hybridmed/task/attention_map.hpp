#pragma once
// Where the words of a text look in an image: a2[., t] of the local alignment (method 6), G x G per word; and where the text
// as a whole looks.
#include <algorithm>
#include <cmath>

#include "hybridmed/task/embed.hpp"

namespace hybridmed::task {

struct AttentionMaps {
  xt::xtensor<double, 2> word;  // (words, N): a2; each word's map sums to 1 over the regions
  std::vector<double> text;     // (N): the similarity <p, w> of each region to the word that suits it best

  /// The region that answers to the text most.
  std::size_t maximum() const { return static_cast<std::size_t>(std::max_element(text.begin(), text.end()) - text.begin()); }
};

/// regions (N, d_e) of one image, words (T, d_e) of one text.
///
/// The map of the text is made of similarities, not of attention: a1 sums to 1 over the words of every region and a2 to 1 over the
/// regions of every word, so neither tells a region that the text describes from one that it does not mention.
template <class T, class B>
AttentionMaps attention_maps(const Tensor<T, B>& regions, const Tensor<T, B>& words, double gamma1) {
  if (!regions.defined() || !words.defined() || regions.cols() != words.cols())
    fail("task", "attention_maps", "expected regions (N, d) and words (T, d), got " + regions.shape().str() + " and " + words.shape().str());
  const auto n = static_cast<std::size_t>(regions.rows()), m = static_cast<std::size_t>(words.rows()), d = static_cast<std::size_t>(regions.cols());
  const auto p = regions.to_host(), w = words.to_host();
  AttentionMaps out{xt::xtensor<double, 2>::from_shape({m, n}), std::vector<double>(n, 0.0)};
  for (std::size_t r = 0; r < n && m > 0; ++r) {
    double top = -INFINITY, sum = 0;
    for (std::size_t t = 0; t < m; ++t) {
      double s = 0;
      for (std::size_t c = 0; c < d; ++c) s += static_cast<double>(p[r * d + c]) * static_cast<double>(w[t * d + c]);
      if (!std::isfinite(s)) fail("task", "attention_maps", "a similarity is not a number", "the model's weights have diverged: take an earlier checkpoint");
      out.word(t, r) = s, top = (std::max)(top, s);
    }
    out.text[r] = top;
    for (std::size_t t = 0; t < m; ++t) sum += out.word(t, r) = std::exp(out.word(t, r) - top);
    for (std::size_t t = 0; t < m; ++t) out.word(t, r) /= sum;  // a1
  }
  for (std::size_t t = 0; t < m; ++t) {
    double sum = 0;
    for (std::size_t r = 0; r < n; ++r) sum += out.word(t, r) = std::exp(gamma1 * (out.word(t, r) - 1));  // a1 is at most 1: nothing overflows
    for (std::size_t r = 0; r < n; ++r) out.word(t, r) /= sum;  // a2
  }
  return out;
}

}  // namespace hybridmed::task
