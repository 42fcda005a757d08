#include "pretrain.hpp"

#include "hybridmed/backend/cpu/backend.hpp"

namespace hybridmed::app {
int pretrain_float(const train::RunConfig& config, const train::TrainerOptions& options) {
  return pretrain_as<float, CpuBackend>(config, options);
}
}  // namespace hybridmed::app
