// Stands in for on_cuda.cpp and pretrain_cuda.cpp where the program is built without CUDA.
#include "run.hpp"

namespace hybridmed::app {

std::string cuda_is_missing() {
  return "this program was built without CUDA: install the CUDA Toolkit (nvcc, cuBLAS and "
         "cuBLASLt) and build it with -DHYBRIDMED_CUDA=ON, as the CMake preset cuda does";
}

std::unique_ptr<const Model> open_on_cuda(const std::string&, const Common&) {
  fail("app", "backend", cuda_is_missing());
}
int pretrain_on_cuda(const train::RunConfig&, const train::TrainerOptions&, const Common&) {
  fail("app", "backend", cuda_is_missing());
}

}  // namespace hybridmed::app
