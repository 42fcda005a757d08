// What numbers stand for: `classify` with and without a calibration, `calibrate`.
#include <cmath>
#include <string>

#include "hybridmed/data/image.hpp"
#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

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
