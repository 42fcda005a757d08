// Stopping and resuming a run: bit-identical weights, optimizer state and logs, wherever it is
// stopped.
#include <doctest/doctest.h>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/task/evaluation.hpp"
#include "run_files.hpp"
#include "tiny_run.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
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
    train::RunConfig c = tiny_config(dir / "data");
    c.jitter_contrast = 0.2;
    c.checkpoint_every = 100;
    c.patience = 1;
    return c;
  }
  bool run(const std::string& name, bool resume, std::int64_t stop_after) const {
    return NamedTrainer<float, B>(config(), {dir / name, resume, {}, stop_after}).run();
  }
};

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

TEST_CASE("a run is opened with the best weights of the last stage that it trains") {
  const Scratch s;
  auto c = s.config();
  REQUIRE(NamedTrainer<float, B>(c, {s.dir / "both", false, {}, -1}).run());
  const auto best = train::best_weights(s.dir / "both", 2);
  REQUIRE(fs::remove(s.dir / "both" / "best-stage2.json"));  // lost: its folder speaks for itself
  const train::TrainedRun<float, B> both(s.dir / "both");
  CHECK(both.weights == best);
  CHECK(both.finished());

  c.epochs_stage2 = 0;
  REQUIRE(NamedTrainer<float, B>(c, {s.dir / "first", false, {}, -1}).run());
  const train::TrainedRun<float, B> first(s.dir / "first");
  CHECK(first.weights == train::best_weights(s.dir / "first", 1));
  CHECK(first.finished());
}

TEST_CASE("results do not depend on the number of loader workers") {
  const Scratch s;
  REQUIRE(s.run("whole", false, -1));
  auto c = s.config();
  c.workers = 3;
  REQUIRE(NamedTrainer<float, B>(c, {s.dir / "three", false, {}, -1}).run());
  same_files(s.dir / "whole", s.dir / "three");
}

namespace {
/// CLIP under a name of its own, whose loss is called LossName's name.
struct Alignment : objective::InfoNce {
  static constexpr std::string_view name = "alignment";
};
struct Total : objective::InfoNce {
  static constexpr std::string_view name = "total";
};
template <class Loss>
struct Own {
  static constexpr std::string_view name = "own";
  static auto stages(const model::Config&) {
    return std::tuple{system::StageRecipe{"learns to align", 1.0 * Loss{}}};
  }
};
/// What a trainer of that recipe says; empty where it trains to the end.
template <class T, class Loss>
std::string trained_by(const train::RunConfig& config, const train::TrainerOptions& options) {
  return error_of([&] {
    train::Trainer<T, B>(config, options, [](const train::RunConfig& c) {
      return std::make_unique<system::SystemOf<Own<Loss>, T, B>>(c.model);
    }).run();
  });
}
}  // namespace

TEST_CASE("a run of one's own says its system and precision, and keeps them and its losses") {
  const Scratch s;
  const auto c = s.config();  // says hybridmed and float
  const fs::path run = s.dir / "own";
  CHECK(trained_by<double, Alignment>(c, {run, false, {}, 2}) == "");
  const auto written = io::read_json(run / "config.json");
  CHECK(written["system"] == "own");
  CHECK(written["precision"] == "double");
  const auto holds = [](const std::string& error, const char* part) {
    return error.find(part) != std::string::npos;
  };
  CHECK(holds(trained_by<float, Alignment>(c, {run, true, {}, -1}),
              "precision (was \"double\", is \"float\")"));
  CHECK(holds(trained_by<double, objective::InfoNce>(c, {run, true, {}, -1}),
              "log.csv: expected the columns kind,stage,epoch,step,lr,total,cg,grad_norm, got "
              "kind,stage,epoch,step,lr,total,alignment,grad_norm"));
  CHECK(holds(trained_by<double, Total>(c, {s.dir / "total", false, {}, -1}),
              "a loss is called 'total'"));
  CHECK(trained_by<double, Alignment>(c, {run, true, {}, -1}) == "");
}

TEST_CASE("weights of another stage in the place of the last one's are not served") {
  const Scratch s;
  REQUIRE(s.run("run", false, -1));
  const train::TrainedRun<float, B> right(s.dir / "run");
  fs::copy_file(train::best_weights(s.dir / "run", 1), right.weights,
                fs::copy_options::overwrite_existing);
  CHECK(error_of([&] {
          train::TrainedRun<float, B>{s.dir / "run"};
        }).find("these weights were saved as best-stage1-step-") != std::string::npos);
}

TEST_CASE("a validation split whose contrastive loss has one study to compare is named") {
  const Scratch s;
  const fs::path valid = s.dir / "data" / "splits" / "valid.txt";
  std::string first;
  std::getline(std::ifstream(valid) >> std::ws, first);
  std::ofstream(valid) << first << "\n";
  auto c = s.config();
  c.epochs_stage1 = 0;
  const auto report = NamedTrainer<float, B>(c, {s.dir / "run", false, {}, -1}).describe();
  CHECK(report.find(" compares studies, and one validation study alone has ") != std::string::npos);
}

TEST_CASE("a batch larger than the training split is an error, overfitting included") {
  const Scratch s;
  auto c = s.config();
  c.batch = 500;
  for (const bool overfit : {false, true}) {
    c.overfit_batch = overfit;
    CHECK_THROWS_WITH_AS((NamedTrainer<float, B>(c, {s.dir / "large", false, {}, -1})),
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
  NamedTrainer<float, B> t(c, {s.dir / "overfit", false, {}, -1});
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

TEST_CASE("every system is trained, resumed bit for bit, and served with what it has") {
  const Scratch s;
  for (const char* name : {"clip", "siglip", "convirt", "gloria", "mgca", "coca", "hybridmed"}) {
    CAPTURE(name);
    auto c = s.config();
    c.system = name;
    c.epochs_stage1 = 1;
    const auto run = [&](const char* folder, bool resume, std::int64_t stop) {
      return NamedTrainer<float, B>(c, {s.dir / folder, resume, {}, stop}).run();
    };
    for (const char* folder : {"whole", "parts"}) fs::remove_all(s.dir / folder);
    REQUIRE(run("whole", false, -1));
    REQUIRE_FALSE(run("parts", false, 2));
    REQUIRE(run("parts", true, -1));
    same_files(s.dir / "whole", s.dir / "parts");

    // The table of the log has the columns of its own losses.
    std::string header, line;
    std::ifstream csv(s.dir / "whole" / "log.csv");
    std::getline(csv, header);
    std::string want = "kind,stage,epoch,step,lr,total,";
    const auto stages = system::stages_of_system(name, c.model);
    for (const auto& loss : stages.back().losses) want += loss.name + ",";
    CHECK(header == want + "grad_norm");

    const train::TrainedRun<float, B> trained(s.dir / "whole");
    CHECK(trained.finished());
    CHECK(trained.unused.empty());
    CHECK(trained.log_scale.has_value());
    const auto image = Tensor<float, B>::full({1, 3, 32, 32}, 0.1f);
    const auto embedded = task::embed_images<float, B>(trained.model, image);
    const auto texts = task::encode_texts<float, B>(trained.model, trained.vocabulary,
                                                    {"no effusion"}, trained.cleaning());
    CHECK(embedded.regions.size() == (trained.system.parts.regions ? 1 : 0));
    CHECK(texts.words.defined() == trained.system.parts.words);
    if (trained.system.parts.captioning)
      CHECK(task::caption(trained.model, image).ids.size() == 1);
    else
      CHECK_THROWS_WITH_AS(task::caption(trained.model, image),
                           doctest::Contains("without the captioning branch"), Error);
  }
}
