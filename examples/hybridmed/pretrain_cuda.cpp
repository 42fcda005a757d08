#include "pretrain.hpp"

#include "hybridmed/backend/cuda/backend.hpp"

namespace hybridmed::app {

int pretrain_on_cuda(const train::RunConfig& config, const train::TrainerOptions& options,
                     int device) {
  const cuda::Context context(device);
  const cuda::Use use(context);
  if (config.precision == "double") return pretrain_as<double, Cuda>(config, options);
  if (config.precision == "float") return pretrain_as<float, Cuda>(config, options);
  fail("app", "pretrain",
       "--backend cuda: expected precision float or double, got " + config.precision,
       "--backend cpu trains in bf16");
}

}  // namespace hybridmed::app
