#pragma once
// Pre-training in one precision on one backend.
#include <iostream>

#include "commands.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/trained_run.hpp"
#include "hybridmed/train/trainer.hpp"

namespace hybridmed::app {

template <class T, class B>
int pretrain_as(const train::RunConfig& config, const train::TrainerOptions& options) {
  const auto make = [](const train::RunConfig& c) {
    return system::make_system<T, B>(c.system, c.model);
  };
  train::Trainer<T, B> trainer(config, options, make);
  std::cerr << "measuring   the memory of a step, forward and backward over the longest texts\n";
  std::cerr << trainer.describe();
  const bool done = trainer.run();
  run_curves(options.run.string());
  if (!done) return 130;
  std::cerr << "done: the best weights are "
            << train::weights_of(options.run,
                                 config.trained_stages(trainer.system().stages().size()))
                   .string()
            << "\n";
  return 0;
}

}  // namespace hybridmed::app
