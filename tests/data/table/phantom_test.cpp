// Phantoms: pictures, reports, labels and boxes that agree.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "errors.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/data/studies.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;
namespace fs = std::filesystem;

namespace {

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {(std::istreambuf_iterator<char>(in)), {}};
}

}  // namespace

TEST_CASE("phantoms: layout, labels, texts, boxes and splits agree") {
  const test::ScratchFolder f;
  PhantomOptions o;
  o.count = 300;
  o.side = 24;
  o.seed = 3;
  write_phantoms(f.path, o);
  const Table studies = read_csv(f.path / "studies.csv"), images = read_csv(f.path / "images.csv"),
              labels = read_csv(f.path / "labels.csv"), boxes = read_csv(f.path / "boxes.csv");
  CHECK(studies.rows.size() == 300);
  CHECK(images.rows.size() == 300);
  CHECK(labels.rows.size() == 300);

  std::map<std::string, std::set<std::string>> box_labels;
  for (const auto& b : boxes.rows) {
    box_labels[b[boxes.column("image")]].insert(b[boxes.column("label")]);
    const double x = std::stod(b[boxes.column("x")]), y = std::stod(b[boxes.column("y")]),
                 w = std::stod(b[boxes.column("w")]), h = std::stod(b[boxes.column("h")]);
    CHECK((x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= 1 && y + h <= 1));
  }
  std::map<std::string, int> split_sizes, label_counts;
  std::set<std::string> seen;
  int without_findings = 0, without_impression = 0;
  for (std::size_t r = 0; r < studies.rows.size(); ++r) {
    const auto& s = studies.rows[r];
    const std::string id = s[studies.column("study_id")],
                      image = s[studies.column("frontal_images")],
                      findings = s[studies.column("findings")],
                      impression = s[studies.column("impression")];
    CAPTURE(id);
    CHECK(seen.insert(id).second);
    ++split_sizes[s[studies.column("split")]];
    CHECK(labels.rows[r][labels.column("study_id")] == id);
    CHECK(labels.rows[r][labels.column("split")] == s[studies.column("split")]);
    CHECK(s[studies.column("has_findings")] == (findings.empty() ? "0" : "1"));
    CHECK(s[studies.column("has_impression")] == (impression.empty() ? "0" : "1"));
    CHECK(!(findings.empty() && impression.empty()));
    without_findings += findings.empty();
    without_impression += impression.empty();
    const Image picture = read_image(f.path / "images" / image);
    CHECK((picture.width() == 24 && picture.height() == 24 && picture.bits == 8));
    const auto label = [&](const std::string& name) {
      return labels.rows[r][labels.column(name)] == "1";
    };
    for (const std::string name : {"nodule", "opacity", "effusion", "cardiomegaly"}) {
      CAPTURE(name);
      label_counts[name] += label(name);
      CHECK(label(name) == (box_labels[image].count(name) == 1));
      if (!impression.empty()) CHECK(label(name) == holds(impression, name));
      if (!findings.empty()) {
        const std::map<std::string, std::string> says{{"nodule", "round nodule"},
                                                      {"opacity", "hazy opacity"},
                                                      {"effusion", "blunted"},
                                                      {"cardiomegaly", "the heart is enlarged"}};
        CHECK(label(name) == holds(findings, says.at(name)));
        const std::map<std::string, std::string> denies{
            {"nodule", "the lungs are clear"},
            {"opacity", "the lungs are clear"},
            {"effusion", "there is no effusion"},
            {"cardiomegaly", "the heart size is normal"}};
        if (label(name)) CHECK(!holds(findings, denies.at(name)));
      }
    }
    label_counts["normal"] += label("normal");
    CHECK(label("normal") == box_labels[image].empty());
    if (!impression.empty()) CHECK(label("normal") == (impression == "normal chest."));
  }
  for (const auto& [name, n] : label_counts)
    CHECK_MESSAGE(n > 20, name);  // every label can be learnt
  CHECK(split_sizes["train"] == 210);
  CHECK(split_sizes["valid"] == 30);
  CHECK(split_sizes["test"] == 60);
  CHECK(without_findings > 0);
  CHECK(without_impression > 0);
  CHECK(without_findings + without_impression < 40);  // 5 % of 300 and luck

  // The split files say the same as the column and share no study.
  std::set<std::string> all;
  std::size_t sum = 0;
  for (const char* split : {"train", "valid", "test"}) {
    const auto names =
        split_names(bytes_of(f.path / "splits" / (std::string(split) + ".txt")), "\n");
    CHECK(names.size() == static_cast<std::size_t>(split_sizes[split]));
    sum += names.size();
    all.insert(names.begin(), names.end());
  }
  CHECK(sum == 300);
  CHECK(all == seen);
  std::vector<Rejected> rejected;
  CHECK(DataFolder(f.path).select({.split = "train"}, &rejected).size() == 210);
  CHECK(rejected.empty());
  CHECK(DataFolder(f.path).labels().of.size() == 300);
}

TEST_CASE("phantoms depend on the seed alone") {
  PhantomOptions o;
  o.count = 12;
  o.side = 16;
  const test::ScratchFolder a, b, c;
  write_phantoms(a.path, o);
  write_phantoms(b.path, o);
  o.seed = 1;
  write_phantoms(c.path, o);
  std::size_t files = 0;
  for (const auto& e : fs::recursive_directory_iterator(a.path)) {
    if (!e.is_regular_file()) continue;
    const fs::path name = fs::relative(e.path(), a.path);
    CHECK_MESSAGE(bytes_of(e.path()) == bytes_of(b.path / name), name.string());
    ++files;
  }
  CHECK(files == 12 + 4 + 3);
  CHECK(bytes_of(a.path / "studies.csv") != bytes_of(c.path / "studies.csv"));
  CHECK(bytes_of(a.path / "images/phantom0.png") != bytes_of(c.path / "images/phantom0.png"));
}

TEST_CASE("a planted finding shows inside its box") {
  // The same phantom with and without a finding is not at hand; the mean inside a box must exceed
  // the mirrored place's.
  double inside = 0, mirrored = 0;
  int n = 0;
  for (std::uint64_t k = 0; k < 200; ++k) {
    const Phantom p = make_phantom(96, Philox(11, k));
    for (const auto& f : p.findings) {
      if (f.label == "cardiomegaly" || p.findings.size() != 1) continue;
      double a = 0, b = 0;
      int count = 0;
      for (int y = 0; y < 96; ++y)
        for (int x = 0; x < 96; ++x)
          if ((x + 0.5) / 96 > f.x && (x + 0.5) / 96 < f.x + f.width && (y + 0.5) / 96 > f.y &&
              (y + 0.5) / 96 < f.y + f.height) {
            a += p.pixels[static_cast<std::size_t>(y * 96 + x)];
            b += p.pixels[static_cast<std::size_t>(y * 96 + 95 - x)];
            ++count;
          }
      inside += a / count;
      mirrored += b / count;
      ++n;
    }
  }
  REQUIRE(n > 30);
  CHECK(inside / n > mirrored / n + 15);
}
