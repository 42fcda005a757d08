#pragma once
// AUROC with a bootstrap interval.
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "hybridmed/core/error.hpp"
#include "hybridmed/core/philox.hpp"

namespace hybridmed::metrics {

/// Area under the ROC curve, ties count half (Mann-Whitney). Nothing where one class is empty or a
/// score is not a number.
inline std::optional<double> auroc(const std::vector<double>& score,
                                   const std::vector<int>& label) {
  if (score.size() != label.size())
    fail("metrics", "auroc",
         "expected a label for each of " + std::to_string(score.size()) + " scores, got " +
             std::to_string(label.size()));
  for (int l : label)
    if (l != 0 && l != 1)
      fail("metrics", "auroc", "expected labels 0 and 1, got " + std::to_string(l),
           "leave uncertain and unknown ones out");
  if (std::any_of(score.begin(), score.end(), [](double s) { return std::isnan(s); }))
    return std::nullopt;
  std::vector<std::size_t> order(score.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return score[a] < score[b]; });
  double positives = 0, rank_sum = 0;
  for (std::size_t i = 0; i < order.size();) {
    std::size_t j = i;
    while (j < order.size() && score[order[j]] == score[order[i]]) ++j;
    const double rank = static_cast<double>(i + j + 1) / 2;
    for (; i < j; ++i)
      if (label[order[i]]) {
        positives += 1;
        rank_sum += rank;
      }
  }
  const double negatives = static_cast<double>(score.size()) - positives;
  if (positives == 0 || negatives == 0) return std::nullopt;
  return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

struct Interval {
  double low = 0, high = 0;
};

/// 95 % percentile bootstrap of f over resampled indices; draws where f has no value are repeated.
template <class F>
Interval bootstrap(std::size_t n, F&& f, Philox random, int draws = 1000) {
  std::vector<double> values;
  std::vector<std::size_t> index(n);
  std::uint64_t draw = 0;
  for (int attempt = 0; static_cast<int>(values.size()) < draws && attempt < 20 * draws;
       ++attempt) {
    for (auto& i : index) i = random.below(draw++, n);
    if (const std::optional<double> v = f(index)) values.push_back(*v);
  }
  if (values.empty()) return {std::nan(""), std::nan("")};
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    const double x = q * static_cast<double>(values.size() - 1);
    const auto i = static_cast<std::size_t>(x);
    const double next = values[(std::min)(i + 1, values.size() - 1)];
    return values[i] + (x - static_cast<double>(i)) * (next - values[i]);
  };
  return {at(0.025), at(0.975)};
}

/// 95 % interval of a share, `right` of `n` (Wilson, 1927).
inline Interval share_interval(std::size_t right, std::size_t n) {
  if (n == 0 || right > n)
    fail("metrics", "share_interval",
         "expected 0 to n of n > 0, got " + std::to_string(right) + " of " + std::to_string(n));
  const double z = 1.959963984540054, m = static_cast<double>(n),
               p = static_cast<double>(right) / m;
  const double middle = (p + z * z / (2 * m)) / (1 + z * z / m),
               half = z / (1 + z * z / m) * std::sqrt(p * (1 - p) / m + z * z / (4 * m * m));
  return {(std::max)(0.0, middle - half), (std::min)(1.0, middle + half)};
}

inline Interval auroc_interval(const std::vector<double>& score, const std::vector<int>& label,
                               Philox random) {
  return bootstrap(
      score.size(),
      [&](const std::vector<std::size_t>& index) {
        std::vector<double> s;
        std::vector<int> l;
        for (std::size_t i : index) {
          s.push_back(score[i]);
          l.push_back(label[i]);
        }
        return auroc(s, l);
      },
      random);
}

/// Interval of the mean AUROC of several labels of the same studies: a draw resamples studies, for
/// all labels at once. Each label has a score and a truth for every study; a study whose truth is
/// neither 0 nor 1 does not count for that label.
inline Interval mean_auroc_interval(
    const std::vector<std::pair<std::vector<double>, std::vector<int>>>& labels, Philox random) {
  for (const auto& [score, label] : labels)
    if (score.size() != label.size() || score.size() != labels[0].first.size())
      fail("metrics", "mean_auroc_interval",
           "expected scores and labels of the same studies for every label");
  return bootstrap(
      labels.empty() ? 0 : labels[0].first.size(),
      [&](const std::vector<std::size_t>& index) -> std::optional<double> {
        double sum = 0;
        std::vector<double> s;
        std::vector<int> l;
        for (const auto& [score, label] : labels) {
          s.clear();
          l.clear();
          for (std::size_t i : index)
            if (label[i] == 0 || label[i] == 1) {
              s.push_back(score[i]);
              l.push_back(label[i]);
            }
          const auto a = auroc(s, l);
          if (!a) return std::nullopt;
          sum += *a;
        }
        return sum / static_cast<double>(labels.size());
      },
      random);
}

}  // namespace hybridmed::metrics
