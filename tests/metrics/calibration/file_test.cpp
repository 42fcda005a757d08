// The file that keeps a run's fits: written, read back, and refused where it cannot be right.
#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "calibration.hpp"
#include "errors.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using task::LabelCalibration;
using task::LabelPrompts;
using task::PromptEnsemble;
using task::RunCalibration;

namespace {

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
