// What commands write: figures, numbers of words, vectors; and what they do not overwrite.
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "hybridmed/data/csv.hpp"
#include "hybridmed/data/image.hpp"
#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

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
