#pragma once
// From a score to a probability: Platt scaling, a threshold, and how reliable the probabilities
// are.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "hybridmed/core/error.hpp"

namespace hybridmed::metrics {

/// p(label | score) = sigmoid((score - offset) / temperature); the label is said to be present from
/// `threshold` on, a probability.
struct Calibration {
  double temperature = 1;  ///< in units of the score, above 0
  double offset = 0;       ///< the score at which the probability is one half
  double threshold = 0.5;

  double probability(double score) const {
    return 1 / (1 + std::exp(-(score - offset) / temperature));
  }
  /// The score at the threshold.
  double threshold_score() const {
    return offset + temperature * std::log(threshold / (1 - threshold));
  }
};

namespace detail {
inline void need_scores(const char* operation, const std::vector<double>& score,
                        const std::vector<int>& label) {
  if (score.size() != label.size())
    fail("metrics", operation,
         "expected a label for each of " + std::to_string(score.size()) + " scores, got " +
             std::to_string(label.size()));
  for (std::size_t i = 0; i < score.size(); ++i) {
    if (!std::isfinite(score[i]))
      fail("metrics", operation, "score " + std::to_string(i) + " is not a number");
    if (label[i] != 0 && label[i] != 1)
      fail("metrics", operation, "expected labels 0 and 1, got " + std::to_string(label[i]),
           "leave uncertain and unknown ones out");
  }
}

inline void need_probabilities(const char* operation, const std::vector<double>& probability) {
  for (const double p : probability)
    if (p < 0 || p > 1)
      fail("metrics", operation, "expected probabilities from 0 to 1, got " + std::to_string(p));
}

/// The scale a and shift b that minimise the cross-entropy of sigmoid(a x + b) with Platt's
/// targets, (n1 + 1) / (n1 + 2) for positives and 1 / (n0 + 2) for negatives; Newton's method with
/// halved steps (Lin, Lin and Weng, Machine Learning 68, 2007).
inline std::pair<double, double> platt(const std::vector<double>& x,
                                       const std::vector<int>& label) {
  const double n1 = static_cast<double>(std::count(label.begin(), label.end(), 1)),
               n0 = static_cast<double>(label.size()) - n1;
  const auto target = [&](std::size_t i) { return label[i] ? (n1 + 1) / (n1 + 2) : 1 / (n0 + 2); };
  const auto loss = [&](double a, double b) {
    double sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double z = a * x[i] + b;
      sum += (std::max)(z, 0.0) - z * target(i) + std::log1p(std::exp(-std::abs(z)));
    }
    return sum;
  };
  double a = 0, b = std::log((n1 + 1) / (n0 + 1)), now = loss(a, b);
  for (int step = 0; step < 100; ++step) {
    double ga = 0, gb = 0, haa = 1e-12, hab = 0, hbb = 1e-12;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double p = 1 / (1 + std::exp(-(a * x[i] + b))), d = p - target(i), w = p * (1 - p);
      ga += d * x[i];
      gb += d;
      haa += w * x[i] * x[i];
      hab += w * x[i];
      hbb += w;
    }
    if (std::abs(ga) < 1e-9 && std::abs(gb) < 1e-9) break;
    const double det = haa * hbb - hab * hab, da = -(hbb * ga - hab * gb) / det,
                 db = -(haa * gb - hab * ga) / det;
    double size = 1;
    while (size > 1e-10 && !(loss(a + size * da, b + size * db) < now)) size /= 2;
    if (size <= 1e-10) break;
    a += size * da;
    b += size * db;
    now = loss(a, b);
  }
  return {a, b};
}
}  // namespace detail

/// Fits temperature and offset by Platt scaling (Platt, 1999), and the threshold where sensitivity
/// + specificity is greatest (Youden's J, 1950). Nothing where a class is empty, or where the score
/// does not rise with the label.
inline std::optional<Calibration> fit_calibration(const std::vector<double>& score,
                                                  const std::vector<int>& label) {
  detail::need_scores("fit_calibration", score, label);
  const double n = static_cast<double>(score.size()),
               positives = static_cast<double>(std::count(label.begin(), label.end(), 1));
  if (positives == 0 || positives == n) return std::nullopt;
  double mean = 0, square = 0;
  for (double s : score) mean += s / n;
  for (double s : score) square += (s - mean) * (s - mean) / n;
  const double width = std::sqrt(square);
  const auto [least, greatest] = std::minmax_element(score.begin(), score.end());
  if (*least == *greatest || !(width > 0)) return std::nullopt;
  std::vector<double> x;
  for (double s : score) x.push_back((s - mean) / width);
  const auto [a, b] = detail::platt(x, label);
  if (!(a > 1e-6)) return std::nullopt;
  Calibration c{width / a, mean - b / a * width, 0.5};

  std::vector<std::size_t> order(score.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](std::size_t i, std::size_t j) { return score[i] > score[j]; });
  double hits = 0, alarms = 0, best = 0, at = c.offset;
  for (std::size_t k = 0; k + 1 < order.size(); ++k) {
    (label[order[k]] ? hits : alarms) += 1;
    if (score[order[k]] == score[order[k + 1]]) continue;
    if (const double j = hits / positives - alarms / (n - positives); j > best) {
      best = j;
      at = (score[order[k]] + score[order[k + 1]]) / 2;
    }
  }
  c.threshold = std::clamp(c.probability(at), 1e-6, 1 - 1e-6);
  return c;
}

/// Mean squared distance of probabilities to labels (Brier, 1950).
inline double brier_score(const std::vector<double>& probability, const std::vector<int>& label) {
  detail::need_scores("brier_score", probability, label);
  detail::need_probabilities("brier_score", probability);
  double sum = 0;
  for (std::size_t i = 0; i < label.size(); ++i)
    sum += (probability[i] - label[i]) * (probability[i] - label[i]);
  return label.empty() ? std::nan("") : sum / static_cast<double>(label.size());
}

/// What one bin of a reliability diagram holds.
struct ReliabilityBin {
  double predicted = 0, observed = 0;  ///< mean probability; share of positives
  std::size_t n = 0;
};

/// Bins of equal width over [0, 1].
inline std::vector<ReliabilityBin> reliability(const std::vector<double>& probability,
                                               const std::vector<int>& label,
                                               std::size_t bins = 15) {
  detail::need_scores("reliability", probability, label);
  if (bins == 0) fail("metrics", "reliability", "expected at least one bin");
  detail::need_probabilities("reliability", probability);
  std::vector<ReliabilityBin> out(bins);
  for (std::size_t i = 0; i < label.size(); ++i) {
    const double p = probability[i];
    ReliabilityBin& bin =
        out[(std::min)(static_cast<std::size_t>(p * static_cast<double>(bins)), bins - 1)];
    bin.predicted += p;
    bin.observed += label[i];
    ++bin.n;
  }
  for (auto& bin : out)
    if (bin.n > 0) {
      bin.predicted /= static_cast<double>(bin.n);
      bin.observed /= static_cast<double>(bin.n);
    }
  return out;
}

/// Expected calibration error (Guo et al., ICML 2017): the bins' |observed - predicted|, weighted
/// by what they hold.
inline double expected_calibration_error(const std::vector<double>& probability,
                                         const std::vector<int>& label, std::size_t bins = 15) {
  double sum = 0;
  for (const auto& bin : reliability(probability, label, bins))
    sum += static_cast<double>(bin.n) * std::abs(bin.observed - bin.predicted);
  return label.empty() ? std::nan("") : sum / static_cast<double>(label.size());
}

}  // namespace hybridmed::metrics
