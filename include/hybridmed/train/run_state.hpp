#pragma once
// A run in memory: what a checkpoint holds, how it is written, and how it is taken up again.
#include <functional>
#include <memory>
#include <optional>

#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/train/initial_weights.hpp"
#include "hybridmed/train/losses_seen.hpp"
#include "hybridmed/train/resume.hpp"
#include "hybridmed/train/run_folder.hpp"
#include "hybridmed/train/run_log.hpp"

namespace hybridmed::train {

template <class T, class B>
class RunState {
 public:
  using System = system::System<T, B>;
  using MakeSystem = std::function<std::unique_ptr<System>(const RunConfig&)>;

  /// Reads the data, and makes the system with its initial weights. The configuration says then
  /// which system and precision these are. `run`: the folder of a run; where it goes on, its
  /// vocabulary is kept.
  RunState(RunConfig begun, const std::filesystem::path& run, bool resume, const MakeSystem& make)
      : config(std::move(begun)),
        data(config, resume ? tokenizer_file(run) : std::filesystem::path()),
        system(made(make)),
        run_(run) {
    config.precision = precision_name<T>();
    if (!system->name().empty()) config.system = system->name();
    check_stages(config, stages());
    check_losses(config, stages(), data.train, data.valid);
  }

  RunConfig config;
  Preparation data;
  std::unique_ptr<System> system;
  std::optional<optim::AdamW<master_of<T>, B>> optimizer;
  Progress progress;

  const std::vector<system::Stage>& stages() const { return system->stages(); }
  /// The present one, from 0.
  std::size_t stage() const { return static_cast<std::size_t>(progress.stage - 1); }
  std::int64_t epochs(std::size_t k) const { return config.epochs(k, stages().size()); }
  double rate(std::size_t k) const { return config.rate(k, stages().size()); }
  /// Of the present stage.
  std::int64_t total_steps() const { return epochs(stage()) * data.batches(); }

  /// Writes a new run and begins its first stage.
  /// @throws Error where its first weights belong to another vocabulary.
  void start(const InitialWeights& initial) {
    write_new_run(run_, config, data);
    progress = {};
    progress.data = data.hash;
    progress.vocabulary = vocabulary_hash(run_);
    initial.need_vocabulary(progress.vocabulary);
    std::size_t first = 0;
    while (first + 1 < stages().size() && epochs(first) == 0) ++first;
    begin_stage(first);
  }
  /// Chooses what stage k, from 0, trains, and makes its optimizer.
  void begin_stage(std::size_t k) {
    progress.begin_stage(static_cast<int>(k) + 1);
    progress.finished = epochs(k) == 0;
    system->begin_stage(k);
    optimizer.emplace(*system,
                      optim::AdamWOptions{0.9, 0.999, 1e-8, config.weight_decay, config.clip});
  }
  /// Takes up the newest checkpoint.
  void go_on() {
    const auto checkpoints = list_checkpoints(run_);
    try {
      restore(checkpoints.back());
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Error& e) {
      if (checkpoints.size() < 2 || !e.hint().empty() ||
          e.reason().find(checkpoints.back().string()) == std::string::npos)
        throw;
      fail(e.area(), "resume", e.reason(),
           "remove " + checkpoints.back().string() + " to go on from " +
               checkpoints[checkpoints.size() - 2].filename().string());
    }
    remove_leftovers(run_);
    prune_checkpoints(run_, config.keep_checkpoints);
    write_config(run_, config);
  }
  /// Writes a checkpoint.
  void save(RunLog& log) {
    log.record_lengths(progress);
    const std::string name = checkpoint_name(progress.step);
    const auto metadata = metadata_of(name);
    write_folder(run_ / "checkpoints" / name, [&](const std::filesystem::path& dir) {
      save_model(dir / "model.safetensors", *system, metadata);
      system::TeacherOf<T, B> teacher{&*system};
      if (system->has_teacher()) save_model(dir / "teacher.safetensors", teacher);
      save_optimizer(dir / "optimizer.safetensors", *optimizer);
      io::write_text(dir / "config.json", io::to_json(config).dump(1) + "\n");
      io::write_text(dir / "state.json", io::to_json(progress).dump(1) + "\n");
    });
    prune_checkpoints(run_, config.keep_checkpoints);
  }
  void save_best_weights() {
    save_best(run_, progress, static_cast<int>(stages().size()), *system,
              metadata_of(best_name(progress)));
  }

 private:
  std::map<std::string, std::string> metadata_of(const std::string& folder) const {
    auto metadata = weights_metadata(config, progress.vocabulary);
    metadata["saved_as"] = folder;
    return metadata;
  }
  std::unique_ptr<System> made(const MakeSystem& make) {
    try {
      auto s = make(config);
      nn::initialise(*s, static_cast<std::uint64_t>(config.seed));
      return s;
    } catch (const OutOfMemory& e) {
      throw OutOfMemory("train", "memory",
                        "the model of this configuration does not fit: " + e.reason(),
                        "lower image_size, image_width, d, grid, or the numbers of blocks");
    }
  }
  void restore(const std::filesystem::path& dir) {
    std::int64_t epochs_begun = 0;
    const Progress p =
        read_progress(dir, [&](const Progress& read, const RunConfig& begun, const auto& file) {
          check_resumed(read, begun, file);
          epochs_begun = begun.epochs(static_cast<std::size_t>(read.stage - 1), stages().size());
        });
    check_same_data(p, config, data.hash, run_, dir);
    begin_stage(static_cast<std::size_t>(p.stage - 1));
    load_model(dir / "model.safetensors", *system);
    system::TeacherOf<T, B> teacher{&*system};
    if (system->has_teacher()) load_model(dir / "teacher.safetensors", teacher);
    load_optimizer(dir / "optimizer.safetensors", *optimizer);
    if (optimizer->steps() != p.stage_step)
      fail("train", "load",
           (dir / "optimizer.safetensors").string() + ": of " + std::to_string(optimizer->steps()) +
               " steps, but state.json says stage_step = " + std::to_string(p.stage_step));
    progress = p;
    if (epochs(stage()) == epochs_begun) return;
    progress.finished = false;
    progress.bad_epochs = 0;  // the new epochs are not cut off by what went before
    std::fprintf(stderr,
                 "stage %d goes on for %lld epochs; its rate is now that of a schedule over %lld\n",
                 p.stage, static_cast<long long>(epochs(stage()) - p.epoch),
                 static_cast<long long>(epochs(stage())));
  }
  void check_resumed(const Progress& p, const RunConfig& begun, const std::string& state) const {
    const auto n = stages().size();
    if (begun.system != config.system)
      fail("train", "resume",
           run_.string() + ": a resumed run keeps its configuration; changed: system (was \"" +
               begun.system + "\", is \"" + config.system + "\")",
           "for another system start a new run, with --init for the weights");
    if (p.stage < 1 || p.stage > static_cast<int>(n))
      fail("train", "load",
           state + ": the key 'stage': expected " + (n == 1 ? "1" : "1 or 2") + ", got " +
               std::to_string(p.stage));
    const auto k = static_cast<std::size_t>(p.stage - 1);
    check_same_run(begun, config, p.stage, n, run_.string());
    std::int64_t before = 0;
    for (std::size_t i = 0; i < k; ++i) before += epochs(i) * data.batches();
    check_progress(p, {n, epochs(k), data.batches(), before, stages()[k].losses.size()}, state);
  }

  std::filesystem::path run_;
};

}  // namespace hybridmed::train
