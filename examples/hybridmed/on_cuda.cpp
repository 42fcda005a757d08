// CUDA as the backend of a trained run.
#include "hybridmed/backend/cuda/backend.hpp"
#include "model_on.hpp"

namespace hybridmed::app {

namespace {

struct Place {
  cuda::Context context;
  cuda::Use use;
  explicit Place(int device) : context(device), use(context) {}
};
/// The place comes first and goes last: the model's memory is in it.
struct OnCuda : private Place, public ModelOn<Cuda> {
  OnCuda(const std::string& folder, int device) : Place(device), ModelOn<Cuda>(folder) {}
};

}  // namespace

std::string cuda_is_missing() { return {}; }

std::unique_ptr<const Model> open_on_cuda(const std::string& folder, int device) {
  return std::make_unique<OnCuda>(folder, device);
}

}  // namespace hybridmed::app
