#include "training.hpp"

#include <csignal>

#include "../../train/tiny_run.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/train/trained_run.hpp"

namespace hybridmed::test {

using B = Cpu<cpu::EigenGemm>;

struct Trainer::Impl {
  NamedTrainer<float, B> trainer;
};

Trainer::Trainer(const train::RunConfig& config, const fs::path& run, bool resume,
                 std::int64_t stop_after, const fs::path& init)
    : impl_(new Impl{{config, {run, resume, init, stop_after, {}, "hybridmed pretrain"}}}) {}
Trainer::~Trainer() = default;
bool Trainer::run() { return impl_->trainer.run(); }
std::string Trainer::describe() { return impl_->trainer.describe(); }
void Trainer::save_model(const fs::path& file) { train::save_model(file, impl_->trainer.system()); }
std::size_t Trainer::fill(const std::string& pattern, float x) {
  std::size_t n = 0;
  const auto fill_one = [&](const std::string& name, auto& p) {
    if (says(name, pattern)) {
      p.value = Tensor<float, B>::full(p.value.shape(), x);
      ++n;
    }
  };
  nn::for_each_state(impl_->trainer.system(), fill_one, fill_one);
  return n;
}

void open_trained_run(const fs::path& run) { train::TrainedRun<float, B>{run}; }

Corpus::Corpus() {
  data::PhantomOptions o;
  o.count = 40;
  o.side = 40;
  o.valid = 0.2;
  o.test = 0.1;
  o.missing = 0.3;
  data::write_phantoms(data, o);
  const Listening quiet(scratch.path / "whole.txt");
  if (!Trainer(tiny_config(data), whole, false, -1).run())
    throw std::logic_error("the undisturbed run did not end");
}
const Corpus& corpus() {
  static const Corpus c;
  return c;
}
std::set<std::string> ids_of(const std::string& split) {
  std::set<std::string> ids;
  for (const auto& s : data::DataFolder(corpus().data).select({.split = split})) ids.insert(s.id);
  return ids;
}

Run::Run() = default;
Run::~Run() = default;
std::string Run::go(bool resume, std::int64_t stop_after, const fs::path& init, bool interrupt) {
  Listening ear(scratch.path / "printed.txt");
  std::string e;
  CHECK_NOTHROW(e = error_of([&] {
                  Trainer trainer(config, folder, resume, stop_after, init);
                  if (interrupt) ::raise(SIGINT);
                  trainer.run();
                }));
  printed = ear.text();
  return e;
}

void Run::goes_on() {
  config = tiny_config(corpus().data);
  const std::string e = go(true, -1);
  CHECK_MESSAGE(e == "", e);
  const fs::path last = fs::path("checkpoints") / train::checkpoint_name(all_steps);
  for (const fs::path& f : {fs::path("log.jsonl"), fs::path("log.csv"), last / "model.safetensors",
                            last / "optimizer.safetensors", last / "teacher.safetensors",
                            last / "state.json", fs::path("best-stage2.json")}) {
    REQUIRE_MESSAGE(fs::exists(folder / f), f.string());
    CHECK_MESSAGE(io::read_file(folder / f) == io::read_file(corpus().whole / f), f.string());
  }
}

void nothing_changed(const Snapshot& before, const Snapshot& after) {
  CHECK_MESSAGE(changes(before, after) == "", changes(before, after));
}
std::int64_t logged_steps(const fs::path& run) {
  std::int64_t n = 0;
  std::ifstream log(run / "log.jsonl");
  for (std::string line; std::getline(log, line);)
    n += io::parse_json(line, "log")["kind"] == "step";
  return n;
}

}  // namespace hybridmed::test
