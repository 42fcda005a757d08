// The program with --backend cuda: it trains as on the CPU, and what either backend has trained the
// other opens.
#include "program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

const std::string cuda = " --backend cuda ";

/// A training in double, five steps a stage.
struct Training : ScratchFolder {
  fs::path config = path / "config.json";
  Training() {
    write(config, std::string("{") + small +
                      R"(,"precision":"double","epochs_stage1":1,"epochs_stage2":1,)"
                      R"("checkpoint_every":1,"data":")" +
                      trained().data.string() + "\"}");
  }
  fs::path of(const char* name) const { return path / name; }
  /// Trains the run NAME; `more`: further options.
  void train(const char* name, const std::string& more, int code = 0) const {
    const Said s = run("pretrain --config" + quoted(config) + "--run" + quoted(of(name)) + more);
    CHECK_MESSAGE(s.code == code, s.err);
  }
  std::vector<io::Json> log(const char* name) const {
    std::vector<io::Json> rows;
    std::ifstream file(of(name) / "log.jsonl");
    for (std::string line; std::getline(file, line);) rows.push_back(io::Json::parse(line));
    return rows;
  }
  /// Every file of a run, by its name within it.
  std::map<std::string, std::string> files(const char* name) const {
    std::map<std::string, std::string> out;
    for (const auto& f : fs::recursive_directory_iterator(of(name)))
      if (f.is_regular_file())
        out[fs::relative(f.path(), of(name)).string()] = io::read_text(f.path());
    return out;
  }
};

/// Equal rows, their losses and norms to 1e-6 of their size.
void same_log(const std::vector<io::Json>& a, const std::vector<io::Json>& b) {
  REQUIRE(a.size() > 0);
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(a[i].dump());
    CAPTURE(b[i].dump());
    REQUIRE(a[i].size() == b[i].size());
    for (const auto& item : a[i].items()) {
      const io::Json& other = b[i].at(item.key());
      if (!item.value().is_number_float() || item.key() == "lr")
        CHECK(item.value() == other);
      else
        CHECK(std::abs(item.value().get<double>() - other.get<double>()) <=
              1e-6 * std::max(1.0, std::abs(other.get<double>())));
    }
  }
}

/// Two tables of the same names, their numbers as near as two ways of summing floats.
void same_table(const std::string& a, const std::string& b, double limit = 1e-4) {
  const data::Table x = table_of(a), y = table_of(b);
  REQUIRE(x.columns == y.columns);
  REQUIRE(x.rows.size() == y.rows.size());
  for (std::size_t r = 0; r < x.rows.size(); ++r)
    for (std::size_t c = 0; c < x.columns.size(); ++c) {
      CAPTURE(x.rows[r][c]);
      CAPTURE(y.rows[r][c]);
      char *end = nullptr, *other = nullptr;
      const double p = std::strtod(x.rows[r][c].c_str(), &end),
                   q = std::strtod(y.rows[r][c].c_str(), &other);
      if (*end || *other)
        CHECK(x.rows[r][c] == y.rows[r][c]);
      else
        CHECK(std::abs(p - q) <= limit);
    }
}

/// What a command prints on both backends.
std::pair<std::string, std::string> on_both(const std::string& arguments) {
  const Said here = run(arguments), there = run(cuda + arguments);
  CHECK_MESSAGE(here.code == 0, here.err);
  CHECK_MESSAGE(there.code == 0, there.err);
  CHECK(!here.out.empty());
  return {here.out, there.out};
}

}  // namespace

TEST_CASE("training on CUDA makes the CPU's losses; stopped, it goes on, on either backend") {
  const Training t;
  t.train("cpu", "");
  t.train("cuda", cuda);
  same_log(t.log("cuda"), t.log("cpu"));
  t.train("again", cuda + "--stop-after 7", 130);
  CHECK(t.log("again").size() < t.log("cuda").size());
  t.train("again", cuda + "--resume");
  const auto want = t.files("cuda"), got = t.files("again");
  REQUIRE(want.size() == got.size());
  for (const auto& [name, bytes] : want) {
    CAPTURE(name);
    REQUIRE(got.count(name));
    CHECK((got.at(name) == bytes));
  }
  for (const auto& [first, then] : {std::pair{cuda, std::string()}, {std::string(), cuda}}) {
    const char* name = first.empty() ? "cpu, then cuda" : "cuda, then cpu";
    t.train(name, first + "--stop-after 7", 130);
    t.train(name, then + "--resume");
    same_log(t.log(name), t.log("cpu"));
  }
}

TEST_CASE("every command that computes says the same on both backends") {
  const RunCopy copy;
  const std::string pictures = picture(1) + picture(2), prompts = many_labels(copy.path),
                    data = " --data" + quoted(trained().data), of = copy.option();
  const auto [here, there] = on_both("embed" + of + pictures);
  same_table(here, there);
  write(copy.path / "texts.txt", "normal chest.\nsmall right effusion.\n");
  const auto texts = on_both("embed" + of + "--texts" + quoted(copy.path / "texts.txt"));
  same_table(texts.first, texts.second);
  const auto cosines = on_both("classify --scores cosine" + of + prompts + pictures);
  same_table(cosines.first, cosines.second);
  const auto written = on_both("caption" + of + pictures);
  CHECK(written.first == written.second);
  const auto attention = on_both("attention" + of + "--prompt 'small right effusion.' --out" +
                                 quoted(copy.path / "sheet.png") + picture(1));
  same_table(attention.first, attention.second);
  const auto summary = on_both("summarize" + of + "<" + quoted(copy.path / "texts.txt"));
  CHECK(summary.first == summary.second);
  on_both("calibrate --split train" + of + prompts + data);
  const auto sure = on_both("classify" + of + prompts + pictures);
  same_table(sure.first, sure.second);
  const auto figures = [&](const std::string& backend, const char* name) {
    const Said s =
        run(backend + "evaluate" + of + prompts + data + "--out" + quoted(copy.path / name));
    CHECK_MESSAGE(s.code == 0, s.err);
    return io::read_json(copy.path / name / "evaluation.json")["figures"];
  };
  const io::Json mine = figures("", "cpu"), its = figures(cuda, "cuda");
  REQUIRE(mine.size() == its.size());
  for (std::size_t i = 0; i < mine.size(); ++i) {
    CAPTURE(mine[i].dump());
    CAPTURE(its[i].dump());
    CHECK(mine[i]["name"] == its[i]["name"]);
    const io::Json &x = mine[i]["value"], &y = its[i]["value"];
    REQUIRE(x.is_null() == y.is_null());
    // A rank may change where two scores are nearly one.
    if (!x.is_null()) CHECK(std::abs(x.get<double>() - y.get<double>()) <= 0.05);
  }
}

TEST_CASE("a device that is not there is named") {
  const Said s = run(cuda + "--device 1023 caption" + trained().of_run() + picture(1));
  CHECK(s.code == 1);
  CHECK(s.err.find("there is no device 1023") != std::string::npos);
}

TEST_CASE("in bf16 a training that stopped and went on has the bytes of one that did not") {
  const Training t;
  t.train("whole", cuda + "--set precision=bf16");
  t.train("again", cuda + "--set precision=bf16 --stop-after 7", 130);
  t.train("again", cuda + "--set precision=bf16 --resume");
  const auto want = t.files("whole"), got = t.files("again");
  REQUIRE(want.size() == got.size());
  for (const auto& [name, bytes] : want) {
    CAPTURE(name);
    CHECK((got.count(name) && got.at(name) == bytes));
  }
}

TEST_CASE("--tf32 changes products of floats, and the run says so") {
  const Training t;
  const auto first_loss = [&](const char* name, const std::string& more) {
    const Said s = run("pretrain --config" + quoted(t.config) + "--run" + quoted(t.of(name)) +
                       "--set precision=float --stop-after 1" + more);
    CHECK_MESSAGE(s.code == 130, s.err);
    const std::string said = s.out + s.err;
    const bool asked = more.find("--tf32") != more.npos;
    CHECK((said.find("arithmetic  products of floats round their factors to TF32") != said.npos) ==
          asked);
    CHECK((said.find("--resume --backend cuda --tf32") != said.npos) == asked);
    return t.log(name).at(0);
  };
  const io::Json exact = first_loss("exact", cuda),
                 rounded = first_loss("rounded", cuda + "--tf32");
  double most = 0;
  for (const auto& item : exact.items())
    if (item.value().is_number_float())
      most = std::max(most,
                      std::abs(item.value().get<double>() - rounded.at(item.key()).get<double>()) /
                          std::max(1.0, std::abs(item.value().get<double>())));
  CHECK(most > 1e-7);
  CHECK(most < 1e-1);
  const Said cpu = run("--backend cpu --tf32 caption" + trained().of_run() + picture(1));
  CHECK(cpu.code == 1);
  CHECK(cpu.err.find("--tf32 needs --backend cuda") != std::string::npos);
}
