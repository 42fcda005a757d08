#pragma once
// The CUDA backend: what layers without attention need (BackendFeedForward), kernels on rows, and
// those of every objective (BackendObjectives).
// Declarations only, so any C++20 compiler may include it; link hybridmed::cuda for the kernels.
// Everything runs on the stream of the thread's current context (context.hpp), in the order of the
// calls, and nothing waits but copy_to_host: a value is read where the host asks for it.
#include "hybridmed/backend/concept.hpp"
#include "hybridmed/backend/cuda/context.hpp"
#include "hybridmed/backend/cuda/elementwise.hpp"
#include "hybridmed/backend/cuda/gather.hpp"
#include "hybridmed/backend/cuda/local_alignment.hpp"
#include "hybridmed/backend/cuda/losses.hpp"
#include "hybridmed/backend/cuda/memory.hpp"
#include "hybridmed/backend/cuda/products.hpp"
#include "hybridmed/backend/cuda/rows.hpp"
#include "hybridmed/backend/cuda/token_alignment.hpp"

namespace hybridmed {

struct Cuda : cuda::Memory,
              cuda::Elementwise,
              cuda::Rows,
              cuda::Gather,
              cuda::Products,
              cuda::Losses,
              cuda::LocalAlignment,
              cuda::TokenAlignment {
  static constexpr const char* name = "cuda";
};

}  // namespace hybridmed
