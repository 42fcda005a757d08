// What the program must refuse or say: places of findings, splits that are not there, folders that
// are no runs, texts in other encodings, decisions by printed thresholds.
#include <cstdlib>
#include <map>

#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("boxes.csv is checked by check and by evaluate alike, before the long work") {
  const Data d;
  const std::string good = d.text("boxes.csv");
  const auto evaluated = [&] {
    return run("evaluate" + trained().of_run() + d.option() + "--out" + quoted(d.path / "out"));
  };
  CHECK(run("check" + d.option()).code == 0);
  for (const std::string& row : {std::string("phantom0.png,nodule,a nodule.,8,8,4,4\n"),
                                 std::string("phantom0.png,nodule,!,0.1,0.1,0.1,0.1\n")}) {
    d.write("boxes.csv", good + row);
    const Said checked = run("check" + d.option()), e = evaluated();
    CHECK(checked.code == 1);
    CHECK_MESSAGE(holds(checked.out, "not as it should be: boxes"), checked.out);
    CHECK(e.code == 1);
    CHECK_MESSAGE(holds(e.err, "boxes.csv, line "), e.err);
    CHECK_FALSE(holds(e.err, "embedding"));
  }
  d.write("boxes.csv", "image,label,text,x,y,w,h\nother.png,nodule,a nodule.,0.1,0.1,0.1,0.1\n");
  CHECK(holds(run("check" + d.option()).out, "1: line 2, 'other.png'"));
  const Said none = evaluated();
  CHECK(none.code == 0);
  CHECK_MESSAGE(holds(none.out, "none of its 1 rows names a picture of these studies"), none.out);
}

TEST_CASE("a boxes.csv that belongs to something else stops no attention sheet") {
  const ScratchFolder f;
  fs::create_directories(f.path / "pictures");
  fs::copy_file(trained().data / "images/phantom0.png", f.path / "pictures/x.png");
  f.write("boxes.csv", "patient,x0\n7,1\n");
  const Said s = run("attention" + trained().of_run() + "--prompt 'a nodule.' --out" +
                     quoted(f.path / "a.png") + quoted(f.path / "pictures/x.png"));
  CHECK(s.code == 0);
  CHECK_MESSAGE(holds(s.err, "note: no boxes are drawn"), s.err);
  CHECK(fs::exists(f.path / "a.png"));
}

TEST_CASE("a split that is asked for of a folder without splits is refused") {
  const Data d;
  fs::remove_all(d.path / "splits");
  const data::Table t = data::read_csv(d.path / "studies.csv");
  const std::size_t split = t.column("split");
  std::string text;
  const auto line = [&](const std::vector<std::string>& row) {
    for (std::size_t c = 0; c < row.size(); ++c)
      if (c != split)
        text += (text.empty() || text.ends_with("\n") ? "" : ",") + data::csv_field(row[c]);
    text += "\n";
  };
  line(t.columns);
  for (const auto& row : t.rows) line(row);
  d.write("studies.csv", text);
  const RunCopy r;
  const std::string prompts = many_labels(r.path);
  for (const std::string command : {"evaluate", "calibrate"}) {
    const Said s = run(command + r.option() + d.option() + prompts + "--split tset");
    CHECK(s.code == 1);
    CHECK_MESSAGE(holds(s.err, "--split tset, but the folder has no splits"), s.err);
  }
  CHECK_FALSE(fs::exists(r.folder / "calibration.json"));
  CHECK(holds(run("calibrate" + r.option() + d.option() + prompts).out,
              "all studies (the folder has no splits)"));
}

TEST_CASE("a training begins in no folder that holds something else") {
  const ScratchFolder f;
  f.write("mine/notes.txt", "mine");
  const std::string config = " --config" + quoted(trained().config);
  for (const fs::path& folder : {f.path / "mine", trained().data}) {
    const Said s = run("pretrain" + config + "--run" + quoted(folder) + "--stop-after 1");
    CHECK(s.code == 1);
    CHECK_MESSAGE(holds(s.err, "not empty, and no run"), s.err);
  }
  CHECK(io::read_text(f.path / "mine/notes.txt") == "mine");
  CHECK_FALSE(fs::exists(f.path / "mine/checkpoints"));
}

TEST_CASE("a label table without labels, or of nobody, is refused by check") {
  const Data d;
  d.write("labels.csv", "study_id,nodule\nphantom0,TRUE\nphantom1,FALSE\n");
  Said s = run("check" + d.option());
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.out, "no column is a label"), s.out);
  d.write("labels.csv", "study_id,nodule\nx,1\ny,0\n");
  s = run("check" + d.option());
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.out, "no study has a row"), s.out);
}

TEST_CASE("summarize answers each line once, whatever ends it, and refuses what is no UTF-8") {
  const auto said = [](const std::string& bytes) {
    return run("summarize" + trained().of_run(), "printf '" + bytes + "' |");
  };
  const auto lines = [](const Said& s) { return std::count(s.out.begin(), s.out.end(), '\n'); };
  const Said feed = said("there is a nodule.\\nno effusion.\\n");
  REQUIRE_MESSAGE(feed.code == 0, feed.err);
  CHECK(lines(feed) == 2);
  CHECK(said("there is a nodule.\\rno effusion.").out == feed.out);
  CHECK(said("\\357\\273\\277there is a nodule.\\r\\nno effusion.\\r\\n").out == feed.out);
  for (const char* bytes : {"\\377\\376t\\000", "fine.\\ngr\\374n\\n", "a\\000b\\n"}) {
    const Said s = said(bytes);
    CHECK(s.code == 1);
    CHECK_MESSAGE(holds(s.err, "it is no UTF-8 text"), s.err);
  }
}

TEST_CASE("embed says of a text file in another encoding what mends it") {
  const ScratchFolder f;
  f.write("t.txt", "gr\xFCn.\n");
  const Said s = run("embed" + trained().of_run() + "--texts" + quoted(f.path / "t.txt"));
  CHECK(s.code == 1);
  CHECK_MESSAGE((holds(s.err, "line 1") && holds(s.err, "iconv")), s.err);
  CHECK_FALSE(holds(s.err, "--set"));
}

TEST_CASE("one text on both sides of a label is refused, however it is written") {
  const ScratchFolder f;
  f.write("p.json", R"({"nodule":{"positive":["Nodule."],"negative":["nodule ."]}})");
  const Said s = run("classify" + trained().of_run() + "--prompts" + quoted(f.path / "p.json") +
                     quoted(trained().data / "images/phantom0.png"));
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.err, "are the same text after cleaning"), s.err);
}

TEST_CASE("a threshold is printed with the digits of the probability") {
  const RunCopy r;
  const std::string prompts = many_labels(r.path);
  const std::string picture = quoted(trained().data / "images/phantom0.png");
  REQUIRE(run("calibrate" + r.option() + "--split train --data" + quoted(trained().data) + prompts)
              .code == 0);
  io::Json j = io::read_json(r.folder / "calibration.json");
  j["labels"].begin().value()["threshold"] = 0.0008265222604634479;
  const std::string label = j["labels"].begin().key();
  write(r.folder / "calibration.json", j.dump());
  const data::Table t = table_of(run("classify" + r.option() + prompts + picture).out);
  CHECK(t.rows[0][t.column(label + " (threshold)")] == "0.000826522");

  const auto broken = [&](const std::string& key, const io::Json& value) {
    io::Json other = j;
    (key == "studies" ? other : other["labels"].begin().value())[key] = value;
    write(r.folder / "calibration.json", other.dump());
    return run("classify" + r.option() + prompts + picture).err;
  };
  CHECK(holds(broken("studies", io::Json::object()), "'studies' expects a list"));
  CHECK(holds(broken("positives", -1), "'positives' expects a number of studies"));
  CHECK(holds(broken("negatives", 1e300), "'negatives' expects a number of studies"));
}

TEST_CASE("a calibration that fails does not say that it replaced anything") {
  const RunCopy r;
  const Data d;
  const std::string prompts = many_labels(r.path);
  const std::string calibrate = "calibrate" + r.option() + d.option() + prompts + "--split train";
  REQUIRE(run(calibrate).code == 0);
  CHECK(holds(run(calibrate).out, "replaced    the calibration of "));
  std::string ones = "study_id,opacity,effusion,cardiomegaly\n";
  for (int i = 0; i < 60; ++i) ones += "phantom" + std::to_string(i) + ",1,1,1\n";
  d.write("labels.csv", ones);
  const Said s = run(calibrate);
  CHECK(s.code == 1);
  CHECK_FALSE(holds(s.out, "replace"));
}

TEST_CASE(
    "small doors: a key twice, threads, a figures file that is a folder, help to a full disk") {
  const Said twice = run("check --data" + quoted(trained().data) + "--set batch=1 --set batch=2");
  CHECK(twice.code == 1);
  CHECK_MESSAGE(holds(twice.err, "--set batch: given twice"), twice.err);
  CHECK(holds(run("--threads 2147483648 curves" + trained().of_run()).err, "from 1 to 99999"));
  const ScratchFolder f;
  fs::create_directories(f.path / "evaluation.json");
  const Said s = run("evaluate" + trained().of_run() + "--data" + quoted(trained().data) + "--out" +
                     quoted(f.path));
  CHECK(s.code == 1);
  CHECK_MESSAGE(holds(s.err, "is a folder"), s.err);
  CHECK_FALSE(holds(s.err, "embedding"));
  CHECK(run("--help", "", ">/dev/full").code == 1);
}
