// The CPU as the backend of a trained run.
#include "hybridmed/backend/cpu/backend.hpp"
#include "model_on.hpp"

namespace hybridmed::app {

std::unique_ptr<const Model> open_on_cpu(const std::string& folder) {
  return std::make_unique<ModelOn<CpuBackend>>(folder);
}

}  // namespace hybridmed::app
