// Data folders as people have them: other tables, splits and labels written in other ways.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "data/utf16.hpp"
#include "errors.hpp"
#include "hybridmed/data/studies.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;

namespace {

using Row = std::vector<std::string>;
using Names = std::set<std::string>;

/// How often a part stands in a text.
int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++n;
  }
  return n;
}

Row ids(const std::vector<Study>& studies) {
  Row out;
  for (const Study& s : studies) {
    out.push_back(s.id);
  }
  return out;
}

}  // namespace

TEST_CASE("a study table with semicolons, names in other case and a Latin-1 text") {
  const ScratchFolder f;
  f.write("studies.csv",
          "Study_ID;Split ;FRONTAL_IMAGES;Findings;Impression\n"
          "s1;train;\"a.png;b.png\";Pleuraergu\xDF, links.;Ergu\xDF.\n"
          "s2;test;c.png;Clear.;Normal.\n");
  const std::string e = error_of([&] { DataFolder(f.path).select({}); });
  CHECK_MESSAGE(holds(e, "studies.csv"), e);
  CHECK_MESSAGE(holds(e, "line 2"), e);
  CHECK_MESSAGE(holds(e, "0xDF"), e);
  CHECK_MESSAGE(holds(e, "--set encoding=latin-1"), e);
  const DataFolder folder(f.path, {.format = {.encoding = "latin-1"}});
  CHECK(folder.table().delimiter == ';');
  const std::vector<Study> studies = folder.select({});
  REQUIRE(ids(studies) == Row{"s1", "s2"});
  CHECK(studies[0].images == Row{"a.png", "b.png"});
  CHECK(studies[0].raw_findings == "Pleuraergu\xC3\x9F, links.");
  CHECK(studies[0].line == 2);
  CHECK(studies[1].split == "test");
  CHECK(studies[1].line == 3);
  CHECK(folder.image_path("c.png") == f.path / "images" / "c.png");
  CHECK(ids(folder.select({.split = "train"})) == Row{"s1"});
}

TEST_CASE("a study table in UTF-16 with tabs") {
  const ScratchFolder f;
  const std::u16string text =
      u"study_id\tsplit\tfrontal_images\tfindings\timpression\r\n"
      u"\u00FC1\ttrain\ta.png\tClear, dry.\tNormal.\r\n";
  f.write("studies.csv", utf16(text, false));
  const DataFolder folder(f.path);
  const std::vector<Study> studies = folder.select({.split = "train"});
  REQUIRE(ids(studies) == Row{"\xC3\xBC"
                              "1"});
  CHECK(studies[0].raw_findings == "Clear, dry.");
}

TEST_CASE("a missing column of the study table hints the key that names it") {
  const ScratchFolder f;
  f.write("studies.csv",
          "StudyInstanceUID,frontal_image,findings,impression\n"
          "s1,a.png,Clear.,Normal.\n");
  std::string e =
      error_of([&] { DataFolder(f.path, {.columns = {.study = "StudyInstanceUID"}}).select({}); });
  CHECK_MESSAGE(holds(e, "'frontal_images'"), e);
  CHECK_MESSAGE(holds(e, "--set column_images='frontal_image'"), e);
  const StudyColumns columns{.study = "studyinstanceuid", .images = "FRONTAL_IMAGE"};
  CHECK(ids(DataFolder(f.path, {.columns = columns}).select({})) == Row{"s1"});
}

TEST_CASE("labels and split lists find their own delimiter") {
  const ScratchFolder f;
  f.write("studies.csv",
          "study_id|frontal_images|findings|impression\n"
          "s1|a.png|Clear.|Normal.\n"
          "s2|b.png|Clear.|Normal.\n");
  f.write("splits/train.txt", "s2\n");
  const DataFolder folder(f.path, {.format = {.delimiter = "|"}});
  CHECK(folder.table().delimiter == '|');
  CHECK(ids(folder.select({.split = "train"})) == Row{"s2"});
  for (const std::string d : {",", ";", "\t"}) {
    CAPTURE(d);
    f.write("labels.csv", "study_id" + d + "nodule" + d + "edema\ns1" + d + "1" + d + "0\n");
    const Labels labels = DataFolder(f.path, {.format = {.delimiter = "|"}}).labels();
    CHECK(labels.names == Row{"nodule", "edema"});
    CHECK(labels.of.at("s1") == std::vector<int>{1, 0});
  }
}

TEST_CASE("labels and split lists take the encoding only where they are no UTF-8") {
  const std::string id = "pat-\xC3\xBC";
  const std::string label =
      "\xC3\x96"
      "dem";
  for (const bool utf8 : {true, false}) {
    CAPTURE(utf8);
    const ScratchFolder f;
    f.write("studies.csv",
            "study_id,frontal_images,findings,impression\n"
            "pat-\xFC,a.png,Clear.,Normal.\n"
            "pat-b,b.png,Clear.,Normal.\n");
    const std::string file_id = utf8 ? id : "pat-\xFC";
    const std::string file_label = utf8 ? label : std::string("\xD6") + "dem";
    f.write("labels.csv", "study_id," + file_label + "\n" + file_id + ",1\n");
    f.write("splits/train.txt", file_id + "\n");
    const DataFolder folder(f.path, {.format = {.encoding = "latin-1"}});
    CHECK(ids(folder.select({})) == Row{id, "pat-b"});
    CHECK(ids(folder.select({.split = "train"})) == Row{id});
    CHECK(folder.listed_without_row().empty());
    const Labels labels = folder.labels();
    CHECK(labels.names == Row{label});
    REQUIRE(labels.of.count(id) == 1);
    CHECK(labels.of.at(id) == std::vector<int>{1});
  }
}

namespace {

const std::string spelled =
    "study_id,split,frontal_images,findings,impression\n"
    "s1,Train,1.png,Clear.,Normal.\n"
    "s2,TRAIN ,2.png,Clear.,Normal.\n"
    "s3,test,3.png,Clear.,Normal.\n"
    "s4,Train,4.png,Clear.,Normal.\n";

}  // namespace

TEST_CASE("splits of the table compare without case and without blanks around them") {
  const ScratchFolder f;
  f.write("studies.csv", spelled);
  const DataFolder folder(f.path);
  for (const std::string name : {"train", "Train", "TRAIN", " tRain "}) {
    CAPTURE(name);
    CHECK(ids(folder.select({.split = name})) == Row{"s1", "s2", "s4"});
    CHECK(folder.has_split(name));
  }
  CHECK(ids(folder.select({.split = "TEST"})) == Row{"s3"});
  CHECK_FALSE(folder.has_split("valid"));
  CHECK(folder.splits().size() == 2);
  CHECK(folder.splits().count("test") == 1);
  // The spellings are kept for who reports them.
  std::size_t spellings = 0;
  for (const auto& [name, set] : folder.split_spellings()) {
    if (set.count("Train") == 1) {
      spellings = set.size();
    }
  }
  CHECK(spellings == 2);
}

TEST_CASE("a study in Train and TRAIN is in one split, a study in Train and Test in two") {
  const ScratchFolder f;
  f.write("studies.csv", spelled + "s1,TRAIN,1.png,Clear.,Normal.\n");
  CHECK(DataFolder(f.path).leaks().empty());
  f.write("studies.csv", spelled + "s1,Test,1.png,Clear.,Normal.\n");
  const auto leaks = DataFolder(f.path).leaks();
  REQUIRE(leaks.size() == 1);
  CHECK(leaks[0].study == "s1");
}

TEST_CASE("files of splits compare without case") {
  const ScratchFolder f;
  f.write("studies.csv", spelled);
  f.write("splits/Train.txt", "s3\ns9\n");
  f.write("splits/TEST.txt", "s1\ns3\n");
  const DataFolder folder(f.path);
  CHECK(ids(folder.select({.split = "train"})) == Row{"s3"});
  CHECK(ids(folder.select({.split = "Test"})) == Row{"s1", "s3"});
  CHECK(folder.has_split("TRAIN"));
  CHECK_FALSE(folder.has_split("valid"));
  CHECK(folder.splits().size() == 2);

  const std::vector<Rejected> missing = folder.listed_without_row();
  REQUIRE(missing.size() == 1);
  CHECK(missing[0].study == "s9");

  // s3 is in both lists, s1 in one; s2 in none, whatever the column says.
  const std::vector<Study> all = folder.select({});
  REQUIRE(ids(all) == Row{"s1", "s2", "s3", "s4"});
  CHECK(folder.splits_of(all[0]).size() == 1);
  CHECK(folder.splits_of(all[1]).empty());
  CHECK(folder.splits_of(all[2]).size() == 2);
  const auto leaks = folder.leaks();
  REQUIRE(leaks.size() == 1);
  CHECK(leaks[0].study == "s3");
}

TEST_CASE("an unknown split names the nearest one and all there are") {
  const std::string header = "study_id,split,frontal_images,findings,impression\n";
  const std::string rows =
      "s1,fold_a,1.png,Clear.,Normal.\n"
      "s2,holdout,2.png,Clear.,Normal.\n"
      "s3,external,3.png,Clear.,Normal.\n";
  const ScratchFolder table;
  table.write("studies.csv", header + rows);
  const ScratchFolder lists;
  lists.write("studies.csv", header + rows);
  lists.write("splits/fold_a.txt", "s1\n");
  lists.write("splits/holdout.txt", "s2\n");
  lists.write("splits/external.txt", "s3\n");
  for (const std::filesystem::path& path : {table.path, lists.path}) {
    const std::string e = error_of([&] { DataFolder(path).select({.split = "holduot"}); });
    CHECK_MESSAGE(holds(e, "'holduot'"), e);
    CHECK_MESSAGE(holds(e, "fold_a"), e);
    CHECK_MESSAGE(holds(e, "external"), e);
    // Once more than the others: as the nearest and among all.
    CHECK_MESSAGE(count(e, "holdout") > count(e, "fold_a"), e);
    CHECK_MESSAGE(count(e, "holdout") > count(e, "external"), e);
  }
}

namespace {

const std::string nih =
    "Image Index,Finding Labels,Patient Age\n"
    "00000001_000.png,Cardiomegaly|Effusion,58\n"
    "00000002_000.png,No Finding,80\n"
    "00000003_000.png,,70\n"
    "00000004_000.png,Effusion,33\n";

void write_nih(const ScratchFolder& f) {
  f.write("labels.csv", nih);
  for (const std::string name : {"1", "2", "3", "4"}) {
    f.write("images/0000000" + name + "_000.png", "x");
  }
}

}  // namespace

TEST_CASE("a column of label names between bars: every name is a label, an empty cell is unknown") {
  const ScratchFolder f;
  write_nih(f);
  const StudyColumns columns{.images = "Image Index", .labels = "Finding Labels"};
  const DataFolder folder(f.path, {.columns = columns});
  // Without a study column the images are the studies.
  const std::vector<Study> studies = folder.select({.needs_text = false});
  REQUIRE(studies.size() == 4);
  CHECK(studies[0].id == "00000001_000.png");
  CHECK(studies[0].images == Row{"00000001_000.png"});
  CHECK(studies[3].id == "00000004_000.png");
  CHECK(studies[3].images == Row{"00000004_000.png"});

  const Labels labels = folder.labels();
  CHECK(labels.names == Row{"Cardiomegaly", "Effusion", "No Finding"});
  REQUIRE(labels.of.size() == 4);
  CHECK(labels.of.at("00000001_000.png") == std::vector<int>{1, 1, 0});
  CHECK(labels.of.at("00000002_000.png") == std::vector<int>{0, 0, 1});
  CHECK(labels.of.at("00000003_000.png") == std::vector<int>(3, Labels::unknown));
  CHECK(labels.of.at("00000004_000.png") == std::vector<int>{0, 1, 0});
  CHECK(labels.at("Effusion") == 1);
  CHECK(labels.at("No Finding") == 2);
  const std::string e = error_of([&] { labels.at("Efusion"); });
  CHECK_MESSAGE(holds(e, "'Effusion'"), e);
  CHECK_MESSAGE(holds(e, "Efusion"), e);
}

TEST_CASE("the columns of a list of labels are found without case") {
  const ScratchFolder f;
  write_nih(f);
  const StudyColumns columns{.images = "image index", .labels = "FINDING LABELS"};
  const Labels labels = DataFolder(f.path, {.columns = columns}).labels();
  CHECK(labels.names == Row{"Cardiomegaly", "Effusion", "No Finding"});
  CHECK(labels.of.at("00000002_000.png") == std::vector<int>{0, 0, 1});
}

TEST_CASE("a label asked of a folder with a list of names hints the column of lists") {
  const ScratchFolder f;
  write_nih(f);
  const DataFolder folder(f.path, {.columns = {.images = "Image Index"}});
  const std::string e = error_of([&] { folder.labels().at("Effusion"); });
  CHECK_MESSAGE(holds(e, "'Effusion'"), e);
  CHECK_MESSAGE(holds(e, "--set column_labels="), e);
  CHECK_MESSAGE(holds(e, "Finding Labels"), e);
  // Not where the labels are columns of numbers.
  const ScratchFolder g;
  g.write("labels.csv", "study_id,Edema,Effusion\na,1,0\n");
  g.write("images/a.png", "x");
  const std::string other = error_of([&] { DataFolder(g.path).labels().at("Efusion"); });
  CHECK_MESSAGE(holds(other, "'Effusion'"), other);
  CHECK_MESSAGE(!holds(other, "column_labels"), other);
}

TEST_CASE("a column of labels that is not there is an error with the nearest column") {
  const ScratchFolder f;
  write_nih(f);
  const StudyColumns columns{.images = "Image Index", .labels = "Finding Label"};
  const std::string e = error_of([&] { DataFolder(f.path, {.columns = columns}).labels(); });
  CHECK_MESSAGE(holds(e, "'Finding Label'"), e);
  CHECK_MESSAGE(holds(e, "--set column_labels='Finding Labels'"), e);
}

TEST_CASE("a folder with labels alone: its rows are the studies, with their splits") {
  const ScratchFolder f;
  f.write("labels.csv", "frontal_images,split,nodule\nb.png,Train,1\na.png,test,0\n");
  f.write("images/a.png", "x");
  f.write("images/b.png", "x");
  const DataFolder folder(f.path);
  const std::vector<Study> studies = folder.select({.needs_text = false});
  REQUIRE(studies.size() == 2);
  CHECK(studies[0].images == Row{"b.png"});
  CHECK(studies[1].images == Row{"a.png"});
  const std::vector<Study> train = folder.select({.split = "train", .needs_text = false});
  REQUIRE(train.size() == 1);
  CHECK(train[0].images == Row{"b.png"});
  const Labels labels = folder.labels();
  CHECK(labels.names == Row{"nodule"});
  CHECK(labels.of.at(train[0].id) == std::vector<int>{1});
  CHECK(labels.of.at(studies[1].id) == std::vector<int>{0});
}

TEST_CASE("labels by image belong to the study that has the image") {
  const ScratchFolder f;
  f.write("studies.csv",
          "study_id,frontal_images,findings,impression\n"
          "s1,a.png;b.png,Clear.,Normal.\n"
          "s2,c.png,Clear.,Normal.\n"
          "s3,d.png,Clear.,Normal.\n");
  f.write("labels.csv", "frontal_images,nodule,edema\nc.png,1,0\nb.png,0,-1\n");
  const Labels labels = DataFolder(f.path).labels();
  CHECK(labels.names == Row{"nodule", "edema"});
  CHECK(labels.of.size() == 2);
  REQUIRE(labels.of.count("s1") == 1);
  CHECK(labels.of.at("s1") == std::vector<int>{0, Labels::uncertain});
  REQUIRE(labels.of.count("s2") == 1);
  CHECK(labels.of.at("s2") == std::vector<int>{1, 0});
  CHECK(labels.of.count("s3") == 0);
}

TEST_CASE("blank cells are unknown, -1 is uncertain") {
  const ScratchFolder f;
  f.write("studies.csv", spelled);
  f.write("labels.csv", "Study_ID,nodule,edema\ns1, ,-1\ns2,-1,\ns3,1,  \ns4,0,1\n");
  const Labels labels = DataFolder(f.path).labels();
  CHECK(labels.names == Row{"nodule", "edema"});
  CHECK(Labels::uncertain == -1);
  CHECK(Labels::unknown == -2);
  CHECK(labels.of.at("s1") == std::vector<int>{-2, -1});
  CHECK(labels.of.at("s2") == std::vector<int>{-1, -2});
  CHECK(labels.of.at("s3") == std::vector<int>{1, -2});
  CHECK(labels.of.at("s4") == std::vector<int>{0, 1});
}

TEST_CASE(
    "label names that differ only in case, or that hold commas, are refused; study ids are "
    "compared without blanks") {
  const ScratchFolder f;
  const StudyColumns columns{.labels = "names"};
  f.write("labels.csv", "study_id,names\na,Effusion\nb,effusion|Mass\n");
  CHECK(holds(error_of([&] { DataFolder(f.path, {.columns = columns}); }), "differ only in case"));
  f.write("labels.csv", "study_id,names\na,\"Effusion, Mass\"\nb,Mass\n");
  CHECK(holds(error_of([&] { DataFolder(f.path, {.columns = columns}); }), "separated by '|'"));
  const ScratchFolder g;
  g.write("studies.csv",
          "study_id,split,frontal_images,findings,impression\n\"K1 "
          "\",train,a.png,x,y\nK2,test,b.png,x,y\n");
  g.write("labels.csv", "study_id,nodule\nK1,1\n K2\xC2\xA0,0\n");
  const DataFolder folder(g.path);
  CHECK(folder.select({})[0].id == "K1");
  CHECK(folder.labels().of.at("K2") == std::vector<int>{0});
}

TEST_CASE(
    "a split column that was asked for by name must be there; files in splits/ that are no lists "
    "are not passed over") {
  const ScratchFolder f;
  f.write("studies.csv", "study_id,Menge,frontal_images,findings,impression\na,train,a.png,x,y\n");
  const StudyColumns columns{.split = "Mengee"};
  CHECK(holds(error_of([&] { DataFolder(f.path, {.columns = columns}); }),
              "--set column_split='Menge'"));
  f.write("splits/train.csv", "a\n");
  CHECK(holds(error_of([&] { DataFolder{f.path}; }), "train.csv"));
  f.write("splits/TEST.TXT", "a\n");
  CHECK(DataFolder(f.path).splits() == std::set<std::string>{"test"});
}
