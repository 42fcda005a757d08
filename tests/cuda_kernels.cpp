// Prints the mangled name of every kernel of the CUDA backend. It is linked with all of its
// objects, used or not, and needs no device.
#include <cstdio>

#include "cuda_launches.hpp"

int main() {
  for (const auto& name : hybridmed::test::registered_kernels()) std::puts(name.c_str());
}
