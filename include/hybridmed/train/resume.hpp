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

/// Compares the configuration of a run, as it was begun, with the one it shall go on with.
///
/// The rule for epochs: epochs_stage2 may grow, and so may epochs_stage1 while stage 1 is not over.
/// From the next step on the rate is that of a schedule over the new number of steps; a finished
/// run goes on from its best weights.
/// @throws Error that names every key which differs and may not.
inline void check_same_run(const RunConfig& begun, const RunConfig& now, int stage,
                           const std::string& where) {
  const io::Json before = io::to_json(begun), after = io::to_json(now);
  std::string differing;
  for (const auto& item : before.items()) {
    const std::string& key = item.key();
    if (free_keys().count(key) || after.at(key) == item.value()) continue;
    const bool may_grow = key == "epochs_stage2" || (key == "epochs_stage1" && stage == 1);
    if (may_grow && after.at(key).get<Index>() > item.value().get<Index>()) continue;
    differing += (differing.empty() ? "" : ", ") + key + " (was " + item.value().dump() + ", is " +
                 after.at(key).dump() + ")";
  }
  if (differing.empty()) return;
  std::string allowed;
  for (const auto& key : free_keys()) allowed += key + ", ";
  fail("train", "resume", where + ": a resumed run keeps its configuration; changed: " + differing,
       allowed +
           "may change, epochs_stage2 may grow, and epochs_stage1 while stage 1 runs; for anything "
           "else start a new run, with --init for the weights");
}

/// Checks what state.json says against the schedule: `losses` terms in the stage's objective,
/// `batches` an epoch, at most `before` steps in the stages before this one.
/// @throws Error that names the key.
inline void check_progress(const Progress& p, std::int64_t epochs, std::int64_t batches,
                           std::int64_t before, std::size_t losses, const std::string& where) {
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
  need(p.stage == 2 || !p.finished, "finished", "false in stage 1", 1);
  need(!p.finished || p.batch == 0, "batch", "0 in a finished run", p.batch);
  for (double x : p.sums)
    if (!std::isfinite(x))
      fail("train", "load", where + ": the key 'sums' holds a number that is not finite");
  if (!std::isfinite(p.best))
    fail("train", "load", where + ": the key 'best' is not a finite number");
}

}  // namespace hybridmed::train
