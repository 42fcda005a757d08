// The main function of the CUDA tests: without a device they are skipped (exit code 77), with the
// reason; where HYBRIDMED_REQUIRE_CUDA is set, that is a failure.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

#include "hybridmed/backend/cuda/memory.hpp"

int main(int argc, char** argv) {
  if (hybridmed::cuda::device_count() == 0) {
    const bool required = std::getenv("HYBRIDMED_REQUIRE_CUDA") != nullptr;
    std::printf("%s: no CUDA device here, and no HYBRIDMED_CUDA_TEST_LAUNCHER that provides one\n",
                required ? "FAILED" : "SKIPPED");
    return required ? 1 : 77;
  }
  return doctest::Context(argc, argv).run();
}
