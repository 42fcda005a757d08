// Data that changed since the checkpoint, that training cannot use, or that is damaged on the way.
#include "hybridmed/data/studies.hpp"
#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {
/// A copy of the corpus that may be changed.
fs::path copied(const Run& r) {
  const fs::path to = r.scratch.path / "data";
  fs::copy(corpus().data, to, fs::copy_options::recursive);
  return to;
}
std::vector<std::string> lines_of(const fs::path& file) {
  return data::split_names(io::read_text(file), "\n");
}
std::string joined(const std::vector<std::string>& lines) {
  std::string s;
  for (const auto& l : lines) s += l + "\n";
  return s;
}
}  // namespace

TEST_CASE("a run is not resumed on other data; on the same data in another place it is") {
  for (const std::string change :
       {"a study less", "another text", "another split", "another end of the split", "nothing"}) {
    INFO(change);
    Run r;
    r.start(4);
    const Snapshot before = r.saved();
    const fs::path data = copied(r), table = data / "studies.csv",
                   train = data / "splits" / "train.txt";
    if (change == "a study less") {
      auto ids = lines_of(train);
      ids.pop_back();
      write_bytes(train, joined(ids));
    } else if (change == "another text") {
      std::string text = io::read_text(table);
      const auto at = text.find("the lungs");
      REQUIRE(at != text.npos);
      write_bytes(table, text.replace(at, 9, "two lungs"));
    } else if (change.starts_with("another ")) {
      auto ids = lines_of(train), valid = lines_of(data / "splits" / "valid.txt");
      if (change == "another split")
        std::swap(ids.front(), valid.front());
      else {
        valid.insert(valid.begin(), ids.back());
        ids.pop_back();
      }  // the studies and their order stay
      write_bytes(train, joined(ids));
      write_bytes(data / "splits" / "valid.txt", joined(valid));
    }
    r.config.data = data.string();
    if (change == "nothing") {
      CHECK(r.go(true, 5) == "");
      continue;
    }
    check_error(r.go(true, 5), data, {"not those that .* was trained on", "--init"});
    nothing_changed(before, r.saved());
    r.goes_on();
  }
}

TEST_CASE("a study in both splits and an image that is not there are found before the first step") {
  Run r;
  const fs::path data = copied(r), train = data / "splits" / "train.txt";
  r.config.data = data.string();
  auto ids = lines_of(train);
  const std::string valid = lines_of(data / "splits" / "valid.txt").front();
  ids.push_back(valid);
  write_bytes(train, joined(ids));
  check_error(r.go(false, 1), data, {"study " + valid + " is in split 'train' and in 'valid'"});
  ids.pop_back();
  write_bytes(train, joined(ids));
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}})
    fs::remove(data / "images" / (ids[i] + ".png"));
  check_error(r.go(false, 1), data / "images" / (ids[1] + ".png"),
              {"belongs to study " + ids[1], "line [0-9]+", "2 images are missing"});
  CHECK(train::list_checkpoints(r.folder).empty());
}

TEST_CASE(
    "a picture that is missing or damaged in the middle of a run: named, nothing lost, and on it "
    "goes once it is back") {
  struct Row {
    std::string name;
    std::function<void(const fs::path&)> damage;
    std::vector<std::string> patterns;
  };
  const auto valid = *ids_of("valid").begin();
  for (const Row& row :
       {Row{"missing", [](const fs::path& p) { fs::remove(p); }, {"No such file"}},
        {"cut", [](const fs::path& p) { fs::resize_file(p, 200); }, {"ends|[Pp]remature"}},
        {"no picture",
         [](const fs::path& p) { write_bytes(p, "notes"); },
         {"neither PNG nor JPEG"}}}) {
    INFO(row.name);
    Run r;
    fs::copy(corpus().data, r.scratch.path / "data", fs::copy_options::recursive);
    r.start(8);  // the next step ends the epoch: every validation picture is read
    r.config.data = (r.scratch.path / "data").string();
    row.damage(r.scratch.path / "data" / "images" / (valid + ".png"));
    const Snapshot before = r.saved();
    auto patterns = row.patterns;
    patterns.push_back("\\b" + valid + "\\b(?!\\.png)");
    patterns.push_back("line [0-9]+");
    check_error(r.go(true, -1), r.scratch.path / "data" / "images" / (valid + ".png"), patterns);
    nothing_changed(before, r.saved());
    r.goes_on();
  }
}

TEST_CASE("a table that training cannot use") {
  struct Row {
    std::string name, table;
    std::vector<std::string> patterns;
  };
  const std::string header = "study_id,split,frontal_images,findings,impression\n";
  std::string empty = header, unsplit = "study_id,frontal_images,findings,impression\n",
              no_valid = header;
  for (int i = 0; i < 20; ++i) {
    const std::string n = std::to_string(i);
    empty += "s" + n + (i % 2 ? ",train," : ",valid,") + n + ".png,,\n";
    unsplit += "s" + n + "," + n + ".png,Clear.,Normal.\n";
    no_valid += "s" + n + ",train," + n + ".png,Clear.,Normal.\n";
  }
  for (const Row& row :
       {Row{"every report is empty",
            empty,
            {"'train'", "no study", "neither findings nor impression|empty"}},
        {"no split column and no splits/: training and validation would be the same studies",
         unsplit,
         {"studies\\.csv", "'split'", "missing"}},
        {"no validation studies", no_valid, {"studies\\.csv", "'valid'", "no row"}}}) {
    INFO(row.name);
    Run r;
    const fs::path data = r.scratch.path / "data";
    write_bytes(data / "studies.csv", row.table);
    for (int i = 0; i < 20; ++i) {
      fs::create_directories(data / "images");
      fs::copy_file(corpus().data / "images" / "phantom0.png",
                    data / "images" / (std::to_string(i) + ".png"));
    }
    r.config.data = data.string();
    check_error(r.go(false, 1), data, row.patterns);
    CHECK(!fs::exists(r.folder));
  }
}

TEST_CASE("an empty report: training leaves it out and says which, where and why") {
  Run r;
  const fs::path data = r.scratch.path / "data";
  fs::copy(corpus().data, data, fs::copy_options::recursive);
  std::string table = io::read_text(data / "studies.csv");
  const auto row = table.find("phantom3,train,phantom3.png");
  REQUIRE(row != table.npos);
  const auto line =
      1 + std::count(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(row), '\n');
  table.replace(row, table.find('\n', row) - row, "phantom3,train,phantom3.png,,0,0,,");
  write_bytes(data / "studies.csv", table);
  r.config.data = data.string();
  std::string said;
  {
    Listening ear(r.scratch.path / "printed.txt");
    Trainer t(r.config, r.folder, false, 1);
    said = t.describe();
    CHECK_FALSE(t.run());
    said += ear.text();
  }
  CHECK(says(said, "\\b" + std::to_string(ids_of("train").size() - 1) + " training"));
  for (const std::string& p :
       {std::string("studies\\.csv"), "line " + std::to_string(line) + "\\b",
        std::string("phantom3\\b"), std::string("neither findings nor impression")})
    CHECK_MESSAGE(says(said, p), p, " is not said: ", said);
}
