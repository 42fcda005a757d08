#include "pretrain.hpp"

#include "hybridmed/backend/cuda/backend.hpp"

namespace hybridmed::app {

int pretrain_on_cuda(const train::RunConfig& config, const train::TrainerOptions& options,
                     const Common& common) {
  const cuda::Context context(common.device,
                              common.tf32 ? cuda::FloatProducts::tf32 : cuda::FloatProducts::exact);
  const cuda::Use use(context);
  if (config.precision == "double") return pretrain_as<double, Cuda>(config, options);
  if (config.precision == "bf16") return pretrain_as<bfloat16, Cuda>(config, options);
  return pretrain_as<float, Cuda>(config, options);
}

}  // namespace hybridmed::app
