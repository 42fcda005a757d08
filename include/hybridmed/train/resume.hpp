#pragma once
// What a run may be resumed with: state that its schedule can have reached, and the configuration
// that it began with.
#include <set>

#include "hybridmed/train/checkpoint.hpp"
#include "hybridmed/train/run_config.hpp"

namespace hybridmed::train {

/// Keys that a resumed run may change: where things are and how fast they go. The number of epochs
/// may grow (see `check_same_run`).
inline const std::set<std::string>& free_keys() {
  static const std::set<std::string> keys{"data", "workers", "cache_mb", "checkpoint_every",
                                          "keep_checkpoints"};
  return keys;
}

/// Compares the configuration of a run, as it was begun, with the one it shall go on with. `stage`:
/// the one that the run is in, of `stages`.
///
/// The rule for epochs: those of the last stage may grow, and so may those of an earlier one while
/// it is not over. From the next step on the rate is that of a schedule over the new number of
/// steps; a finished run goes on from its best weights.
/// @throws Error that names every key which differs and may not.
inline void check_same_run(const RunConfig& begun, const RunConfig& now, int stage,
                           std::size_t stages, const std::string& where) {
  const io::Json before = io::to_json(begun), after = io::to_json(now);
  std::set<std::string> growing;
  std::string allowed;
  for (std::size_t k = static_cast<std::size_t>(stage - 1); k < stages; ++k)
    growing.insert(StageKeys(k, stages).epochs);
  for (const auto& key : free_keys()) allowed += (allowed.empty() ? "" : ", ") + key;
  allowed += " may change, and " + std::string(StageKeys(stages - 1, stages).epochs) + " may grow";
  for (std::size_t k = 0; k + 1 < stages; ++k) {
    const StageKeys keys(k, stages);
    allowed += ", as " + std::string(keys.epochs) + " may while " + keys.stage_text() + " runs";
  }
  allowed += "; ";
  std::string differing;
  for (const auto& item : before.items()) {
    const std::string& key = item.key();
    if (free_keys().count(key) || after.at(key) == item.value()) continue;
    if (growing.count(key) && after.at(key).get<Index>() > item.value().get<Index>()) continue;
    differing += (differing.empty() ? "" : ", ") + key + " (was " + item.value().dump() + ", is " +
                 after.at(key).dump() + ")";
  }
  if (differing.empty()) return;
  fail("train", "resume", where + ": a resumed run keeps its configuration; changed: " + differing,
       allowed + "for anything else start a new run, with --init for the weights");
}

/// What state.json is compared with.
struct Schedule {
  std::size_t stages = 1;
  std::int64_t epochs = 0, batches = 0;  ///< of the stage; steps of an epoch
  std::int64_t before = 0;               ///< most steps of the stages before this one
  std::size_t losses = 0;                ///< of the stage
};

/// Checks what state.json says against the schedule.
/// @throws Error that names the key.
inline void check_progress(const Progress& p, const Schedule& s, const std::string& where) {
  const std::int64_t epochs = s.epochs, batches = s.batches, before = s.before;
  const std::size_t losses = s.losses;
  const auto need = [&](bool ok, const char* key, const std::string& expected, std::int64_t got) {
    if (!ok)
      fail(
          "train", "load",
          where + ": the key '" + key + "': expected " + expected + ", got " + std::to_string(got));
  };
  const auto upto = [](std::int64_t n) { return "0 to " + std::to_string(n); };
  need(p.epoch >= 0 && p.epoch <= epochs, "epoch", upto(epochs), p.epoch);
  need(p.finished || p.epoch < epochs, "epoch",
       "below " + std::to_string(epochs) + " in a run that is not finished", p.epoch);
  need(p.batch >= 0 && p.batch <= batches, "batch", upto(batches), p.batch);
  need(p.epoch < epochs || p.batch == 0, "batch", "0 after the last epoch", p.batch);
  need(p.stage_step == p.epoch * batches + p.batch, "stage_step",
       std::to_string(p.epoch * batches + p.batch) + " by epoch and batch", p.stage_step);
  need(p.step >= p.stage_step && p.step - p.stage_step <= before, "step",
       std::to_string(p.stage_step) + " to " + std::to_string(p.stage_step + before) +
           " by stage_step and the stages before",
       p.step);
  need(p.best_epoch >= -1 && p.best_epoch <= p.epoch, "best_epoch",
       "-1 to " + std::to_string(p.epoch), p.best_epoch);
  need(p.bad_epochs >= 0 && p.bad_epochs <= p.epoch, "bad_epochs", upto(p.epoch), p.bad_epochs);
  need(p.sums.size() == losses + 1 || (p.sums.empty() && p.batch == 0), "sums",
       std::to_string(losses + 1) + " numbers", static_cast<std::int64_t>(p.sums.size()));
  need(p.stage == static_cast<int>(s.stages) || !p.finished, "finished",
       "false before the last stage", 1);
  need(!p.finished || p.batch == 0, "batch", "0 in a finished run", p.batch);
  for (double x : p.sums)
    if (!std::isfinite(x))
      fail("train", "load", where + ": the key 'sums' holds a number that is not finite");
  if (!std::isfinite(p.best))
    fail("train", "load", where + ": the key 'best' is not a finite number");
}

/// Reads state.json and config.json of a checkpoint. `check(progress, begun, file)` compares what
/// they say with the run that goes on.
/// @throws Error where they are damaged.
template <class F>
Progress read_progress(const std::filesystem::path& dir, F&& check) {
  const std::string state = (dir / "state.json").string(),
                    configuration = (dir / "config.json").string();
  const auto parsed = [](const std::vector<std::byte>& bytes, const std::string& file) {
    return io::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file);
  };
  Progress p;
  const std::vector<std::byte> bytes = io::read_file(state);
  const io::Json j = parsed(bytes, state);
  io::from_json(j, p, state);
  p.visit([&](std::string_view key, auto&) {
    if (!j.contains(std::string(key)))
      fail("train", "load", state + ": the key '" + std::string(key) + "' is missing",
           "if an earlier version wrote it, start a new run with --init " +
               (dir / "model.safetensors").string());
  });
  const std::vector<std::byte> config_bytes = io::read_file(configuration);
  io::verify_checksum(configuration, config_bytes);
  RunConfig begun;
  io::from_json(parsed(config_bytes, configuration), begun, configuration);
  check(p, begun, state);
  io::verify_checksum(dir / "state.json", bytes);
  if (dir.filename() != checkpoint_name(p.step))
    fail("train", "load",
         state + ": the key 'step': expected the number of its folder, got " +
             std::to_string(p.step));
  return p;
}

/// Compares the vocabulary and the studies of a checkpoint in `dir` with those of the run.
/// @throws Error where they changed.
inline void check_same_data(const Progress& p, const RunConfig& config, std::uint64_t data,
                            const std::filesystem::path& run, const std::filesystem::path& dir) {
  const std::string from_here =
      "start a new run with --init " + (dir / "model.safetensors").string();
  if (p.vocabulary != vocabulary_hash(run))
    fail("train", "resume",
         tokenizer_file(run).string() + ": not the vocabulary that the run was trained with",
         "give it back, or " + from_here);
  if (p.data != data)
    fail("train", "resume",
         config.data + ": its studies are not those that " + run.string() +
             " was trained on: a study, a text or a split has changed",
         "give back the old data, or " + from_here);
}

}  // namespace hybridmed::train
