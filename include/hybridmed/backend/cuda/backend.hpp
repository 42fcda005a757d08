#pragma once
// The CUDA backend, so far without the objectives' kernels.
// Declarations only, so any C++20 compiler may include it; link hybridmed::cuda for the kernels.
// Everything runs on the stream of the thread's current context (context.hpp), in the order of the
// calls, and nothing waits but copy_to_host: a value is read where the host asks for it.
#include "hybridmed/backend/concept.hpp"
#include "hybridmed/backend/cuda/attention.hpp"
#include "hybridmed/backend/cuda/context.hpp"
#include "hybridmed/backend/cuda/convolution.hpp"
#include "hybridmed/backend/cuda/elementwise.hpp"
#include "hybridmed/backend/cuda/gather.hpp"
#include "hybridmed/backend/cuda/memory.hpp"
#include "hybridmed/backend/cuda/products.hpp"
#include "hybridmed/backend/cuda/rows.hpp"

namespace hybridmed {

struct Cuda : cuda::Memory,
              cuda::Elementwise,
              cuda::Rows,
              cuda::Products,
              cuda::Gather,
              cuda::Attention,
              cuda::Convolution {
  static constexpr const char* name = "cuda";
};

}  // namespace hybridmed
