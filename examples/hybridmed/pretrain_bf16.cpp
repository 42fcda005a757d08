#include "pretrain.hpp"

#include "hybridmed/backend/cpu/backend.hpp"

namespace hybridmed::app {
int pretrain_bf16(const train::RunConfig& config, const train::TrainerOptions& options) {
  return pretrain_as<bfloat16, CpuBackend>(config, options);
}
}  // namespace hybridmed::app
