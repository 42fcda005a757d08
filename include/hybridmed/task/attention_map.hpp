#pragma once
// Where the words of a text look in an image: a2[., t] of the local alignment (method 6), G x G per word.
#include "hybridmed/task/embed.hpp"

namespace hybridmed::task {

struct AttentionMaps {
  xt::xtensor<double, 2> word;  // (words, N), rows sum to 1
  std::vector<double> rho;      // cosine of each word with what it attends to
  std::vector<double> mean;     // (N) words weighted by softmax(gamma2 rho), as the score weighs them

  std::size_t maximum() const { return static_cast<std::size_t>(std::max_element(mean.begin(), mean.end()) - mean.begin()); }
};

/// regions (N, d_e) of one image, words (T, d_e) of one text.
template <class T, class B>
AttentionMaps attention_maps(const Tensor<T, B>& regions, const Tensor<T, B>& words, double gamma1, double gamma2) {
  const auto n = static_cast<std::size_t>(regions.rows()), m = static_cast<std::size_t>(words.rows()), d = static_cast<std::size_t>(regions.cols());
  const auto p = regions.to_host(), w = words.to_host();
  AttentionMaps out{xt::xtensor<double, 2>::from_shape({m, n}), {}, std::vector<double>(n, 0.0)};
  std::vector<double> s(n * m);
  for (std::size_t r = 0; r < n; ++r) {
    double top = -1e300, sum = 0;
    for (std::size_t t = 0; t < m; ++t) {
      double x = 0;
      for (std::size_t c = 0; c < d; ++c) x += static_cast<double>(p[r * d + c]) * static_cast<double>(w[t * d + c]);
      s[r * m + t] = x, top = (std::max)(top, x);
    }
    for (std::size_t t = 0; t < m; ++t) sum += s[r * m + t] = std::exp(s[r * m + t] - top);
    for (std::size_t t = 0; t < m; ++t) s[r * m + t] /= sum;
  }
  double total = 0;
  for (std::size_t t = 0; t < m; ++t) {
    double sum = 0, dot = 0, cc = 0, ww = 0;
    for (std::size_t r = 0; r < n; ++r) sum += out.word(t, r) = std::exp(gamma1 * s[r * m + t]);
    for (std::size_t r = 0; r < n; ++r) out.word(t, r) /= sum;
    for (std::size_t c = 0; c < d; ++c) {
      double pooled = 0;
      for (std::size_t r = 0; r < n; ++r) pooled += out.word(t, r) * static_cast<double>(p[r * d + c]);
      const double x = static_cast<double>(w[t * d + c]);
      dot += pooled * x, cc += pooled * pooled, ww += x * x;
    }
    out.rho.push_back(dot / (std::max)(std::sqrt(cc * ww), 1e-8));
    total += std::exp(gamma2 * out.rho.back());
  }
  for (std::size_t t = 0; t < m; ++t)
    for (std::size_t r = 0; r < n; ++r) out.mean[r] += std::exp(gamma2 * out.rho[t]) / total * out.word(t, r);
  return out;
}

}  // namespace hybridmed::task
