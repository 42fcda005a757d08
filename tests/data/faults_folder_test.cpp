// Data folders: labels inside every check, splits that leak, lists with a byte-order mark, folders
// without reports.
#include <doctest/doctest.h>

#include <fstream>

#include "errors.hpp"
#include "hybridmed/data/studies.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;

namespace {

using Ids = std::vector<std::string>;
Ids ids(const std::vector<Study>& studies) {
  Ids out;
  for (const auto& s : studies) out.push_back(s.id);
  return out;
}
const std::string studies_csv =
    "study_id,split,frontal_images,findings,impression\ns1,train,1.png,Clear.,Normal.\ns2,train,2."
    "png,,Effusion.\ns3,valid,3.png,Large heart.,\ns4,test,4.png,,\ns5,test,5.png,.,-\n";

}  // namespace

TEST_CASE(
    "a study listed twice: with other values an error that names both lines, with the same ones a "
    "note") {
  const ScratchFolder f;
  f.write("studies.csv", studies_csv);
  f.write("labels.csv", "study_id,normal\ns1,1\ns2,0\ns1,0\n");
  const std::string e = error_of([&] { DataFolder(f.path).labels(); });
  CHECK_MESSAGE((holds(e, "lines 2 and 4") && holds(e, "'s1'")), e);
  std::vector<std::string> problems;
  CHECK(DataFolder(f.path).labels(&problems).of.size() == 2);
  REQUIRE(problems.size() == 1);
  CHECK(holds(problems[0], "different values"));
  f.write("labels.csv", "study_id,normal\ns1,1\ns2,0\ns1,1\n");
  CHECK(DataFolder(f.path).labels().of.at("s1") == std::vector<int>{1});
}

TEST_CASE("labels by name: the nearest name, what a column holds instead") {
  const ScratchFolder f;
  f.write("studies.csv", studies_csv);
  f.write("labels.csv", "study_id,age,Pleural Effusion\ns1,61,1\ns2,70,\n");
  const auto labels = DataFolder(f.path).labels();
  CHECK(labels.names == Ids{"Pleural Effusion"});
  CHECK(holds(error_of([&] { labels.at("Pleural effusion"); }), "'Pleural Effusion'"));
  CHECK(holds(error_of([&] { labels.at("age"); }), "'61' in line 2"));
}

TEST_CASE("a study in two splits is found, in lists and in the table") {
  const ScratchFolder f;
  f.write("studies.csv", studies_csv);
  CHECK(DataFolder(f.path).leaks().empty());
  f.write("splits/train.txt", "s1\ns2\n");
  f.write("splits/test.txt", "s4\ns2\n");
  auto leaks = DataFolder(f.path).leaks();
  REQUIRE(leaks.size() == 1);
  CHECK(leaks[0].study == "s2");
  CHECK(std::set<std::string>{leaks[0].first, leaks[0].second} ==
        std::set<std::string>{"train", "test"});
  const ScratchFolder g;
  g.write("studies.csv", studies_csv + "s1,test,1.png,Clear.,Normal.\n");
  leaks = DataFolder(g.path).leaks();
  REQUIRE(leaks.size() == 1);
  CHECK(leaks[0].study == "s1");
}

TEST_CASE("a split list with a byte-order mark, carriage returns and blanks loses no study") {
  const ScratchFolder f;
  f.write("studies.csv", studies_csv);
  f.write("splits/valid.txt", "\xEF\xBB\xBFs1\r\ns2 \r\n\r\ns3");
  std::vector<Rejected> rejected;
  CHECK(ids(DataFolder(f.path).select({.split = "valid"}, &rejected)) == Ids{"s1", "s2", "s3"});
  CHECK(rejected.empty());
}

TEST_CASE("what looks at images and labels alone takes studies without texts") {
  const ScratchFolder f;
  f.write("studies.csv", studies_csv);
  const DataFolder folder(f.path);
  CHECK(ids(folder.select({})) == Ids{"s1", "s2", "s3"});  // '.' and '-' are no texts
  CHECK(ids(folder.select({.needs_both = true})) == Ids{"s1"});
  CHECK(ids(folder.select({.needs_text = false})) == Ids{"s1", "s2", "s3", "s4", "s5"});
  CHECK(ids(folder.select({.split = "test", .needs_text = false})) == Ids{"s4", "s5"});
}

TEST_CASE("a folder of labelled images: no table at all, or a table without reports") {
  const ScratchFolder f;
  f.write("labels.csv", "study_id,nodule,effusion\na,1,\nb.png,0,-1\n");
  f.write("images/a.jpg", "x");
  f.write("images/b.png", "x");
  const DataFolder folder(f.path);
  CHECK_FALSE(folder.has_texts());
  const auto studies = folder.select({.needs_text = false});
  REQUIRE(studies.size() == 2);
  CHECK(studies[0].images == Ids{"a.jpg"});
  CHECK(studies[1].images == Ids{"b.png"});
  CHECK(folder.labels().names == Ids{"nodule", "effusion"});
  CHECK(holds(error_of([&] { folder.select({}); }), "'findings'"));

  const ScratchFolder g;
  g.write("studies.csv", "study_id,frontal_images,split\na,a.png,test\n");
  g.write("labels.csv", "study_id,nodule\na,1\n");
  const DataFolder table(g.path);
  CHECK(ids(table.select({.split = "test", .needs_text = false})) == Ids{"a"});
  CHECK(holds(error_of([&] { table.select({.split = "test"}); }), "'findings'"));
}
