// A consumer of the component cuda: it links, and uses the device where there is one.
#include <hybridmed/backend/cuda/backend.hpp>
#include <hybridmed/core/tensor.hpp>

#include <cstdio>

int main() {
  using namespace hybridmed;
  if (cuda::device_count() == 0) {
    std::puts("no CUDA device: linked only");
    return 0;
  }
  const auto x = Tensor<float, Cuda>::full({3}, 2.0f);
  return x.to_host() == std::vector<float>{2, 2, 2} ? 0 : (std::puts("other numbers came back"), 1);
}
