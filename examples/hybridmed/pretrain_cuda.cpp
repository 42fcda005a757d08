#include "pretrain.hpp"

#include "cuda_place.hpp"

namespace hybridmed::app {

int pretrain_on_cuda(const train::RunConfig& config, const train::TrainerOptions& options,
                     const Common& common) {
  const CudaPlace place(common);
  if (config.precision == "double") return pretrain_as<double, Cuda>(config, options);
  if (config.precision == "bf16") return pretrain_as<bfloat16, Cuda>(config, options);
  return pretrain_as<float, Cuda>(config, options);
}

}  // namespace hybridmed::app
