// Calibration: Platt scaling, how reliable probabilities are, the file that keeps the fits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "hybridmed/core/philox.hpp"
#include "hybridmed/task/calibration.hpp"

using namespace hybridmed;
using namespace hybridmed::metrics;
using namespace hybridmed::test;
using doctest::Approx;
using task::LabelCalibration;
using task::LabelPrompts;
using task::PromptEnsemble;
using task::RunCalibration;

namespace {

using Scores = std::vector<double>;
using Labels = std::vector<int>;

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

/// The bins that hold something: whether empty ones are listed is not what is tested.
std::vector<ReliabilityBin> filled(const std::vector<ReliabilityBin>& bins) {
  std::vector<ReliabilityBin> out;
  for (const auto& bin : bins)
    if (bin.n > 0) out.push_back(bin);
  return out;
}

}  // namespace

// ---------------------------------------------------------------- the fit

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

// ---------------------------------------------------------------- how reliable probabilities are

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

// ---------------------------------------------------------------- the file

namespace {

const LabelPrompts effusion = {"pleural \"effusion\"",
                               {"a pleural effusion.", "Erguss rechts \xC3\xBC.", "back\\slash"},
                               {"no effusion."},
                               PromptEnsemble::mean};
const LabelPrompts nodule = {"nodule", {"a nodule."}, {"clear.", "no nodule."}};

RunCalibration example() {
  RunCalibration run;
  run.weights = "crc32 0badcafe";
  run.data = "/data/with blank/\xC3\xA9";
  run.split = "valid";
  run.labels.push_back({effusion, {1. / 3, -0.1, 0.1 + 0.2}, 17, 1234567});
  run.labels.push_back({nodule, {1e-17, 12345.678901234567, 0.9999999999999999}, 10, 11});
  return run;
}

/// Where a calibration is written, spoilt and read back.
struct CalibrationFolder : ScratchFolder {
  nlohmann::json written;

  CalibrationFolder() {
    task::write_calibration(path, example());
    std::ifstream in(path / "calibration.json");
    REQUIRE(in.good());
    written = nlohmann::json::parse(in);
  }
  /// The error of reading this text; "" where it is read.
  std::string error(const std::string& text) const {
    std::ofstream(path / "calibration.json", std::ios::binary) << text;
    return error_of([&] { task::read_calibration(path); });
  }
  std::string error(const nlohmann::json& j) const { return error(j.dump()); }
};

using Pointer = nlohmann::json::json_pointer;

/// Every place below j, with the key that leads to it.
std::vector<std::pair<Pointer, std::string>> places(const nlohmann::json& j,
                                                    const Pointer& at = Pointer()) {
  std::vector<std::pair<Pointer, std::string>> out;
  const auto add = [&](const Pointer& p, const std::string& key, const nlohmann::json& value) {
    if (!key.empty()) out.push_back({p, key});
    for (auto& place : places(value, p)) out.push_back(place);
  };
  if (j.is_object())
    for (const auto& [key, value] : j.items()) add(at / key, key, value);
  if (j.is_array())
    for (std::size_t i = 0; i < j.size(); ++i) add(at / i, "", j[i]);
  return out;
}

/// The places whose key this is.
std::vector<Pointer> keyed(const nlohmann::json& j, const std::string& key) {
  std::vector<Pointer> out;
  for (const auto& [place, name] : places(j))
    if (name == key) out.push_back(place);
  return out;
}

bool is_label(const std::string& key) { return key == effusion.label || key == nodule.label; }

/// Does the error name the file, and the key or a label?
void check_names(const std::string& error, const std::string& key) {
  CAPTURE(key);
  CHECK_MESSAGE(holds(error, "calibration.json"), error);
  const bool label = holds(error, "effusion") || holds(error, nodule.label);
  CHECK_MESSAGE((label || holds(error, key)), error);
}

}  // namespace

TEST_CASE("a calibration that is written is read back exactly") {
  const ScratchFolder folder;
  const RunCalibration run = example();
  task::write_calibration(folder.path, run);
  CHECK(std::filesystem::is_regular_file(folder.path / "calibration.json"));
  const auto back = task::read_calibration(folder.path);
  REQUIRE(back.has_value());
  CHECK(back->weights == run.weights);
  CHECK(back->data == run.data);
  CHECK(back->split == run.split);
  REQUIRE(back->labels.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CAPTURE(i);
    const LabelCalibration& a = back->labels[i];
    const LabelCalibration& b = run.labels[i];
    CHECK(a.prompts.label == b.prompts.label);
    CHECK(a.prompts.positive == b.prompts.positive);
    CHECK(a.prompts.negative == b.prompts.negative);
    CHECK(a.prompts.ensemble == b.prompts.ensemble);
    CHECK(a.fit.temperature == b.fit.temperature);
    CHECK(a.fit.offset == b.fit.offset);
    CHECK(a.fit.threshold == b.fit.threshold);
    CHECK(a.positives == b.positives);
    CHECK(a.negatives == b.negatives);
  }
  RunCalibration later = run;  // a second one takes the place of the first
  later.labels.pop_back();
  later.split = "test";
  task::write_calibration(folder.path, later);
  const auto again = task::read_calibration(folder.path);
  REQUIRE(again.has_value());
  CHECK(again->split == "test");
  CHECK(again->labels.size() == 1);
}

TEST_CASE("a folder without a calibration has none") {
  const ScratchFolder folder;
  CHECK_FALSE(task::read_calibration(folder.path).has_value());
}

TEST_CASE("a calibration file whose numbers cannot be: the error names the file and the place") {
  const CalibrationFolder folder;
  CHECK(folder.error(folder.written) == "");
  const std::vector<std::pair<std::string, Scores>> wrong = {{"temperature", {0, -1, -1e-9}},
                                                             {"threshold", {0, 1, -0.5, 1.5}}};
  for (const auto& [key, values] : wrong) {
    const auto found = keyed(folder.written, key);
    REQUIRE(found.size() == 2);
    for (const auto& place : found)
      for (const double value : values) {
        CAPTURE(value);
        auto j = folder.written;
        j[place] = value;
        check_names(folder.error(j), key);
      }
  }
  auto j = folder.written;
  j[keyed(j, "offset").at(1)] = -4;  // an offset may be anything
  CHECK(folder.error(j) == "");
}

TEST_CASE("a calibration file without one of its keys: the error names the file and the place") {
  const CalibrationFolder folder;
  int removed = 0;
  for (const auto& [place, key] : places(folder.written)) {
    if (is_label(key)) continue;  // a label less is a smaller file, not a wrong one
    auto j = folder.written;
    j[place.parent_pointer()].erase(key);
    check_names(folder.error(j), key);
    ++removed;
  }
  CHECK(removed >= 3 + 2 * 8);  // a run's weights, data, split; of each label prompts, fit, counts
}

TEST_CASE("a calibration file with a text for a number: the error names the file and the place") {
  const CalibrationFolder folder;
  int replaced = 0;
  for (const auto& [place, key] : places(folder.written)) {
    if (!folder.written[place].is_number()) continue;
    for (const nlohmann::json& value : {nlohmann::json("0.5"), nlohmann::json(nullptr)}) {
      auto j = folder.written;
      j[place] = value;
      check_names(folder.error(j), key);
    }
    ++replaced;
  }
  CHECK(replaced >= 2 * 5);  // temperature, offset, threshold, positives, negatives
}

TEST_CASE("a calibration file with another ensemble, or that is no JSON at all") {
  const CalibrationFolder folder;
  const auto found = keyed(folder.written, "ensemble");
  REQUIRE(found.size() == 2);
  for (const auto& place : found) {
    auto j = folder.written;
    j[place] = "median";
    check_names(folder.error(j), "ensemble");
  }
  CHECK(holds(folder.error(std::string("{\"labels\": [")), "calibration.json"));
  CHECK(holds(folder.error(std::string()), "calibration.json"));
  CHECK(holds(folder.error(std::string("[]")), "calibration.json"));
}

TEST_CASE("a calibration is found by the very same label, sentences and ensemble only") {
  const RunCalibration run = example();
  CHECK(run.of(effusion) == &run.labels[0]);
  CHECK(run.of(nodule) == &run.labels[1]);
  LabelPrompts other = nodule;
  other.label = "Nodule";
  CHECK(run.of(other) == nullptr);
  other = nodule;
  other.positive[0] = "a nodule";
  CHECK(run.of(other) == nullptr);
  other = nodule;
  other.positive.push_back("two nodules.");
  CHECK(run.of(other) == nullptr);
  other = nodule;
  other.negative.pop_back();
  CHECK(run.of(other) == nullptr);
  other = nodule;
  other.ensemble = PromptEnsemble::mean;
  CHECK(run.of(other) == nullptr);
  other = nodule;
  std::swap(other.positive, other.negative);
  CHECK(run.of(other) == nullptr);
  CHECK(RunCalibration{}.of(nodule) == nullptr);
}

// ---------------------------------------------------------------- one label of a run

TEST_CASE("uncalibrated: the model's own scale") {
  CHECK(task::uncalibrated(0, 3) == 0.5);
  CHECK(task::uncalibrated(0.5, std::log(4.)) == Approx(0.8807970779778823).epsilon(1e-12));
  CHECK(task::uncalibrated(-0.25, std::log(8.)) == Approx(0.1192029220221176).epsilon(1e-12));
  CHECK(task::uncalibrated(2, 0) == Approx(0.8807970779778823).epsilon(1e-12));
  CHECK(task::uncalibrated(1, 50) == 1);
  CHECK(task::uncalibrated(-1, 50) == 0);
}

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

TEST_CASE(
    "scores that are all the same number give no calibration, whatever rounding makes of their "
    "mean") {
  const std::vector<double> same(100, 0.1);
  std::vector<int> label(100, 0);
  std::fill(label.begin(), label.begin() + 30, 1);
  CHECK_FALSE(hybridmed::metrics::fit_calibration(same, label).has_value());
}
