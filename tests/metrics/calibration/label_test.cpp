// One label of a run: the model's own scale, what is calibrated, and why something is not.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "calibration.hpp"
#include "errors.hpp"

using namespace hybridmed;
using namespace hybridmed::metrics;
using namespace hybridmed::test;
using doctest::Approx;
using task::PromptEnsemble;

namespace {

/// As many scores of each kind; they rise with the label where step > 0, and overlap.
task::KnownScores scores_of(int positives, int negatives, double step) {
  task::KnownScores known;
  for (int i = 0; i < positives + negatives; ++i) {
    const bool positive = i < positives;
    const int place = positive ? i : i - positives;
    known.score.push_back(0.1 * place + (positive ? step : 0));
    known.truth.push_back(positive ? 1 : 0);
  }
  return known;
}

}  // namespace

TEST_CASE("uncalibrated: the model's own scale") {
  CHECK(task::uncalibrated(0, 3) == 0.5);
  CHECK(task::uncalibrated(0.5, std::log(4.)) == Approx(0.8807970779778823).epsilon(1e-12));
  CHECK(task::uncalibrated(-0.25, std::log(8.)) == Approx(0.1192029220221176).epsilon(1e-12));
  CHECK(task::uncalibrated(2, 0) == Approx(0.8807970779778823).epsilon(1e-12));
  CHECK(task::uncalibrated(1, 50) == 1);
  CHECK(task::uncalibrated(-1, 50) == 0);
}

TEST_CASE("a label with ten of each is calibrated") {
  const auto known = scores_of(10, 10, 0.35);
  std::string why;
  const auto c = task::calibrate_label(effusion, known, why);
  REQUIRE_MESSAGE(c.has_value(), why);
  CHECK(c->positives == 10);
  CHECK(c->negatives == 10);
  CHECK(c->prompts.label == effusion.label);
  CHECK(c->prompts.positive == effusion.positive);
  CHECK(c->prompts.negative == effusion.negative);
  CHECK(c->prompts.ensemble == PromptEnsemble::mean);
  const auto fit = fit_calibration(known.score, known.truth);
  REQUIRE(fit.has_value());
  CHECK(c->fit.temperature == fit->temperature);
  CHECK(c->fit.offset == fit->offset);
  CHECK(c->fit.threshold == fit->threshold);
  const auto uneven = task::calibrate_label(nodule, scores_of(12, 25, 2), why);
  REQUIRE(uneven.has_value());
  CHECK(uneven->positives == 12);
  CHECK(uneven->negatives == 25);
}

TEST_CASE("a label with too few studies or a score that does not rise is not calibrated, and why") {
  std::string few_positives;
  CHECK_FALSE(task::calibrate_label(nodule, scores_of(9, 30, 3), few_positives).has_value());
  CHECK_MESSAGE((holds(few_positives, "9") || holds(few_positives, "10")), few_positives);
  std::string few_negatives;
  CHECK_FALSE(task::calibrate_label(nodule, scores_of(30, 9, 3), few_negatives).has_value());
  CHECK_MESSAGE((holds(few_negatives, "9") || holds(few_negatives, "10")), few_negatives);
  std::string none;
  CHECK_FALSE(task::calibrate_label(nodule, scores_of(0, 0, 1), none).has_value());
  CHECK(none != "");
  std::string falls;
  CHECK_FALSE(task::calibrate_label(nodule, scores_of(20, 20, -1), falls).has_value());
  CHECK(falls != "");
  CHECK(falls != few_positives);
  CHECK(falls != few_negatives);
  auto equal = scores_of(20, 20, 1);
  std::fill(equal.score.begin(), equal.score.end(), 0.25);
  std::string flat;
  CHECK_FALSE(task::calibrate_label(nodule, equal, flat).has_value());
  CHECK(flat != "");
}
