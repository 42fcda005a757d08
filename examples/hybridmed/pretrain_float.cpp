#include "pretrain.hpp"

namespace hybridmed::app {
int pretrain_float(const train::RunConfig& config, const train::TrainerOptions& options) {
  return pretrain_as<float>(config, options);
}
}  // namespace hybridmed::app
