#include "pretrain.hpp"

#include "hybridmed/backend/cpu/backend.hpp"

namespace hybridmed::app {
int pretrain_double(const train::RunConfig& config, const train::TrainerOptions& options) {
  return pretrain_as<double, CpuBackend>(config, options);
}
}  // namespace hybridmed::app
