// A consumer of the component onednn: the CPU backend multiplies by oneDNN without being told.
#include <hybridmed/backend/cpu/backend.hpp>

#include <cstdio>
#include <string_view>

int main() {
  using B = hybridmed::CpuBackend;
  if (std::string_view(B::gemm_policy::name) != "onednn") {
    std::printf("products by %s\n", B::gemm_policy::name);
    return 1;
  }
  const float a[] = {1, 2}, b[] = {3, 4};
  float c[4];
  B::gemm(false, false, 2, 2, 1, 1.0f, a, 1, b, 2, 0.0f, c, 2);
  return c[0] == 3 && c[1] == 4 && c[2] == 6 && c[3] == 8
             ? 0
             : (std::puts("another product came back"), 1);
}
