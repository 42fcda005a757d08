#pragma once
// Pre-training in one precision.
#include <iostream>

#include "commands.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/train/trained_run.hpp"
#include "hybridmed/train/trainer.hpp"

namespace hybridmed::app {

template <class T>
int pretrain_as(const train::RunConfig& config, const train::TrainerOptions& options) {
  train::Trainer<T, CpuBackend> trainer(config, options);
  std::cerr << "measuring   the memory of a step, forward and backward over the longest texts\n";
  std::cerr << trainer.describe();
  const bool done = trainer.run();
  run_curves(options.run.string());
  if (!done) return 130;
  std::cerr << "done: the best weights are " << train::weights_of(options.run).string() << "\n";
  return 0;
}

}  // namespace hybridmed::app
