// Tables, data folders, phantoms, datasets and the loader.
#include <doctest/doctest.h>

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "errors.hpp"
#include "hybridmed/data/csv.hpp"
#include "hybridmed/data/dataset.hpp"
#include "hybridmed/data/loader.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/data/studies.hpp"

using namespace hybridmed;
using hybridmed::test::error_of;
using hybridmed::test::holds;
using namespace hybridmed::data;
namespace fs = std::filesystem;

namespace {

std::string bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {(std::istreambuf_iterator<char>(in)), {}};
}

using Row = std::vector<std::string>;
std::vector<std::string> ids(const std::vector<Study>& studies) {
  std::vector<std::string> out;
  for (const auto& s : studies) out.push_back(s.id);
  return out;
}

}  // namespace

// ---------------------------------------------------------------- CSV

TEST_CASE("CSV: quotes, commas, line breaks, CRLF, BOM, no final newline") {
  const Table t = parse_csv(
      "a,b,c\n1,2,3\n\"x,y\",\"he said \"\"no\"\"\",\"two\nlines\"\n,\"\",\"\"\"\"\n7,8,9",
      "t.csv");
  CHECK(t.columns == Row{"a", "b", "c"});
  REQUIRE(t.rows.size() == 4);
  CHECK(t.rows[0] == Row{"1", "2", "3"});
  CHECK(t.rows[1] == Row{"x,y", "he said \"no\"", "two\nlines"});
  CHECK(t.rows[2] == Row{"", "", "\""});
  CHECK(t.rows[3] == Row{"7", "8", "9"});
  CHECK(t.lines == std::vector<std::size_t>{2, 3, 5, 6});  // a row's line is where it begins
  CHECK(t.column("c") == 2);

  const Table crlf = parse_csv(
      "\xEF\xBB\xBF"
      "a,b\r\n1,\"x\r\ny\"\r\n3,4\r\n",
      "t.csv");
  CHECK(crlf.columns == Row{"a", "b"});
  REQUIRE(crlf.rows.size() == 2);
  CHECK(crlf.rows[0] == Row{"1", "x\r\ny"});
  CHECK(crlf.rows[1] == Row{"3", "4"});
  CHECK(crlf.lines == std::vector<std::size_t>{2, 4});

  CHECK(parse_csv("a,b\n1,", "t.csv").rows == std::vector<Row>{{"1", ""}});
  CHECK(parse_csv("a\n\"x\"", "t.csv").rows == std::vector<Row>{{"x"}});
  CHECK(parse_csv("a,b\n\n1,2\n\n", "t.csv").lines ==
        std::vector<std::size_t>{3});  // empty lines are no rows
  CHECK(parse_csv("a,b\n", "t.csv").rows.empty());
  CHECK(parse_csv("a,b\n 1 , 2\n", "t.csv").rows[0] ==
        Row{" 1 ", " 2"});  // spaces belong to the field
}

TEST_CASE("CSV: a written field reads back") {
  for (const std::string& s : {std::string(""), std::string("plain"), std::string("a,b"),
                               std::string("say \"no\""), std::string("two\nlines"),
                               std::string("cr\rlf"), std::string("\""), std::string(" spaces ")}) {
    const Table t = parse_csv("a,b\n" + csv_field(s) + ",x\n", "t.csv");
    REQUIRE(t.rows.size() == 1);
    CHECK(t.rows[0] == Row{s, "x"});
  }
  CHECK(csv_field("plain") == "plain");
}

// ---------------------------------------------------------------- data folders

namespace {
const char* studies_csv =
    "study_id,split,frontal_images,findings,impression\n"
    "s1,train,a.png;b.png,The heart is NORMAL.,Normal chest.\n"
    "s2,train,c.png,,No effusion.\n"
    "s3,valid,d.png,Clear.,\n"
    "s4,train,,Clear.,Normal.\n"
    "s5,train,e.png,XXXX,___\n"
    "s1,train,f.png,Again.,Again.\n"
    ",train,g.png,Nobody.,Nobody.\n"
    "s6,test,h.png,\"One, two.\n\nThree.\",Four.\n";
}

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

TEST_CASE("labels: present, absent, uncertain or unknown; not indexed studies left out") {
  const test::ScratchFolder f;
  f.write("studies.csv", studies_csv);
  CHECK(DataFolder(f.path).labels().of.empty());  // labels.csv is optional
  f.write(
      "labels.csv",
      "study_id,split,not_indexed,normal,effusion\ns1,train,0,1,0\ns2,train,1,,\ns3,valid,0,0,1\n");
  const auto labels = DataFolder(f.path).labels();
  CHECK(labels.names == Row{"normal", "effusion"});
  CHECK(labels.of.size() == 2);
  CHECK(labels.of.at("s1") == std::vector<int>{1, 0});
  CHECK(labels.of.at("s3") == std::vector<int>{0, 1});
  for (const auto& [value, want] : {std::pair{"", Labels::unknown},
                                    {"-1", Labels::uncertain},
                                    {"-1.0", Labels::uncertain},
                                    {"1.0", 1},
                                    {"0.0", 0},
                                    {" 1", 1}}) {
    f.write("labels.csv",
            std::string("study_id,not_indexed,normal,effusion\ns1,0,1,0\ns3,0,0,") + value + "\n");
    CHECK_MESSAGE((DataFolder(f.path).labels().of.at("s3") == std::vector<int>{0, want}), value);
  }
  for (const char* value : {"2", "yes", "nan", "1;0", "-2"}) {
    f.write("labels.csv",
            std::string("study_id,not_indexed,normal,effusion\ns1,0,1,0\ns3,0,0,") + value + "\n");
    const auto other = DataFolder(f.path).labels();
    CHECK(other.names ==
          Row{"normal"});  // the column holds something else: an error only for who needs it
    CHECK(other.at("normal") == 0);
    const std::string e = error_of([&] { other.at("effusion"); });
    CHECK_MESSAGE(holds(e, (f.path / "labels.csv").string()), e);
    CHECK_MESSAGE(holds(e, "line 3"), e);
    CHECK_MESSAGE(holds(e, "'effusion'"), e);
    CHECK_MESSAGE(holds(e, "'" + std::string(value) + "'"), e);
  }
  f.write("labels.csv", "study,normal\ns1,1\n");
  const std::string e = error_of([&] { DataFolder(f.path).labels(); });
  CHECK_MESSAGE(holds(e, "'study_id'"), e);
}

// ---------------------------------------------------------------- phantoms

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

// ---------------------------------------------------------------- dataset and loader

namespace {

/// A small phantom corpus, one study with three frontal images among them.
struct Corpus {
  test::ScratchFolder files;
  std::unique_ptr<DataFolder> folder;
  WordPiece vocabulary;
  std::vector<Study> studies;

  explicit Corpus(std::size_t count = 23) {
    PhantomOptions o;
    o.count = count;
    o.side = 20;
    o.valid = 0;
    o.test = 0;
    o.missing = 0.3;
    write_phantoms(files.path, o);
    folder = std::make_unique<DataFolder>(files.path);
    studies = folder->select({});
    std::vector<std::string> texts;
    for (const auto& s : studies) {
      texts.push_back(s.findings);
      texts.push_back(s.impression);
    }
    vocabulary = train_wordpiece(texts, 150);
    studies[4].images = {"phantom4.png", "phantom5.png", "phantom6.png"};
  }
  Dataset dataset(std::size_t cache_bytes = std::size_t{1} << 30) const {
    DatasetOptions o;
    o.transform.image_size = 14;
    o.transform.resize = 16;
    o.transform.jitter_brightness = 0.1;
    o.transform.jitter_contrast = 0.2;
    o.t_findings = 20;
    o.t_impression = 8;
    o.cache_bytes = cache_bytes;
    return Dataset(*folder, studies, vocabulary, o);
  }
};

bool equal(const HostBatch& a, const HostBatch& b) {
  return a.studies == b.studies && a.findings == b.findings && a.impression == b.impression &&
         a.findings_offsets == b.findings_offsets && a.impression_offsets == b.impression_offsets &&
         a.keys == b.keys && a.images.shape() == b.images.shape() &&
         std::equal(a.images.begin(), a.images.end(), b.images.begin());
}
std::vector<HostBatch> all(Loader& loader) {
  std::vector<HostBatch> out;
  while (auto b = loader.next()) out.push_back(std::move(*b));
  CHECK(!loader.next().has_value());  // the end stays the end
  return out;
}
std::vector<HostBatch> epoch_of(const Dataset& d, LoaderOptions o, std::uint64_t seed,
                                std::uint64_t epoch, std::size_t first = 0) {
  Loader loader(d, o, Philox(seed), epoch, first);
  return all(loader);
}
bool equal(const std::vector<HostBatch>& a, const std::vector<HostBatch>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!equal(a[i], b[i])) return false;
  return true;
}

}  // namespace

TEST_CASE("a batch holds the studies' sections, keys and centre crops") {
  const Corpus c;
  const Dataset d = c.dataset();
  REQUIRE(d.size() == 23);
  const HostBatch b = d.batch({3, 0, 7}, nullptr);
  CHECK(b.studies == std::vector<std::size_t>{3, 0, 7});
  REQUIRE(b.images.shape()[0] == 3);
  REQUIRE(b.images.shape()[1] == 14);
  REQUIRE(b.images.shape()[2] == 14);
  REQUIRE(b.findings_offsets.size() == 4);
  REQUIRE(b.impression_offsets.size() == 4);
  CHECK((b.findings_offsets[0] == 0 && b.impression_offsets[0] == 0));
  CHECK(b.findings_offsets[3] == static_cast<std::int32_t>(b.findings.size()));
  for (std::size_t k = 0; k < 3; ++k) {
    const std::size_t i = b.studies[k];
    const Study& s = d.study(i);
    CHECK(std::vector<std::int32_t>(b.findings.begin() + b.findings_offsets[k],
                                    b.findings.begin() + b.findings_offsets[k + 1]) ==
          c.vocabulary.encode_section(s.findings, 20));
    CHECK(std::vector<std::int32_t>(b.impression.begin() + b.impression_offsets[k],
                                    b.impression.begin() + b.impression_offsets[k + 1]) ==
          c.vocabulary.encode_section(s.impression, 8));
    const Square square = make_square(read_image(c.folder->image_path(s.images[0])), 16);
    float worst = 0;
    for (std::size_t y = 0; y < 14; ++y)
      for (std::size_t x = 0; x < 14; ++x)
        worst = std::max(
            worst, std::abs(b.images(k, y, x) - (square.bytes[(y + 1) * 16 + x + 1] / 127.5f - 1)));
    CHECK(worst < 1e-6f);
  }
  // Equal cleaned impressions share a key, different ones do not.
  for (std::size_t i = 0; i < d.size(); ++i)
    for (std::size_t j = 0; j < d.size(); ++j)
      CHECK((d.key(i) == d.key(j)) == (d.study(i).impression == d.study(j).impression));
  // An absent section has no tokens.
  std::size_t absent = 0;
  for (std::size_t i = 0; i < d.size(); ++i) {
    absent += d.findings(i).empty() + d.impression(i).empty();
    CHECK(d.findings(i).empty() == d.study(i).findings.empty());
  }
  CHECK(absent > 0);
  CHECK(d.batch({0, 1}, nullptr, false).images.size() == 0);  // text only
}

TEST_CASE("several frontal images: the first in evaluation, a seeded choice in training") {
  const Corpus c;
  const Dataset d = c.dataset();
  const auto first = d.batch({4}, nullptr);
  Corpus single;
  single.studies[4].images = {"phantom4.png"};
  CHECK(equal(first, single.dataset().batch({4}, nullptr)));
  // Which picture it was: compare with each alone under the same random numbers.
  std::map<std::size_t, int> chosen;
  for (std::uint64_t k = 0; k < 60; ++k) {
    const Philox random(9, k);
    const auto b = d.batch({4}, &random);
    CHECK(equal(b, d.batch({4}, &random)));
    for (std::size_t i = 0; i < 3; ++i) {
      single.studies[4].images = {"phantom" + std::to_string(4 + i) + ".png"};
      if (equal(b, single.dataset().batch({4}, &random))) ++chosen[i];
    }
  }
  CHECK(chosen.size() == 3);
  CHECK(chosen[0] + chosen[1] + chosen[2] == 60);
  for (const auto& [i, n] : chosen) CHECK(n > 8);
}

TEST_CASE("batches do not depend on the number of workers or on the cache") {
  const Corpus c;
  const Dataset d = c.dataset();
  for (bool shuffle : {false, true}) {
    CAPTURE(shuffle);
    const auto expected = epoch_of(d, {.batch = 4, .shuffle = shuffle, .workers = 0}, 1, 2);
    CHECK(expected.size() == 6);
    CHECK(expected.back().studies.size() == 3);
    for (int workers : {1, 2, 4}) {
      CAPTURE(workers);
      CHECK(
          equal(epoch_of(d, {.batch = 4, .shuffle = shuffle, .workers = workers}, 1, 2), expected));
      CHECK(
          equal(epoch_of(c.dataset(0), {.batch = 4, .shuffle = shuffle, .workers = workers}, 1, 2),
                expected));  // nothing kept
      CHECK(equal(
          epoch_of(c.dataset(600), {.batch = 4, .shuffle = shuffle, .workers = workers}, 1, 2),
          expected));  // two squares kept
    }
  }
}

TEST_CASE("shuffling is a permutation that depends on seed and epoch alone") {
  const Corpus c;
  const Dataset d = c.dataset();
  const LoaderOptions o{.batch = 5, .shuffle = true, .workers = 2};
  const auto order = [&](std::uint64_t seed, std::uint64_t epoch) {
    std::vector<std::size_t> out;
    for (const auto& b : epoch_of(d, o, seed, epoch))
      out.insert(out.end(), b.studies.begin(), b.studies.end());
    return out;
  };
  const auto a = order(1, 0);
  CHECK(a.size() == 23);
  CHECK(std::set<std::size_t>(a.begin(), a.end()).size() == 23);
  CHECK(!std::is_sorted(a.begin(), a.end()));
  CHECK(order(1, 0) == a);
  CHECK(order(1, 1) != a);
  CHECK(order(2, 0) != a);
  CHECK(equal(epoch_of(d, o, 1, 0), epoch_of(d, o, 1, 0)));
  const auto plain = epoch_of(d, {.batch = 23, .shuffle = false, .workers = 1}, 1, 0);
  REQUIRE(plain.size() == 1);
  CHECK(std::is_sorted(plain[0].studies.begin(), plain[0].studies.end()));
  // A study's crop is another one in the next epoch, whatever its place in the order.
  const auto crop_of = [&](std::uint64_t epoch, std::size_t study) {
    for (const auto& b : epoch_of(d, o, 1, epoch))
      for (std::size_t k = 0; k < b.studies.size(); ++k)
        if (b.studies[k] == study)
          return std::vector<float>(b.images.begin() + static_cast<std::ptrdiff_t>(k * 196),
                                    b.images.begin() + static_cast<std::ptrdiff_t>((k + 1) * 196));
    return std::vector<float>();
  };
  CHECK(crop_of(0, 3) != crop_of(1, 3));
  // Fisher-Yates is fair: over many seeds each value comes first about equally often.
  std::vector<int> firsts(5);
  for (std::uint64_t s = 0; s < 2000; ++s) ++firsts[shuffled(5, Philox(s))[0]];
  for (int n : firsts) CHECK((n > 320 && n < 480));
}

TEST_CASE("starting at batch k equals skipping k batches") {
  const Corpus c;
  const Dataset d = c.dataset();
  for (int workers : {0, 1, 3}) {
    const LoaderOptions o{.batch = 4, .shuffle = true, .workers = workers};
    const auto whole = epoch_of(d, o, 5, 1);
    for (std::size_t first = 0; first <= whole.size() + 1; ++first) {
      const auto rest = epoch_of(d, o, 5, 1, first);
      CHECK(equal(rest, std::vector<HostBatch>(whole.begin() + static_cast<std::ptrdiff_t>(
                                                                   std::min(first, whole.size())),
                                               whole.end())));
    }
  }
}

TEST_CASE("drop_last, batch sizes and empty datasets") {
  const Corpus c;
  const Dataset d = c.dataset();
  CHECK(Loader(d, {.batch = 4, .drop_last = true}, Philox(0), 0).batches() == 5);
  CHECK(Loader(d, {.batch = 4, .drop_last = false}, Philox(0), 0).batches() == 6);
  CHECK(epoch_of(d, {.batch = 4, .drop_last = true, .workers = 2}, 0, 0).size() == 5);
  CHECK(epoch_of(d, {.batch = 23, .drop_last = true}, 0, 0).size() == 1);
  CHECK(epoch_of(d, {.batch = 24, .drop_last = true}, 0, 0).empty());
  CHECK(epoch_of(d, {.batch = 1000}, 0, 0).size() == 1);
  CHECK(epoch_of(d, {.batch = 1}, 0, 0).size() == 23);
  const auto texts = epoch_of(d, {.batch = 4, .workers = 2, .images = false}, 0, 0),
             pictures = epoch_of(d, {.batch = 4, .workers = 2}, 0, 0);
  REQUIRE(texts.size() == 6);
  for (std::size_t k = 0; k < 6; ++k)
    CHECK((texts[k].images.size() == 0 &&
           pictures[k].images.size() == pictures[k].studies.size() * 196 &&
           texts[k].impression == pictures[k].impression));
  CHECK_THROWS_AS(Loader(d, {.batch = 0}, Philox(0), 0), Error);
  Corpus none;
  none.studies.clear();
  CHECK(epoch_of(none.dataset(), {.batch = 4, .workers = 2}, 0, 0).empty());
}

TEST_CASE("a missing or damaged picture throws at its own batch, in the caller, naming the file") {
  const Corpus c;
  const fs::path gone = c.files.path / "images" / "phantom13.png",
                 damaged = c.files.path / "images" / "phantom21.png";
  fs::remove(gone);
  std::ofstream(damaged) << "no picture";
  const Dataset d = c.dataset();
  for (int workers : {0, 1, 2, 4}) {
    CAPTURE(workers);
    Loader loader(d, {.batch = 4, .workers = workers}, Philox(0), 0);
    for (int k = 0; k < 6; ++k) {
      CAPTURE(k);
      std::optional<HostBatch> b;
      const std::string e = error_of([&] { b = loader.next(); });
      if (k == 3)
        CHECK_MESSAGE(holds(e, gone.string()), e);  // studies 12..15
      else if (k == 5)
        CHECK_MESSAGE(holds(e, damaged.string()), e);  // studies 20..22
      else
        CHECK_MESSAGE(
            (e.empty() && b.has_value() && b->studies[0] == static_cast<std::size_t>(4 * k)), e);
    }
    CHECK(!loader.next().has_value());
  }
  // A study without pictures is an error that names it.
  Corpus bare;
  bare.studies[2].images.clear();
  const Dataset nothing = bare.dataset();
  const std::string e = error_of([&] { nothing.batch({2}, nullptr); });
  CHECK_MESSAGE(holds(e, bare.studies[2].id), e);
}

TEST_CASE("a loader can be left at any time") {
  const Corpus c;
  const Dataset d = c.dataset();
  const auto start = std::chrono::steady_clock::now();
  for (int workers : {0, 1, 2, 4})
    for (int taken = 0; taken <= 7; ++taken)
      for (int wait : {0, 1}) {
        Loader loader(d, {.batch = 4, .shuffle = true, .workers = workers}, Philox(0), 0);
        for (int k = 0; k < taken; ++k) loader.next();
        if (wait)
          std::this_thread::sleep_for(std::chrono::milliseconds(2));  // workers then wait for room
      }
  fs::remove(c.files.path / "images" / "phantom1.png");
  const Dataset broken = c.dataset(0);
  for (int k = 0; k < 20; ++k)
    Loader loader(broken, {.batch = 1, .workers = 3}, Philox(0), 0);  // errors that nobody collects
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
}
