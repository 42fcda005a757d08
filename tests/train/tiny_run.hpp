#pragma once
// The trainer of whatever system a configuration names.
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/trainer.hpp"
#include "tiny_config.hpp"

namespace hybridmed::test {

/// The trainer of the system that the configuration names.
template <class T, class B>
struct NamedTrainer : train::Trainer<T, B> {
  NamedTrainer(const train::RunConfig& config, const train::TrainerOptions& options)
      : train::Trainer<T, B>(config, options, [](const train::RunConfig& c) {
          return system::make_system<T, B>(c.system, c.model);
        }) {}
};

}  // namespace hybridmed::test
