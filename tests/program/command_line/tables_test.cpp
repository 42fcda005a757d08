// Tables of other hospitals: the keys that read them, and keys that cannot be meant.
#include <string>

#include "hybridmed/data/csv.hpp"
#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE(
    "a semicolon table in Latin-1 with German column names: check says which keys read it, and "
    "with them it is read and trained on") {
  const Data d;
  std::string table = "Kennung;Gruppe;Bilder;Befund;Beurteilung\n";
  for (int i = 0; i < 60; ++i)
    table += "phantom" + std::to_string(i) + ";" +
             (i < 42   ? "Train"
              : i < 50 ? "VALID "
                       : "test") +
             ";phantom" + std::to_string(i) +
             ".png;Herz vergr\xF6\xDF"
             "ert, Erguss;kein Erguss\n";
  write(d.path / "studies.csv", table);
  fs::remove_all(d.path / "splits");
  Said s = run("check" + d.option());
  CHECK(s.code == 1);
  CHECK_MESSAGE((holds(s.err, "line 2") && holds(s.err, "--set encoding=latin-1")), s.err);
  s = run("check --set encoding=latin-1" + d.option());
  CHECK_MESSAGE((holds(s.err, "'study_id' is missing") && holds(s.err, "'Kennung', 'Gruppe'") &&
                 holds(s.err, "--set column_study=")),
                s.err);
  const std::string keys =
      " --set encoding=latin-1 --set column_study=kennung --set column_split=gruppe --set "
      "column_images=bilder --set column_findings=befund --set column_impression=beurteilung --set "
      "cleaning=none";
  s = run("check" + keys + d.option());
  CHECK_MESSAGE(holds(s.out, "separated by semicolons"), s.out);
  CHECK(holds(s.out, "split train          42 (written 'Train'"));
  CHECK(holds(s.out, "split valid          8 (written 'VALID '"));
  const fs::path config = d.path / "config.json";
  write(config, std::string("{") + small + R"(,"epochs_stage1":1,"epochs_stage2":1,"data":")" +
                    d.path.string() + "\"}");
  s = run("pretrain --config" + quoted(config) + "--run" + quoted(d.path / "run") +
          "--stop-after 1" + keys);
  CHECK_MESSAGE(s.code == 130, s.err);
}

TEST_CASE(
    "evaluate and check take the keys of a table that differs from the training one, from a file "
    "or from --set, and no other keys") {
  const Data d;
  std::string table = d.text("studies.csv");
  table.replace(table.find("findings,impression"), 19, "Befund,Beurteilung");
  for (char& c : table) c = c == ',' ? '|' : c;
  fs::remove(d.path / "studies.csv");
  write(d.path / "berichte.txt", table);
  const std::string out = " --out" + quoted(d.path / "out");
  const std::string set =
      " --set table=berichte.txt --set delimiter='|' --set column_findings=Befund --set "
      "column_impression=Beurteilung";
  Said s = run("evaluate" + trained().of_run() + d.option() + out + set);
  CHECK_MESSAGE(s.code == 0, s.err);
  CHECK(holds(s.out, "12 studies with an image, 12 of them with texts"));
  write(d.path / "keys.json",
        R"({"table":"berichte.txt","delimiter":"|","column_findings":"Befund",)"
        R"("column_impression":"Beurteilung","heads":7})");
  s = run("evaluate" + trained().of_run() + d.option() + out + " --config" +
          quoted(d.path / "keys.json"));
  CHECK_MESSAGE(s.code == 0, s.err);  // the model's keys of that file are not meant here
  s = run("evaluate" + trained().of_run() + d.option() + " --set heads=7");
  CHECK(s.code == 1);
  CHECK_MESSAGE((holds(s.err, "only the keys of a data folder") && holds(s.err, "delimiter")),
                s.err);
}

TEST_CASE(
    "labelled images without reports, as NIH has them: one column of label names, pictures that "
    "name the studies") {
  const Data d;
  const data::Table labels = table_of(d.text("labels.csv"));
  fs::remove(d.path / "studies.csv");
  fs::remove_all(d.path / "splits");
  std::string nih = "Image Index,Finding Labels,Follow-up #,Patient Age\n";
  for (const auto& row : labels.rows) {
    std::string names;
    for (std::size_t c = 3; c < row.size(); ++c)
      if (row[c] == "1") names += (names.empty() ? "" : "|") + labels.columns[c];
    nih += row[0] + ".png," + names + ",0,58\n";
  }
  write(d.path / "labels.csv", nih);
  Said s = run("check" + d.option());
  CHECK(s.code == 1);
  CHECK_MESSAGE((holds(s.err, "'Image Index'") && holds(s.err, "column_images")), s.err);
  CHECK_MESSAGE(!holds(s.err, "did you mean"), s.err);  // nothing is near
  s = run("check --set column_images='image index'" + d.option());
  CHECK_MESSAGE(holds(s.out, "--set column_labels='Finding Labels'"), s.out, s.err);
  const std::string keys =
      " --set column_images='Image Index' --set column_labels='Finding Labels'";
  s = run("check" + keys + d.option());
  CHECK_MESSAGE(s.code == 0, s.out);
  CHECK(holds(s.out, "60 of 60 studies have a row"));
  CHECK(holds(s.out, "  nodule"));
  const Data reports;
  const std::string evaluated = "evaluate" + trained().of_run() + prompts_file(d.path);
  REQUIRE(run(evaluated + d.option() + "--out" + quoted(d.path / "a") + keys).code == 0);
  fs::remove_all(reports.path / "splits");
  fs::remove(reports.path / "studies.csv");
  std::string plain = reports.text("labels.csv");
  plain.replace(plain.find("split"), 5, "group");  // all studies, as in the other folder
  write(reports.path / "labels.csv", plain);
  REQUIRE(run(evaluated + reports.option() + "--out" + quoted(d.path / "b")).code == 0);
  for (const char* label : {"nodule", "effusion"})
    CHECK(figure(d.path / "a", std::string("auroc/both/") + label) ==
          figure(d.path / "b", std::string("auroc/both/") + label));
  CHECK(run("classify" + trained().of_run() + prompts_file(d.path) +
            quoted(d.path / "images/phantom3.png"))
            .code == 0);
}

TEST_CASE(
    "what a table's keys cannot mean is refused: UTF-8 read as Latin-1, files and folders that are "
    "not there, keys without --set") {
  const Data d;
  write(d.path / "studies.csv", d.text("studies.csv") +
                                    "x,train,phantom1.png,,1,1,Herz gr\xC3\xB6\xC3\x9F"
                                    "er,normal\n");
  CHECK(run("check" + d.option()).code == 0);
  const std::string check = "check" + d.option();
  CHECK(holds(run(check + "--set encoding=latin-1").err, "it is UTF-8"));
  CHECK(holds(run(check + "--set labels=lables.csv").out, "lables.csv: No such file"));
  CHECK(holds(run(check + "--set image_folder=pngs").out, "there are images"));
  CHECK(holds(run(check + "--set table=studies.csv labels=labels.csv").err,
              "write --set before each key"));
  CHECK(holds(run("evaluate" + trained().of_run() + d.option() + "--set image_folder=pngs").err,
              "--set image_folder=NAME"));
}
