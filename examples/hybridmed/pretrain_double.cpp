#include "pretrain.hpp"

namespace hybridmed::app {
int pretrain_double(const train::RunConfig& config, const train::TrainerOptions& options) {
  return pretrain_as<double>(config, options);
}
}  // namespace hybridmed::app
