// CUDA as the backend of a trained run.
#include "cuda_place.hpp"
#include "model_on.hpp"

namespace hybridmed::app {

namespace {

/// The place comes first and goes last: the model's memory is in it.
struct OnCuda : private CudaPlace, public ModelOn<Cuda> {
  OnCuda(const std::string& folder, const Common& common)
      : CudaPlace(common), ModelOn<Cuda>(folder) {}
};

}  // namespace

std::string cuda_is_missing() { return {}; }

std::unique_ptr<const Model> open_on_cuda(const std::string& folder, const Common& common) {
  return std::make_unique<OnCuda>(folder, common);
}

}  // namespace hybridmed::app
