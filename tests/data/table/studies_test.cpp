// Selections of studies from a table: splits, names of columns, what is left out and why.
#include <doctest/doctest.h>

#include "errors.hpp"
#include "hybridmed/data/studies.hpp"
#include "table.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> ids(const std::vector<Study>& studies) {
  std::vector<std::string> out;
  for (const auto& s : studies) out.push_back(s.id);
  return out;
}

}  // namespace

TEST_CASE("a selection by the table's split column; what is left out has a reason") {
  const test::ScratchFolder f;
  f.write("studies.csv", studies_csv);
  const DataFolder folder(f.path);
  std::vector<Rejected> rejected;
  const auto train = folder.select({.split = "train"}, &rejected);
  CHECK(ids(train) == Row{"s1", "s2"});
  CHECK(train[0].images == Row{"a.png", "b.png"});
  CHECK(train[0].raw_findings == "The heart is NORMAL.");
  CHECK(train[0].findings == "the heart is normal.");
  CHECK(train[0].line == 2);
  CHECK(train[1].findings.empty());
  REQUIRE(rejected.size() == 4);
  const auto reason = [&](std::size_t i) {
    return rejected[i].study + ":" + std::to_string(rejected[i].line) + ":" + rejected[i].reason;
  };
  CHECK_MESSAGE(
      (rejected[0].study == "s4" && rejected[0].line == 5 && holds(rejected[0].reason, "image")),
      reason(0));
  CHECK_MESSAGE((rejected[1].study == "s5" && rejected[1].line == 6 &&
                 holds(rejected[1].reason, "findings") && holds(rejected[1].reason, "impression")),
                reason(1));  // empty once cleaned
  CHECK_MESSAGE(
      (rejected[2].study == "s1" && rejected[2].line == 7 && holds(rejected[2].reason, "twice")),
      reason(2));
  CHECK_MESSAGE(
      (rejected[3].study == "" && rejected[3].line == 8 && holds(rejected[3].reason, "id")),
      reason(3));

  CHECK(ids(folder.select({.split = "valid"})) == Row{"s3"});
  const auto test = folder.select({.split = "test"});
  REQUIRE(ids(test) == Row{"s6"});
  CHECK(test[0].findings == "one, two. three.");
  CHECK(ids(folder.select({})) == Row{"s1", "s2", "s3", "s6"});
  CHECK(ids(folder.select({.split = {}, .needs_image = false})) ==
        Row{"s1", "s2", "s3", "s4", "s6"});
  rejected.clear();
  CHECK(ids(folder.select({.split = "train", .needs_both = true}, &rejected)) == Row{"s1"});
  CHECK(rejected[0].study == "s2");
  CHECK(holds(rejected[0].reason, "findings"));
  CHECK(folder.image_path("a.png") == f.path / "images" / "a.png");
  // The cleaning rule is the selection's: `none` leaves s5 its blanks.
  const auto raw = folder.select({.split = "train", .cleaning = Cleaning::none});
  CHECK(ids(raw) == Row{"s1", "s2", "s5"});
  CHECK(raw[0].findings == "The heart is NORMAL.");
}

TEST_CASE("splits/ wins over the split column") {
  const test::ScratchFolder f;
  f.write("studies.csv", studies_csv);
  f.write("splits/train.txt", "s3\r\ns6\r\n");
  f.write("splits/test.txt", "s1\n\ns2");
  const DataFolder folder(f.path);
  CHECK(ids(folder.select({.split = "train"})) == Row{"s3", "s6"});
  CHECK(ids(folder.select({.split = "test"})) == Row{"s1", "s2"});
  CHECK(ids(folder.select({})) == Row{"s1", "s2", "s3", "s6"});
  const std::string e = error_of([&] { folder.select({.split = "valid"}); });
  CHECK_MESSAGE(holds(e, "valid"), e);
  CHECK_MESSAGE(holds(e, f.path.string()), e);
}

TEST_CASE(
    "which splits a folder has: splits/*.txt, else the column's values, else none; an empty file "
    "is a split without studies") {
  const test::ScratchFolder f;
  f.write(
      "studies.csv",
      "study_id,split,frontal_images,findings,impression\ns1,train,a.png,x,y\ns2,test,b.png,x,y\n");
  const auto of = [&] { return DataFolder(f.path); };
  CHECK(of().has_splits());
  CHECK(of().has_split("test"));
  CHECK_FALSE(of().has_split("valid"));
  fs::create_directories(f.path / "splits");
  CHECK(of().has_split("test"));  // nothing in it: the column
  f.write("splits/holdout.txt", "s1\r\n\r\n");
  CHECK(of().has_split("holdout"));
  CHECK_FALSE(of().has_split("test"));
  std::vector<Rejected> rejected;
  CHECK(of().select({.split = "holdout"}, &rejected).size() == 1);
  CHECK(rejected.empty());  // a line end alone is no study
  f.write("splits/test.txt", "");
  CHECK(of().has_split("test"));
  CHECK(of().select({.split = "test"}).empty());
  const test::ScratchFolder g;
  g.write("studies.csv", "study_id,frontal_images,findings,impression\ns1,a.png,x,y\n");
  CHECK_FALSE(DataFolder(g.path).has_splits());
  CHECK_FALSE(DataFolder(g.path).has_split("test"));
}

TEST_CASE("an unknown split is an error where only the table names splits") {
  const test::ScratchFolder f;
  f.write("studies.csv", studies_csv);
  const std::string e = error_of([&] { DataFolder(f.path).select({.split = "trian"}); });
  CHECK_MESSAGE(holds(e, "trian"), e);
}

TEST_CASE("where nothing tells the splits, a split is all rows") {
  // A folder for evaluation alone needs no splits.
  const test::ScratchFolder f;
  f.write("studies.csv",
          "study_id,frontal_images,findings,impression\ns1,a.png,x.,y.\ns2,b.png,x.,y.\n");
  const DataFolder folder(f.path);
  CHECK(ids(folder.select({})) == Row{"s1", "s2"});
  CHECK(ids(folder.select({.split = "test"})) == Row{"s1", "s2"});
}

TEST_CASE("column names can be told; a missing folder, table or column is named") {
  const test::ScratchFolder f;
  f.write("reports.csv", "dicom,images,Findings,Impression\n7,x.png,Clear.,Normal.\n");
  const DataFolder folder(f.path, {.columns = {.study = "dicom",
                                               .split = "split",
                                               .images = "images",
                                               .findings = "Findings",
                                               .impression = "Impression"},
                                   .table = "reports.csv"});
  CHECK(ids(folder.select({})) == Row{"7"});
  std::string e = error_of([&] { DataFolder(f.path, {.table = "reports.csv"}); });
  CHECK_MESSAGE(holds(e, "reports.csv"), e);
  e = error_of([&] {
    DataFolder(f.path, {.columns = {.study = "dicom",
                                    .images = "images",
                                    .findings = "finding",
                                    .impression = "Impression"},
                        .table = "reports.csv"})
        .select({});
  });
  CHECK_MESSAGE(holds(e, "'finding'"), e);
  CHECK_MESSAGE(holds(e, "--set column_findings='Findings'"), e);
  e = error_of([&] { DataFolder{f.path}; });
  CHECK_MESSAGE(holds(e, (f.path / "studies.csv").string()), e);
  e = error_of([&] { DataFolder{f.path / "nowhere"}; });
  CHECK_MESSAGE(holds(e, (f.path / "nowhere").string()), e);
}
