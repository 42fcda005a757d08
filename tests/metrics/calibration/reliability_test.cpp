// How reliable probabilities are: Brier score, bins, expected calibration error.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "calibration.hpp"
#include "errors.hpp"
#include "hybridmed/metrics/calibration.hpp"

using namespace hybridmed;
using namespace hybridmed::metrics;
using namespace hybridmed::test;
using doctest::Approx;

namespace {

/// The bins that hold something: whether empty ones are listed is not what is tested.
std::vector<ReliabilityBin> filled(const std::vector<ReliabilityBin>& bins) {
  std::vector<ReliabilityBin> out;
  for (const auto& bin : bins)
    if (bin.n > 0) out.push_back(bin);
  return out;
}

}  // namespace

TEST_CASE("brier score: the mean squared distance to the label") {
  CHECK(brier_score({0.9, 0.2, 0.6, 0}, {1, 0, 0, 1}) == Approx(0.3525).epsilon(1e-12));
  CHECK(brier_score({1, 0}, {1, 0}) == 0);
  CHECK(brier_score({1, 0}, {0, 1}) == 1);
  CHECK(brier_score({0.5, 0.5, 0.5}, {0, 1, 1}) == Approx(0.25).epsilon(1e-12));
}

TEST_CASE("reliability: mean probability and share of positives in each bin") {
  const Scores prob = {0.9, 0, 0.3, 1, 0.6, 0.2};
  const Labels label = {1, 0, 1, 0, 0, 1};
  const auto bins = filled(reliability(prob, label, 4));
  REQUIRE(bins.size() == 4);
  const double predicted[] = {0.1, 0.3, 0.6, 0.95};
  const double observed[] = {0.5, 1, 0, 0.5};
  const std::size_t n[] = {2, 1, 1, 2};
  for (std::size_t i = 0; i < 4; ++i) {
    CAPTURE(i);
    CHECK(bins[i].predicted == Approx(predicted[i]).epsilon(1e-12));
    CHECK(bins[i].observed == Approx(observed[i]).epsilon(1e-12));
    CHECK(bins[i].n == n[i]);
  }
  const auto one = filled(reliability(prob, label, 1));
  REQUIRE(one.size() == 1);
  CHECK(one[0].predicted == Approx(0.5).epsilon(1e-12));
  CHECK(one[0].observed == Approx(0.5).epsilon(1e-12));
  CHECK(one[0].n == 6);
}

TEST_CASE("reliability: fifteen bins, and probability 1 belongs to the last") {
  // 1/15 lies between .066 and .067, 14/15 between .933 and .934; 2/30 < .13 < 2/15.
  CHECK(filled(reliability({0.066, 0.067}, {0, 1})).size() == 2);
  CHECK(filled(reliability({0.067, 0.13}, {0, 1})).size() == 1);
  CHECK(filled(reliability({0.933, 0.934}, {0, 1})).size() == 2);
  const auto last = filled(reliability({0.95, 1}, {0, 1}));
  REQUIRE(last.size() == 1);
  CHECK(last[0].n == 2);
  CHECK(last[0].predicted == Approx(0.975).epsilon(1e-12));
  CHECK(last[0].observed == Approx(0.5).epsilon(1e-12));
}

TEST_CASE("expected calibration error: the bins' distances, weighed by what they hold") {
  // (2 |.1 - .5| + |.3 - 1| + |.6 - 0| + 2 |.95 - .5|) / 6
  const Scores prob = {0.9, 0, 0.3, 1, 0.6, 0.2};
  const Labels label = {1, 0, 1, 0, 0, 1};
  CHECK(expected_calibration_error(prob, label, 4) == Approx(0.5).epsilon(1e-12));
  CHECK(std::abs(expected_calibration_error(prob, label, 1)) < 1e-12);  // right on the whole
  CHECK(expected_calibration_error({1, 1, 0}, {0, 0, 1}) == Approx(1).epsilon(1e-12));
  CHECK(expected_calibration_error({1, 1, 0}, {1, 1, 0}) == 0);
  CHECK(expected_calibration_error({0.25, 0.25, 0.25, 0.25}, {0, 0, 1, 0}) == 0);
  // .9 and .96 fall into two of 15 bins (14/15 parts them): (.1 + .96) / 2.
  CHECK(expected_calibration_error({0.9, 0.96}, {1, 0}) == Approx(0.53).epsilon(1e-12));
  CHECK(expected_calibration_error({0.91, 0.96}, {1, 0}, 10) == Approx(0.435).epsilon(1e-12));
}

TEST_CASE("what is no probability is an error in each measure") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double wrong : {-0.001, 1.001, nan, std::numeric_limits<double>::infinity()}) {
    CAPTURE(wrong);
    CHECK(error_of([&] { brier_score({0.5, wrong}, {0, 1}); }) != "");
    CHECK(error_of([&] { reliability({0.5, wrong}, {0, 1}); }) != "");
    CHECK(error_of([&] { expected_calibration_error({0.5, wrong}, {0, 1}); }) != "");
  }
}
