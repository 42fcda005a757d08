#pragma once
// The GPU that the program was told to compute on, while it lives; for the sources that are built
// with CUDA.
#include "commands.hpp"
#include "hybridmed/backend/cuda/backend.hpp"

namespace hybridmed::app {

class CudaPlace {
 public:
  explicit CudaPlace(const Common& common)
      : context_(common.device,
                 common.tf32 ? cuda::FloatProducts::tf32 : cuda::FloatProducts::exact),
        use_(context_) {}

 private:
  cuda::Context context_;
  cuda::Use use_;
};

}  // namespace hybridmed::app
