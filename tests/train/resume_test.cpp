// Stopping and resuming a run: bit-identical weights, optimizer state and logs, wherever it is
// stopped.
#include <doctest/doctest.h>

#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/train/trainer.hpp"

using namespace hybridmed;
namespace fs = std::filesystem;
using B = Cpu<cpu::EigenGemm>;

namespace {

/// A folder of its own for each test, removed afterwards.
struct Scratch {
  fs::path dir = fs::temp_directory_path() / ("hybridmed-resume-" + std::to_string(::getpid()));
  Scratch() {
    fs::remove_all(dir);
    data::PhantomOptions o;
    o.count = 40;
    o.side = 40;
    o.valid = 0.2;
    o.test = 0.1;
    o.missing = 0.3;
    data::write_phantoms(dir / "data", o);
  }
  ~Scratch() { fs::remove_all(dir); }

  train::RunConfig config() const {
    train::RunConfig c;
    c.model = model::Config::preset("tiny-resnet");
    c.model.image_size = 32;
    c.model.d = 16;
    c.model.heads = 2;
    c.model.uni_blocks = 1;
    c.model.dec_blocks = 1;
    c.model.d_a = 12;
    c.model.d_e = 12;
    c.model.grid = 4;
    c.model.image_width = 4;
    c.model.t_findings = 32;
    c.model.t_impression = 16;
    c.data = (dir / "data").string();
    c.vocab_size = 120;
    c.batch = 8;
    c.epochs_stage1 = 2;
    c.epochs_stage2 = 2;
    c.jitter_contrast = 0.2;
    c.checkpoint_every = 100;
    c.patience = 1;
    return c;
  }
  bool run(const std::string& name, bool resume, std::int64_t stop_after) const {
    return train::Trainer<float, B>(config(), {dir / name, resume, {}, stop_after}).run();
  }
};

void same_files(const fs::path& a, const fs::path& b) {
  const auto last = train::list_checkpoints(a).back().filename();
  REQUIRE(train::list_checkpoints(b).back().filename() == last);
  for (const fs::path& f :
       {fs::path("log.jsonl"), fs::path("log.csv"),
        fs::path("checkpoints") / last / "model.safetensors",
        fs::path("checkpoints") / last / "optimizer.safetensors",
        fs::path("checkpoints") / last / "teacher.safetensors",
        fs::path("checkpoints") / last / "state.json", fs::path("best-stage2.json")})
    CHECK_MESSAGE(io::read_file(a / f) == io::read_file(b / f), f.string());
}

}  // namespace

TEST_CASE("a run stopped after any step and resumed equals the uninterrupted run bit for bit") {
  const Scratch s;
  REQUIRE(s.run("whole", false, -1));
  const io::Json state =
      io::read_json(train::list_checkpoints(s.dir / "whole").back() / "state.json");
  const auto steps = state["step"].get<std::int64_t>();
  REQUIRE(steps >= 9);
  for (std::int64_t stop = 1; stop < steps; ++stop) {
    CAPTURE(stop);
    fs::remove_all(s.dir / "parts");
    REQUIRE_FALSE(s.run("parts", false, stop));
    REQUIRE(s.run("parts", true, -1));
    same_files(s.dir / "whole", s.dir / "parts");
  }
}

TEST_CASE("what was logged after the last checkpoint is cut off on resume") {
  const Scratch s;
  REQUIRE(s.run("whole", false, -1));
  REQUIRE_FALSE(s.run("parts", false, 3));
  std::ofstream(s.dir / "parts" / "log.jsonl", std::ios::app)
      << "{\"kind\": \"step\", \"from\": \"a killed process\"}\n{\"ki";
  REQUIRE(s.run("parts", true, -1));
  same_files(s.dir / "whole", s.dir / "parts");
}

TEST_CASE("results do not depend on the number of loader workers") {
  const Scratch s;
  REQUIRE(s.run("whole", false, -1));
  auto c = s.config();
  c.workers = 3;
  REQUIRE(train::Trainer<float, B>(c, {s.dir / "three", false, {}, -1}).run());
  same_files(s.dir / "whole", s.dir / "three");
}

TEST_CASE("a batch larger than the training split is an error, overfitting included") {
  const Scratch s;
  auto c = s.config();
  c.batch = 500;
  for (const bool overfit : {false, true}) {
    c.overfit_batch = overfit;
    CHECK_THROWS_WITH_AS((train::Trainer<float, B>(c, {s.dir / "large", false, {}, -1})),
                         doctest::Contains("a batch of 500 is larger than the"), Error);
  }
}

TEST_CASE("overfitting one batch drives its losses down") {
  const Scratch s;
  auto c = s.config();
  c.overfit_batch = true;
  c.epochs_stage1 = 0;
  c.epochs_stage2 = 60;
  c.lr_stage2 = 3e-3;
  c.jitter_contrast = 0;
  train::Trainer<float, B> t(c, {s.dir / "overfit", false, {}, -1});
  REQUIRE(t.run());
  std::ifstream log(s.dir / "overfit" / "log.jsonl");
  std::string line, first, last;
  while (std::getline(log, line)) {
    first = first.empty() ? line : first;
    last = line;
  }
  CHECK(io::parse_json(last, "log")["total"].get<double>() <
        0.6 * io::parse_json(first, "log")["total"].get<double>());
}
