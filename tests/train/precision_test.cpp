// Runs in bf16: resumed bit for bit, read in float, begun from float weights, the same for any
// number of threads, and as good as in float.
#include <doctest/doctest.h>

#include <fstream>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/train/trained_run.hpp"
#include "run_files.hpp"
#include "support.hpp"
#include "tiny_run.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
namespace fs = std::filesystem;
using B = CpuBackend;
using Half = bfloat16;

namespace {

struct Phantoms {
  ScratchFolder scratch;
  const fs::path& dir = scratch.path;

  explicit Phantoms(std::size_t count) {
    data::PhantomOptions o;
    o.count = count;
    o.side = 40;
    o.valid = 0.2;
    o.test = 0.1;
    o.missing = 0.3;
    data::write_phantoms(dir / "data", o);
  }
  train::RunConfig config(const char* system, const char* precision) const {
    train::RunConfig c = tiny_config(dir / "data");
    c.system = system;
    c.precision = precision;
    c.jitter_contrast = 0.2;
    c.checkpoint_every = 100;
    c.epochs_stage1 = 1;
    return c;
  }
  template <class T>
  bool run(const train::RunConfig& c, const std::string& name, bool resume = false,
           std::int64_t stop_after = -1, const fs::path& init = {}) const {
    return NamedTrainer<T, B>(c, {dir / name, resume, init, stop_after}).run();
  }
};

std::int64_t steps_of(const fs::path& run) {
  return io::read_json(train::list_checkpoints(run).back() / "state.json")["step"]
      .get<std::int64_t>();
}
/// The rows of that kind in a run's log.
std::vector<io::Json> log_of(const fs::path& run, const std::string& kind) {
  std::vector<io::Json> rows;
  std::ifstream in(run / "log.jsonl");
  for (std::string line; std::getline(in, line);)
    if (io::Json row = io::parse_json(line, "log.jsonl"); row["kind"] == kind)
      rows.push_back(std::move(row));
  return rows;
}
fs::path weights_of(const fs::path& run) {
  return train::list_checkpoints(run).back() / "model.safetensors";
}

}  // namespace

TEST_CASE("a run in bf16 that was stopped and resumed equals the uninterrupted run bit for bit") {
  const Phantoms s(40);
  for (const char* name : {"hybridmed", "siglip", "mgca"}) {
    CAPTURE(name);
    const auto c = s.config(name, "bf16");
    for (const char* folder : {"whole", "parts"}) fs::remove_all(s.dir / folder);
    REQUIRE(s.run<Half>(c, "whole"));
    const std::int64_t steps = steps_of(s.dir / "whole");
    REQUIRE(steps >= 6);
    for (std::int64_t stop : {std::int64_t{2}, steps - 1}) {
      CAPTURE(stop);
      fs::remove_all(s.dir / "parts");
      REQUIRE_FALSE(s.run<Half>(c, "parts", false, stop));
      REQUIRE(s.run<Half>(c, "parts", true));
      same_files(s.dir / "whole", s.dir / "parts");
    }
    for (const auto& row : log_of(s.dir / "whole", "step")) {
      CHECK(std::isfinite(row["total"].get<double>()));
      CHECK(row["grad_norm"].get<double>() > 0);
    }

    // What it holds are floats, the digits of bf16 and those below; and it opens as a float run.
    const io::Safetensors stored = io::Safetensors::read(weights_of(s.dir / "whole"));
    std::size_t finer = 0, numbers = 0;
    for (const auto& [key, t] : stored.tensors()) {
      CAPTURE(key);
      CHECK(t.type_name == "F32");
      for (Index i = 0; i < t.size(); ++i) {
        const auto x = static_cast<float>(t.at(i));
        finer += static_cast<float>(bfloat16(x)) != x;
        ++numbers;
      }
    }
    CHECK(finer > numbers / 2);
    const train::TrainedRun<float, B> in_float(s.dir / "whole");
    CHECK(in_float.finished());
    CHECK(in_float.unused.empty());
    CHECK(in_float.log_scale.has_value());
    CHECK(in_float.config.precision == "bf16");
    const train::TrainedRun<Half, B> in_half(s.dir / "whole");
    Tensor<float, B> image({2, 3, 32, 32});
    B::fill_normal(image.size(), Philox(3), 1, image.data());
    const auto direction = [&]<class T>(const train::TrainedRun<T, B>& run) {
      using X = Tensor<T, B>;
      const auto features = run.model.image.template operator()<X>(
          narrow<T>(image), nn::Mode::evaluation(), model::Levels::last);
      return values(normalize_rows(run.model.proj.image_global.wide(features.global)));
    };
    const Values exact = direction(in_float), rough = direction(in_half);
    CHECK(difference(exact, rough) <= 0.05 * largest(exact));
    CHECK(difference(exact, rough) > 0);
  }
}

TEST_CASE("a run goes on in the precision that it began with") {
  const Phantoms s(40);
  REQUIRE_FALSE(s.run<Half>(s.config("clip", "bf16"), "half", false, 2));
  REQUIRE_FALSE(s.run<float>(s.config("clip", "float"), "single", false, 2));
  const auto e = error_of([&] { s.run<float>(s.config("clip", "float"), "half", true); });
  CHECK_MESSAGE(holds(e, "precision (was \"bf16\", is \"float\")"), e);
  const auto f = error_of([&] { s.run<Half>(s.config("clip", "bf16"), "single", true); });
  CHECK_MESSAGE(holds(f, "precision (was \"float\", is \"bf16\")"), f);
}

TEST_CASE("weights of a float run begin one in bf16, and the other way about") {
  const Phantoms s(40);
  auto single = s.config("hybridmed", "float"), half = s.config("hybridmed", "bf16");
  for (auto* c : {&single, &half}) c->lr_stage1 = c->lr_stage2 = 5e-3;
  REQUIRE(s.run<float>(single, "single"));
  REQUIRE(s.run<Half>(half, "half"));
  const auto loads = [&]<class T>(const train::RunConfig& begun, const fs::path& file, T) {
    auto c = begun;  // with the vocabulary of the run
    c.model = train::RunConfig::read(s.dir / "single" / "config.json").model;
    const auto system = system::make_system<T, B>(c.system, c.model);
    nn::initialise(*system, 99);
    train::load_initial_weights(file, *system);
    const io::Safetensors stored = io::Safetensors::read(file);
    std::size_t states = 0;
    const auto same = [&](const std::string& name, const auto& state) {
      CAPTURE(name);
      const auto& t = stored.at(name);
      const Values now = values(state.value);
      REQUIRE(static_cast<Index>(now.size()) == t.size());
      bool equal = true;
      for (std::size_t i = 0; i < now.size(); ++i)
        equal = equal && now[i] == t.at(static_cast<Index>(i));
      CHECK(equal);
      ++states;
    };
    nn::for_each_state(*system, same, same);
    CHECK(states == stored.tensors().size());
  };
  loads(half, weights_of(s.dir / "single"), Half());
  loads(single, weights_of(s.dir / "half"), float());
  // Through the trainer: the first loss of the new run is that of the weights, not of a fresh
  // model.
  auto more = half;
  more.epochs_stage1 = 0;
  more.lr_stage2 = 1e-6;
  more.lr_floor = 0;
  REQUIRE_FALSE(s.run<Half>(more, "begun", false, 1, weights_of(s.dir / "single")));
  REQUIRE_FALSE(s.run<Half>(more, "fresh", false, 1));
  const double begun = log_of(s.dir / "begun", "step")[0]["sum"].get<double>(),
               fresh = log_of(s.dir / "fresh", "step")[0]["sum"].get<double>();
  INFO("loss of the summaries: begun ", begun, ", fresh ", fresh);
  CHECK(begun < fresh - 0.05);
}

TEST_CASE("a run in bf16 does not depend on the number of threads") {
  const Phantoms s(40);
  const int before = B::threads();
  for (const char* name : {"hybridmed", "siglip"}) {
    CAPTURE(name);
    for (int threads : {1, 2, 3}) {
      const std::string folder = "threads" + std::to_string(threads);
      fs::remove_all(s.dir / folder);
      B::set_threads(threads);
      REQUIRE(s.run<Half>(s.config(name, "bf16"), folder));
    }
    same_files(s.dir / "threads1", s.dir / "threads2");
    same_files(s.dir / "threads1", s.dir / "threads3");
  }
  B::set_threads(before);
}

// At a rate where training is not chaotic: at 1e-3 float runs whose initial weights differ by 2^-9
// of themselves end up to 2 % apart too.
TEST_CASE("200 steps in bf16 and in float come to the same loss on held-out studies") {
  const Phantoms s(200);
  const auto total = [&]<class T>(Index seed, const char* precision, T) {
    auto c = s.config("hybridmed", precision);
    c.batch = 7;  // 140 studies: 20 steps an epoch
    c.epochs_stage1 = 2;
    c.epochs_stage2 = 8;
    c.lr_stage1 = c.lr_stage2 = 5e-4;
    c.checkpoint_every = 1000;
    c.seed = seed;
    const std::string folder = precision + std::to_string(seed);
    REQUIRE(s.run<T>(c, folder));
    REQUIRE(steps_of(s.dir / folder) == 200);
    const auto valid = log_of(s.dir / folder, "valid");
    REQUIRE(valid.size() == 10);
    const double first = valid[2]["total"].get<double>(), last = valid[9]["total"].get<double>();
    CHECK(last < first - 0.5);  // of stage 2
    return last;
  };
  for (Index seed : {0, 1}) {
    const double single = total(seed, "float", float()), half = total(seed, "bf16", Half());
    MESSAGE("validation total after 200 steps, seed ", seed, ": float ", single, ", bf16 ", half);
    CHECK(std::abs(half - single) <= 0.02 * single);
  }
}
