// What `check` finds: splits, patients, texts, pictures, labels.
#include <string>

#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE(
    "splits that lead nowhere, and a validation on training studies, are refused by check as by "
    "pretrain") {
  const Data d;
  fs::remove_all(d.path / "splits");
  fs::create_directory_symlink(d.path / "gone", d.path / "splits");
  CHECK(holds(run("check" + d.option()).err, "a link that leads nowhere"));
  const std::string same = " --set split_train=valid --set split_valid=VALID ";
  CHECK(holds(run("check --data" + quoted(trained().data) + same).err, "chooses nothing"));
  CHECK(holds(
      run("pretrain --config" + quoted(trained().config) + "--run" + quoted(d.path / "run") + same)
          .err,
      "chooses nothing"));
  CHECK(holds(run("check --set column_findings=impression --data" + quoted(trained().data)).err,
              "name the same column"));
}

TEST_CASE(
    "check names patients of two splits, texts that stand for none, and letters that were decoded "
    "wrongly") {
  const Data d;
  std::string table = "study_id,patient_id,split,frontal_images,findings,impression\n";
  for (int i = 0; i < 60; ++i)
    table += "s" + std::to_string(i) + ",p" + std::to_string(i / 2) + "," +
             (i < 41   ? "train"
              : i < 50 ? "valid"
                       : "test") +
             ",phantom" + std::to_string(i) + ".png," +
             (i == 3   ? "N/A"
              : i == 4 ? "Herz vergr\xC3\x83\xC2\xB6\xC3\x83\xC2\x9F"
                         "ert."
                       : "the heart is normal.") +
             ",normal chest.\n";
  write(d.path / "studies.csv", table);
  fs::remove(d.path / "labels.csv");
  fs::remove_all(d.path / "splits");
  const Said s = run("check" + d.option());
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.out, "1 patients have studies in several splits: p20"), s.out);
  CHECK(holds(s.out, "1 studies have a text that stands for none, such as 'n/a' or 'null': s3"));
  CHECK(holds(s.out, "1 studies have letters that were decoded wrongly"));
}

TEST_CASE("check names ten planted defects, each once, and ends with 1") {
  const Data d;
  std::string table = d.text("studies.csv");
  const auto line_of = [&](const std::string& id) {
    return table.substr(
        table.find("\n" + id + ",") + 1,
        table.find('\n', table.find("\n" + id + ",") + 1) - table.find("\n" + id + ",") - 1);
  };
  const auto replace = [&](const std::string& id, const std::string& with) {
    table.replace(table.find(line_of(id)), line_of(id).size(), with);
  };
  table += line_of("phantom1") + "\n";                                 // 1: a study twice
  replace("phantom2", "phantom2,train,phantom2.png,,1,1,...,\"--\"");  // 2: no words
  replace(
      "phantom3",
      "phantom3,train,nowhere.png,,1,1,the heart is normal.,normal chest.");  // 3: a missing
                                                                              // picture; 4: one
                                                                              // that nobody names
  replace(
      "phantom4",
      "phantom4,train,phantom4.png,,1,1,the heart is normal.,the heart is normal.");  // 5: the same
                                                                                      // text in
                                                                                      // both
  write(d.path / "studies.csv", table);
  write(d.path / "images/phantom5.png",
        d.text("images/phantom5.png").substr(0, 300));  // 6: a picture cut short
  fs::copy_file(d.path / "images/phantom6.png", d.path / "images/phantom7.png",
                fs::copy_options::overwrite_existing);  // 7: a picture twice
  write(d.path / "splits/test.txt",
        d.text("splits/test.txt") +
            "phantom8\nphantom999\n");  // 8: leakage; 9: an id that is not there
  std::string labels = d.text("labels.csv");
  labels.replace(labels.find("phantom9,train,0,"), 18,
                 "phantom9,train,0,7");  // 10: a label that is none
  write(d.path / "labels.csv", labels);
  const Said s = run("check" + d.option());
  CHECK(s.code == 1);
  const auto once = [&](const std::string& text) {
    const auto at = s.out.find(text);
    CHECK_MESSAGE(at != std::string::npos, text, "\n", s.out);
    if (at != std::string::npos)
      CHECK_MESSAGE(s.out.find(text, at + 1) == std::string::npos, text, "\n", s.out);
  };
  once("study 'phantom1': the study id stands twice");
  once("1 studies have neither findings nor impression after cleaning: phantom2");
  once("nowhere.png: No such file");
  once("1 files that no study names: phantom3.png");
  once("findings and impression are the same text in 1 studies: phantom4");
  once("phantom5.png: damaged PNG");
  once("the same pixels as");
  once("1 studies are in split 'test' and in 'train': phantom8");
  once("study 'phantom999': listed in splits/test.txt, but not in the table");
  once("it holds '7' in line 11");
  CHECK_MESSAGE(holds(s.out, "verdict              not as it should be: "), s.out);
}

TEST_CASE(
    "check lists what would be cut, splits as they are written, and labels that measure nothing") {
  const Data d;
  write(d.path / "config.json", std::string("{") + small + R"(,"data":"x"})");
  const Said s = run("check --config" + quoted(d.path / "config.json") +
                     "--set t_findings=8 --set t_impression=4" + d.option());
  CHECK_MESSAGE(holds(s.out, "findings of "), s.out, s.err);
  CHECK(holds(s.out, "cut to t_findings = 8 tokens"));
  CHECK(holds(s.out, "cut to t_impression = 4 tokens"));
  write(d.path / "labels.csv", "study_id,nothing\nphantom0,0\nphantom1,0\n");
  CHECK(holds(run("check" + d.option()).out,
              "0 present, 2 absent, 0 uncertain, 0 unknown; one value alone can measure nothing"));
}
