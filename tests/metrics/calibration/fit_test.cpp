// Platt scaling: what it fits, where it fits nothing, the threshold.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "calibration.hpp"
#include "errors.hpp"
#include "hybridmed/core/philox.hpp"
#include "hybridmed/metrics/calibration.hpp"

using namespace hybridmed;
using namespace hybridmed::metrics;
using namespace hybridmed::test;
using doctest::Approx;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// The larger of both derivatives of the cross-entropy with Platt's targets: after the offset in
/// temperatures, and after the logarithm of the temperature. Both are free of the scores' unit.
double gradient(const Calibration& c, const Scores& score, const Labels& label) {
  const double n1 = static_cast<double>(std::count(label.begin(), label.end(), 1));
  const double n0 = static_cast<double>(label.size()) - n1;
  double offset = 0;
  double temperature = 0;
  for (std::size_t i = 0; i < score.size(); ++i) {
    const double target = label[i] == 1 ? (n1 + 1) / (n1 + 2) : 1 / (n0 + 2);
    const double z = (score[i] - c.offset) / c.temperature;
    offset += sigmoid(z) - target;
    temperature += (sigmoid(z) - target) * z;
  }
  return std::max(std::abs(offset), std::abs(temperature));
}

/// Eight scores whose classes overlap.
const Scores mixed = {-1.2, 0.3, 0.1, 2.0, 1.1, -0.4, 0.9, 1.5};
const Labels mixed_label = {0, 0, 1, 1, 0, 0, 1, 1};

Scores mapped(Scores x, double factor, double added) {
  for (double& v : x) v = v * factor + added;
  return x;
}

}  // namespace

TEST_CASE("a calibration: probability of a score, score of the threshold") {
  const Calibration c{0.5, 2, 0.75};
  CHECK(c.probability(2) == Approx(0.5).epsilon(1e-12));
  CHECK(c.probability(3) == Approx(0.8807970779778823).epsilon(1e-12));     // sigmoid(2)
  CHECK(c.probability(1) == Approx(0.1192029220221176).epsilon(1e-12));     // sigmoid(-2)
  CHECK(c.threshold_score() == Approx(2.5493061443340548).epsilon(1e-12));  // 2 + ln(3) / 2
  CHECK(c.probability(c.threshold_score()) == Approx(0.75).epsilon(1e-12));
  CHECK(c.probability(1e6) == 1);
  CHECK(c.probability(-1e6) == 0);
}

TEST_CASE("platt scaling of two distinct scores meets platt's targets exactly") {
  // One of each: the targets are 2/3 and 1/3, so -offset / t = -ln 2 and (1 - offset) / t = ln 2.
  const auto one = fit_calibration({0, 1}, {0, 1});
  REQUIRE(one.has_value());
  CHECK(one->temperature == Approx(0.5 / std::log(2.)).epsilon(1e-6));
  CHECK(one->offset == Approx(0.5).epsilon(1e-6));
  CHECK(one->threshold == Approx(0.5).epsilon(1e-6));
  // Three of each: 4/5 and 1/5, so the logit is ln 4 at both ends.
  const auto three = fit_calibration({0, 1, 0, 1, 0, 1}, {0, 1, 0, 1, 0, 1});
  REQUIRE(three.has_value());
  CHECK(three->temperature == Approx(0.5 / std::log(4.)).epsilon(1e-6));
  CHECK(three->offset == Approx(0.5).epsilon(1e-6));
  // One positive, three negatives: 2/3 and 1/5: -offset / t = -2 ln 2 and (1 - offset) / t = ln 2.
  const auto rare = fit_calibration({0, 0, 1, 0}, {0, 0, 1, 0});
  REQUIRE(rare.has_value());
  CHECK(rare->temperature == Approx(1 / (3 * std::log(2.))).epsilon(1e-6));
  CHECK(rare->offset == Approx(2. / 3).epsilon(1e-6));
  CHECK(rare->threshold_score() == Approx(0.5).epsilon(1e-6));
  CHECK(rare->threshold == Approx(1 / (1 + std::sqrt(2.))).epsilon(1e-6));  // sigmoid(-ln(2) / 2)
  // Two positives, one negative: 3/4 and 1/3, so -offset / t = -ln 2 and (1 - offset) / t = ln 3.
  const auto frequent = fit_calibration({0, 1, 1}, {0, 1, 1});
  REQUIRE(frequent.has_value());
  CHECK(frequent->temperature == Approx(1 / std::log(6.)).epsilon(1e-6));
  CHECK(frequent->offset == Approx(std::log(2.) / std::log(6.)).epsilon(1e-6));
}

TEST_CASE("the gradient of the cross-entropy is 0 at the fit") {
  const auto check = [](const Scores& score, const Labels& label) {
    const auto fit = fit_calibration(score, label);
    REQUIRE(fit.has_value());
    CHECK(fit->temperature > 0);
    CHECK(gradient(*fit, score, label) < 1e-6);
    Calibration other = *fit;  // the measure must see a fit that is off
    other.temperature *= 1.1;
    CHECK(gradient(other, score, label) > 1e-4);
  };
  check(mixed, mixed_label);
  check(mapped(mixed, 0.01, 0.3), mixed_label);                            // the range of cosines
  check({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {0, 0, 0, 0, 1, 0, 0, 0, 0, 1});  // few positives
  check({1, 2, 3, 4, 5, 6, 7}, {0, 1, 1, 0, 1, 1, 1});                     // few negatives
  check({-2, -1, 1, 2}, {0, 0, 1, 1});                                     // separated
  check({0, 0.1, 0.2, 0.3, 50}, {0, 1, 0, 1, 1});                          // one score far out
}

TEST_CASE("a large sample gives back the temperature and the offset that it was drawn with") {
  // Standard errors at this size: 0.0004 of the offset, 0.0002 of the temperature.
  const Philox scores(31);
  const Philox draws(32);
  Scores score;
  Labels label;
  for (std::uint64_t i = 0; i < 200000; ++i) {
    score.push_back(0.5 * scores.uniform(i));
    label.push_back(draws.uniform(i) < sigmoid((score.back() - 0.2) / 0.05) ? 1 : 0);
  }
  const auto fit = fit_calibration(score, label);
  REQUIRE(fit.has_value());
  CHECK(std::abs(fit->offset - 0.2) < 0.002);
  CHECK(std::abs(fit->temperature - 0.05) < 0.001);
  CHECK(std::abs(fit->probability(0.25) - sigmoid(1)) < 0.01);
  CHECK(gradient(*fit, score, label) / 200000 < 1e-6);
}

TEST_CASE("shifted scores shift the offset, scaled scores scale offset and temperature") {
  const auto plain = fit_calibration(mixed, mixed_label);
  REQUIRE(plain.has_value());
  for (const double c : {-3., 0.7, 100.}) {
    CAPTURE(c);
    const auto shifted = fit_calibration(mapped(mixed, 1, c), mixed_label);
    REQUIRE(shifted.has_value());
    CHECK(std::abs(shifted->offset - (plain->offset + c)) < 1e-6);
    CHECK(shifted->temperature == Approx(plain->temperature).epsilon(1e-6));
    CHECK(shifted->threshold == Approx(plain->threshold).epsilon(1e-6));
  }
  for (const double s : {0.001, 3., 1000.}) {
    CAPTURE(s);
    const auto scaled = fit_calibration(mapped(mixed, s, 0), mixed_label);
    REQUIRE(scaled.has_value());
    CHECK(scaled->offset / s == Approx(plain->offset).epsilon(1e-6));
    CHECK(scaled->temperature / s == Approx(plain->temperature).epsilon(1e-6));
    CHECK(scaled->threshold == Approx(plain->threshold).epsilon(1e-6));
  }
}

TEST_CASE("the order of the studies does not matter") {
  const auto plain = fit_calibration(mixed, mixed_label);
  const auto turned = fit_calibration(Scores(mixed.rbegin(), mixed.rend()),
                                      Labels(mixed_label.rbegin(), mixed_label.rend()));
  REQUIRE(plain.has_value());
  REQUIRE(turned.has_value());
  CHECK(turned->temperature == Approx(plain->temperature).epsilon(1e-9));
  CHECK(turned->offset == Approx(plain->offset).epsilon(1e-9));
  CHECK(turned->threshold == Approx(plain->threshold).epsilon(1e-9));
}

TEST_CASE("perfectly separated scores give a finite fit") {
  // Mirrored at 0: the offset is 0, and no probability reaches 0 or 1.
  const auto mirrored = fit_calibration({-2, -1, 1, 2}, {0, 0, 1, 1});
  REQUIRE(mirrored.has_value());
  CHECK(std::abs(mirrored->offset) < 1e-6);
  CHECK(mirrored->temperature > 1 / std::log(3.));  // the score 1 stays below its target of 3/4,
  CHECK(mirrored->temperature < 2 / std::log(3.));  // the score 2 lies above it
  CHECK(mirrored->threshold == Approx(0.5).epsilon(1e-6));
  Scores score;
  Labels label;
  for (int i = 0; i < 100; ++i) {
    score.push_back(i < 50 ? -1000 - i : 1000 + i);
    label.push_back(i < 50 ? 0 : 1);
  }
  const auto wide = fit_calibration(score, label);
  REQUIRE(wide.has_value());
  CHECK(std::isfinite(wide->temperature));
  CHECK(std::isfinite(wide->offset));
  CHECK(wide->temperature > 0);
  CHECK(wide->threshold > 0);
  CHECK(wide->threshold < 1);
  CHECK(std::abs(52 * wide->probability(-1025) - 1) < 0.02);       // the target of 50 negatives
  CHECK(std::abs(52 * (1 - wide->probability(1075)) - 1) < 0.02);  // and of 50 positives
  CHECK(gradient(*wide, score, label) < 1e-6);
}

TEST_CASE("the threshold lies where sensitivity + specificity is greatest") {
  // In order: .1-, .2+, .35-, .75+, .8+, .9+. At .15: 1 + 1/2; at .55: 3/4 + 1, the most.
  const auto six = fit_calibration({0.8, 0.1, 0.75, 0.2, 0.9, 0.35}, {1, 0, 1, 1, 1, 0});
  REQUIRE(six.has_value());
  CHECK(six->threshold_score() == Approx(0.55).epsilon(1e-9));
  CHECK(six->threshold == Approx(six->probability(0.55)).epsilon(1e-9));
  // Equal scores cannot be parted: 1-, 2-, 2+, 3+, 3+, 5+. At 1.5: 1 + 1/2; at 2.5: 3/4 + 1.
  const auto tied = fit_calibration({2, 1, 3, 2, 5, 3}, {0, 0, 1, 1, 1, 1});
  REQUIRE(tied.has_value());
  CHECK(tied->threshold_score() == Approx(2.5).epsilon(1e-9));
  // Classes weigh the same whatever their size: 1-, 2-, 3-, 4-, 5+, 6-. At 4.5: 1 + 4/5.
  const auto rare = fit_calibration({1, 2, 3, 4, 5, 6}, {0, 0, 0, 0, 1, 0});
  REQUIRE(rare.has_value());
  CHECK(rare->threshold_score() == Approx(4.5).epsilon(1e-9));
}

TEST_CASE("no fit where there is nothing to fit") {
  CHECK_FALSE(fit_calibration({}, {}).has_value());
  CHECK_FALSE(fit_calibration({1, 2, 3}, {1, 1, 1}).has_value());
  CHECK_FALSE(fit_calibration({1, 2, 3}, {0, 0, 0}).has_value());
  CHECK_FALSE(fit_calibration({0.4, 0.4, 0.4, 0.4}, {0, 1, 0, 1}).has_value());
  CHECK_FALSE(fit_calibration({1, 2, 3, 4}, {1, 1, 0, 0}).has_value());  // falls with the label
  CHECK_FALSE(fit_calibration({1, 2, 2, 3}, {1, 0, 0, 1}).has_value());  // means are equal
  CHECK(fit_calibration({1, 2, 2, 3}, {0, 0, 1, 1}).has_value());
}

TEST_CASE("scores that are no numbers, other labels and unequal sizes are errors") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  CHECK(error_of([&] { fit_calibration({1, nan, 3, 4}, {0, 0, 1, 1}); }) != "");
  CHECK(error_of([&] { fit_calibration({1, 2, 3, infinite}, {0, 0, 1, 1}); }) != "");
  CHECK(error_of([&] { fit_calibration({-infinite, 2, 3, 4}, {0, 0, 1, 1}); }) != "");
  CHECK(error_of([&] { fit_calibration({1, 2, 3, 4}, {0, 0, 1, 2}); }) != "");
  CHECK(error_of([&] { fit_calibration({1, 2, 3, 4}, {0, -1, 1, 1}); }) != "");
  CHECK(error_of([&] { fit_calibration({1, 2, 3, 4}, {0, 0, 1}); }) != "");
  CHECK(error_of([&] { fit_calibration({1, 2, 3}, {0, 0, 1, 1}); }) != "");
  CHECK(error_of([&] { fit_calibration({1, 2, 3, 4}, {0, 0, 1, 1}); }) == "");
}

TEST_CASE(
    "scores that are all the same number give no calibration, whatever rounding makes of their "
    "mean") {
  const std::vector<double> same(100, 0.1);
  std::vector<int> label(100, 0);
  std::fill(label.begin(), label.begin() + 30, 1);
  CHECK_FALSE(hybridmed::metrics::fit_calibration(same, label).has_value());
}
