// The command line: what each command says of its numbers, of odd input and of a wrong word.
#include <cmath>
#include <map>
#include <sstream>

#include "hybridmed/data/csv.hpp"
#include "hybridmed/data/image.hpp"
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
    "classify says in its header what its numbers are; calibrate turns them into probabilities "
    "that stay with weights and prompts") {
  const RunCopy r;
  const std::string prompts = many_labels(r.path), classify = "classify" + r.option() + prompts;
  const data::Table plain = table_of(run(classify + picture(1)).out);
  CHECK(plain.columns[1] == "opacity (cosine difference, not a probability)");
  Said s = run(classify + "--scores probability" + picture(1));
  CHECK(s.code == 1);
  CHECK_MESSAGE((holds(s.err, "no calibration") && holds(s.err, "hybridmed calibrate --run")),
                s.err);
  CHECK(run(classify + "--scores percent" + picture(1)).code != 0);

  const std::string calibrate =
      "calibrate" + r.option() + prompts + "--data" + quoted(trained().data);
  s = run(calibrate + "--split valid");  // 6 studies
  CHECK(s.code == 1);
  CHECK_MESSAGE(
      (holds(s.out, "not calibrated: opacity: ") && holds(s.out, "10 of each are needed") &&
       holds(s.err, "no label could be calibrated")),
      s.out);
  s = run(calibrate + "--split vaild");
  CHECK_MESSAGE(holds(s.err, "did you mean 'valid'?"), s.err);
  s = run(calibrate + "--split train");
  REQUIRE_MESSAGE(s.code == 0, s.err, s.out);
  CHECK(holds(s.out, "calibration error"));
  CHECK(holds(s.out, "42 of these studies have the ids of studies that the run was trained on"));
  CHECK(data::read_image(r.folder / "reliability.png").width() > 100);

  const io::Json kept = io::read_json(r.folder / "calibration.json")["labels"];
  REQUIRE(!kept.empty());
  const data::Table both = table_of(run(classify + picture(1) + picture(2)).out),
                    cosine =
                        table_of(run(classify + "--scores cosine" + picture(1) + picture(2)).out);
  for (const char* label : {"opacity", "effusion", "cardiomegaly"}) {
    const std::string name = label;
    const std::size_t plain_score = cosine.column(name + " (cosine difference, not a probability)");
    if (!kept.contains(name)) {
      CHECK(both.find(name + " (cosine difference, not a probability)") != data::Table::npos);
      CHECK(both.find(name + " (threshold)") == data::Table::npos);
      continue;
    }
    const double t = kept[name]["temperature"], offset = kept[name]["offset"],
                 threshold = kept[name]["threshold"];
    const std::size_t probability = both.column(name + " (probability)"),
                      at = both.column(name + " (threshold)"),
                      score_at = cosine.column(name + " (threshold)");
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(std::stod(both.rows[i][probability]) ==
            doctest::Approx(1 /
                            (1 + std::exp(-(std::stod(cosine.rows[i][plain_score]) - offset) / t)))
                .epsilon(1e-4));
      CHECK(std::stod(both.rows[i][at]) == doctest::Approx(threshold).epsilon(2e-3));
      CHECK(std::abs(std::stod(cosine.rows[i][score_at]) -
                     (offset + t * std::log(threshold / (1 - threshold)))) < 1e-4);
    }
  }
  s = run("evaluate" + r.option() + prompts + "--data" + quoted(trained().data) + "--out" +
          quoted(r.path / "out"));
  CHECK_MESSAGE(holds(s.out, "fitted on " + trained().data.string() + ", split train"), s.out);
  CHECK_FALSE(holds(s.out, "it was fitted on"));  // the test split is held out
  CHECK(holds(run("evaluate --split TRAIN" + r.option() + prompts + "--data" +
                  quoted(trained().data) + "--out" + quoted(r.path / "fitted"))
                  .out,
              "42 of these 42 studies have the ids of studies that it was fitted on"));
  const io::Json notes = io::read_json(r.path / "fitted/evaluation.json")["notes"];
  CHECK_MESSAGE(holds(notes.dump(), "not held out"), notes.dump());
  CHECK(figure(r.path / "out",
               "calibration/Brier/" + kept.begin().key() + " (chance: base rate)")["n"] == 12);

  // Other sentences, or other weights, are not what was calibrated.
  write(r.path / "other.json",
        R"({"opacity":{"positive":["opacity."],"negative":["normal chest."]}})");
  CHECK(holds(
      run("classify" + r.option() + "--prompts" + quoted(r.path / "other.json") + picture(1)).out,
      "not a probability"));
  io::Json j = io::read_json(r.folder / "calibration.json");
  j["weights"] = "0123456789abcdef";
  write(r.folder / "calibration.json", j.dump());
  s = run(classify + picture(1));
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.err, "other weights"), s.err);
  CHECK(holds(run("evaluate" + r.option() + prompts + "--data" + quoted(trained().data) + "--out" +
                  quoted(r.path / "out"))
                  .out,
              "other weights"));
}

TEST_CASE("evaluation.json says what its figures are of") {
  const Data d;
  REQUIRE(run("evaluate" + trained().of_run() + d.option() + "--split test --out" +
              quoted(d.path / "out of it") + prompts_file(d.path, R"("mean_of":["effusion"],)"))
              .code == 0);
  const io::Json j = io::read_json(d.path / "out of it/evaluation.json");
  CHECK(j["run"] == trained().folder.string());
  CHECK(holds(j["weights"], "model.safetensors"));
  CHECK(j["weights_checksum"].get<std::string>().size() == 16);
  CHECK(j["data"] == d.path.string());
  CHECK(j["split"] == "split test");
  CHECK(holds(j["prompts"], "prompts.json"));
  CHECK(j["labels_in_the_mean"]["auroc/both/mean of the labels listed"] == io::Json{"effusion"});
  CHECK(holds(run("--version").out, j["version"].get<std::string>()));
  CHECK(holds(j["command"], "evaluate --run"));
  CHECK(holds(j["command"],
              "'" + (d.path / "out of it").string() + "'"));  // as a shell reads it again
}

TEST_CASE(
    "attention: numbers of every word as CSV and NPY, sheets without stop words, long texts on "
    "several sheets") {
  const ScratchFolder f;
  const std::string to = "attention" + trained().of_run() + "--out" + quoted(f.path / "map.png");
  Said s = run(to + "--npy" + quoted(f.path / "map.npy") +
               "--prompt 'there is a small nodule in the right upper zone.'" + picture(0));
  REQUIRE_MESSAGE(s.code == 0, s.err);
  REQUIRE(run(to + "--csv" + quoted(f.path / "map.csv") +
              "--prompt 'there is a small nodule in the right upper zone.'" + picture(0))
              .code == 0);
  const data::Table t = table_of(s.out);
  CHECK(t.columns == std::vector<std::string>{"row", "word", "share", "cosine", "drawn"});
  std::map<std::string, std::string> drawn;
  double shares = 0;
  for (std::size_t i = 1; i < t.rows.size(); ++i) {
    shares += std::stod(t.rows[i][2]);
    drawn[t.rows[i][1]] = t.rows[i][4];
  }
  CHECK(shares == doctest::Approx(1).epsilon(1e-4));
  for (const char* word : {"there", "is", "a", "in", "the", "."})
    CHECK_MESSAGE(drawn[word] == "no", word);
  CHECK(drawn["nodule"] == "yes");
  const std::string npy = io::read_text(f.path / "map.npy");
  CHECK(holds(npy, "NUMPY"));
  CHECK_MESSAGE(holds(npy, "(" + std::to_string(t.rows.size()) + ", 4, 4)"), npy.substr(0, 120));
  std::vector<double> values(t.rows.size() * 16);
  std::memcpy(values.data(), npy.data() + npy.size() - values.size() * sizeof(double),
              values.size() * sizeof(double));
  for (std::size_t i = 1; i < t.rows.size(); ++i) {
    double sum = 0;
    for (std::size_t k = 0; k < 16; ++k) sum += values[i * 16 + k];
    CHECK(sum == doctest::Approx(1).epsilon(1e-6));
  }
  const data::Table cells = data::read_csv(f.path / "map.csv");
  REQUIRE(cells.rows.size() == (t.rows.size() - 1) * 16);
  for (std::size_t i = 0; i < cells.rows.size(); ++i) {
    const auto& row = cells.rows[i];
    CHECK(row[1] == t.rows[i / 16 + 1][1]);
    CHECK(std::stod(row[4]) ==
          doctest::Approx(
              values[16 * std::stoul(row[0]) + 4 * std::stoul(row[2]) + std::stoul(row[3])])
              .epsilon(1e-4));
  }
  const auto height = [&](const char* name) { return data::read_image(f.path / name).height(); };
  const std::size_t few = height("map.png");
  REQUIRE(run(to + "--all-words --prompt 'there is a small nodule in the right upper zone.'" +
              picture(0))
              .code == 0);
  CHECK(height("map.png") > few);
  REQUIRE(run(to +
              "--prompt 'nodule opacity effusion heart right left upper lower small large zone "
              "middle round hazy angle blunted enlarged normal'" +
              picture(0))
              .code == 0);
  CHECK(fs::exists(f.path / "map-2.png"));
  for (const char* wrong : {"map.jpg", "map", "map.npy"}) {
    s = run("attention" + trained().of_run() + "--prompt nodule --out" + quoted(f.path / wrong) +
            picture(0));
    CHECK(s.code == 1);
    CHECK_MESSAGE(holds(s.err, "ends in .png"), s.err);
  }
}

TEST_CASE("a calibration that cannot be read stops nobody who needs none, and is replaced") {
  const RunCopy r;
  const std::string prompts = many_labels(r.path);
  write(r.folder / "calibration.json", "{");
  Said s = run("classify" + r.option() + prompts + picture(1));
  CHECK(s.code == 1);
  CHECK_MESSAGE((holds(s.err, "calibration.json") && holds(s.err, "fit it again")), s.err);
  CHECK(run("classify --scores cosine" + r.option() + prompts + picture(1)).code == 0);
  s = run("evaluate" + r.option() + prompts + "--data" + quoted(trained().data) + "--out" +
          quoted(r.path / "out"));
  CHECK(s.code == 0);
  CHECK(holds(s.out, "calibration does not count: "));
  s = run("calibrate --split train" + r.option() + prompts + "--data" + quoted(trained().data));
  CHECK(s.code == 0);
  CHECK(holds(s.out, "replaced    a calibration that cannot be read"));
  io::Json j = io::read_json(r.folder / "calibration.json");
  CHECK(j["studies"].size() == 42);
  j["studies"][0] = -5;
  write(r.folder / "calibration.json", j.dump());
  CHECK(holds(run("classify" + r.option() + prompts + picture(1)).err, "list of hashes"));
  // A command that fails leaves the calibration as it was.
  fs::remove(r.folder / "reliability.png");
  fs::create_directory(r.folder / "reliability.png");
  fs::create_directory(r.folder / "reliability.png/x");
  CHECK(run("calibrate --split train" + r.option() + prompts + "--data" + quoted(trained().data))
            .code == 1);
  CHECK(io::read_json(r.folder / "calibration.json")["studies"][0] == -5);
}

TEST_CASE(
    "nothing that is there is overwritten by mistake: an image by its sheet, a folder by "
    "phantoms") {
  const ScratchFolder f;
  const fs::path image = f.path / "a.png";
  fs::copy_file(trained().data / "images/phantom0.png", image);
  const std::string before = io::read_text(image);
  const Said s = run("attention" + trained().of_run() + "--prompt nodule --out" + quoted(image) +
                     quoted(image));
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.err, "it is the image itself"), s.err);
  CHECK(io::read_text(image) == before);
  fs::copy_file(image, f.path / "map-2.png");  // where the second sheet of a long text would go
  const std::string words =
      "nodule opacity effusion heart right left upper lower small large zone middle round hazy "
      "angle blunted enlarged normal";
  CHECK(run("attention" + trained().of_run() + "--prompt '" + words + "' --out" +
            quoted(f.path / "map.png") + quoted(f.path / "map-2.png"))
            .code == 1);
  CHECK(io::read_text(f.path / "map-2.png") == before);
  write(f.path / "mine/studies.csv", "study_id\n");
  CHECK(holds(run("phantom --count 3 --out" + quoted(f.path / "mine")).err, "not empty"));
  CHECK(io::read_text(f.path / "mine/studies.csv") == "study_id\n");
}

TEST_CASE("words that a run has never read are named, and so is a training that is not finished") {
  const ScratchFolder f;
  write(f.path / "prompts.json",
        R"({"nodule":{"positive":["Rundherd q9."],"negative":["normal chest."]}})");
  Said s = run("classify" + trained().of_run() + "--prompts" + quoted(f.path / "prompts.json") +
               picture(0));
  CHECK(s.code == 0);
  CHECK_MESSAGE(holds(s.err, "the prompts of 'nodule': the run has never read the words 'q9'"),
                s.err);
  write(f.path / "same.json", R"({"nodule":{"positive":["nodule."],"negative":["nodule."]}})");
  CHECK(holds(
      run("classify" + trained().of_run() + "--prompts" + quoted(f.path / "same.json") + picture(0))
          .err,
      "stands on both sides"));
  CHECK_FALSE(holds(run("embed" + trained().of_run() + picture(0)).err, "not finished"));
  REQUIRE(run("pretrain --config" + quoted(trained().config) + "--run" + quoted(f.path / "short") +
              "--stop-after 2")
              .code == 130);
  CHECK(holds(run("embed --run" + quoted(f.path / "short") + picture(0)).err,
              "is not finished: these are the weights of step-00000002"));
  s = run("pretrain --run" + quoted(f.path / "short") + "--resume --stop-after 2");
  CHECK(s.code == 130);
  CHECK_MESSAGE(holds(s.err, "stopped after step 2"), s.err);
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

TEST_CASE(
    "embed --texts: a unit vector a line, equal to itself alone; images and texts at once, or "
    "neither, are refused") {
  const ScratchFolder f;
  write(f.path / "texts.txt", "small right effusion.\r\nnormal chest, \"clear\"\n");
  const Said s = run("embed" + trained().of_run() + "--texts" + quoted(f.path / "texts.txt"));
  REQUIRE_MESSAGE(s.code == 0, s.err);
  const data::Table t = table_of(s.out);
  CHECK(t.columns[0] == "text");
  REQUIRE(t.rows.size() == 2);
  CHECK(t.rows[0][0] == "small right effusion.");
  CHECK(t.rows[1][0] == "normal chest, \"clear\"");
  for (const auto& row : t.rows) {
    double square = 0;
    for (std::size_t c = 1; c < row.size(); ++c) square += std::stod(row[c]) * std::stod(row[c]);
    CHECK(square == doctest::Approx(1).epsilon(1e-4));
  }
  write(f.path / "one.txt", "small right effusion.");
  const data::Table alone =
      table_of(run("embed" + trained().of_run() + "--texts" + quoted(f.path / "one.txt")).out);
  for (std::size_t c = 1; c < t.columns.size(); ++c)
    CHECK(std::stod(alone.rows[0][c]) == doctest::Approx(std::stod(t.rows[0][c])).epsilon(1e-4));
  write(f.path / "old.txt", "effusion.\rnodule.\r");
  CHECK(table_of(run("embed" + trained().of_run() + "--texts" + quoted(f.path / "old.txt")).out)
            .rows.size() == 2);
  write(f.path / "bad.txt", "effusion\n...\n");
  CHECK(holds(run("embed" + trained().of_run() + "--texts" + quoted(f.path / "bad.txt")).err,
              "line 2"));
  CHECK(holds(run("embed" + trained().of_run()).err, "nothing to embed"));
  CHECK(holds(
      run("embed" + trained().of_run() + "--texts" + quoted(f.path / "one.txt") + picture(0)).err,
      "at once"));
}

TEST_CASE(
    "a wrong word names the nearest: commands, options, splits, labels; --stop-after 0 and DICOM "
    "are plainly answered") {
  const ScratchFolder f;
  CHECK(holds(run("evaluat --run x").err, "did you mean 'evaluate'?"));
  CHECK(holds(run("zzzzzzzzzzzz").err, "The commands are pretrain, evaluate"));
  CHECK(holds(run("evaluate --promts x").err, "did you mean '--prompts'?"));
  CHECK(holds(run("--thread 2 evaluate").err, "did you mean '--threads'?"));
  CHECK(holds(
      run("evaluate" + trained().of_run() + "--data" + quoted(trained().data) + "--split tets").err,
      "did you mean 'test'?"));
  write(f.path / "prompts.json", R"({"efusion":{"positive":["a."],"negative":["b."]}})");
  CHECK(holds(run("evaluate" + trained().of_run() + "--data" + quoted(trained().data) +
                  "--prompts" + quoted(f.path / "prompts.json"))
                  .err,
              "did you mean 'effusion'?"));
  const Said s = run("pretrain --config x --run y --stop-after 0");
  CHECK(s.code != 0);
  CHECK_MESSAGE(holds(s.err, "at least 1"), s.err);
  write(f.path / "scan.dcm", std::string(128, '\0') + "DICM" + std::string(100, '\0'));
  const Said dicom = run("caption" + trained().of_run() + quoted(f.path / "scan.dcm"));
  CHECK(dicom.code == 1);
  CHECK_MESSAGE((holds(dicom.err, "DICOM") && holds(dicom.err, "convert it to PNG")), dicom.err);
}

TEST_CASE("names with tabs and line breaks keep every line a line") {
  const ScratchFolder f;
  const fs::path odd = f.path / "a\tb\nc\\d.png", bad = f.path / "x\ny.png";
  fs::copy_file(trained().data / "images/phantom0.png", odd);
  write(bad, "no picture");
  const Said s = run("caption" + trained().of_run() + quoted(odd) + quoted(bad));
  CHECK(s.code == 1);
  CHECK(std::count(s.out.begin(), s.out.end(), '\n') == 1);
  CHECK(std::count(s.out.begin(), s.out.end(), '\t') == 1);
  CHECK_MESSAGE(holds(s.out, "a\\tb\\nc\\\\d.png\t"), s.out);
  CHECK(holds(s.err, "x\\ny.png"));
  CHECK(table_of(run("classify" + trained().of_run() + prompts_file(f.path) + quoted(odd)).out)
            .rows[0][0] == odd.string());
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
