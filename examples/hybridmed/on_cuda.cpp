// CUDA as the backend of a trained run.
#include "hybridmed/backend/cuda/backend.hpp"
#include "model_on.hpp"

namespace hybridmed::app {

namespace {

struct Place {
  cuda::Context context;
  cuda::Use use;
  explicit Place(const Common& common)
      : context(common.device,
                common.tf32 ? cuda::FloatProducts::tf32 : cuda::FloatProducts::exact),
        use(context) {}
};
/// The place comes first and goes last: the model's memory is in it.
struct OnCuda : private Place, public ModelOn<Cuda> {
  OnCuda(const std::string& folder, const Common& common) : Place(common), ModelOn<Cuda>(folder) {}
};

}  // namespace

std::string cuda_is_missing() { return {}; }

std::unique_ptr<const Model> open_on_cuda(const std::string& folder, const Common& common) {
  return std::make_unique<OnCuda>(folder, common);
}

}  // namespace hybridmed::app
