#pragma once
// The CUDA backend: every group of the concept, in float, double and bf16 (the last from compute
// capability 8.0 on).
// Declarations only, so any C++20 compiler may include it; link hybridmed::cuda for the kernels.
// Everything runs on the stream of the thread's current context (context.hpp), in the order of the
// calls, and nothing waits but copy_to_host: a value is read where the host asks for it.
#include "hybridmed/backend/concept.hpp"
#include "hybridmed/backend/cuda/attention.hpp"
#include "hybridmed/backend/cuda/context.hpp"
#include "hybridmed/backend/cuda/convolution.hpp"
#include "hybridmed/backend/cuda/elementwise.hpp"
#include "hybridmed/backend/cuda/gather.hpp"
#include "hybridmed/backend/cuda/generation.hpp"
#include "hybridmed/backend/cuda/layer_norm.hpp"
#include "hybridmed/backend/cuda/local_alignment.hpp"
#include "hybridmed/backend/cuda/losses.hpp"
#include "hybridmed/backend/cuda/memory.hpp"
#include "hybridmed/backend/cuda/products.hpp"
#include "hybridmed/backend/cuda/replay.hpp"
#include "hybridmed/backend/cuda/rows.hpp"
#include "hybridmed/backend/cuda/token_alignment.hpp"
#include "hybridmed/backend/cuda/update.hpp"

namespace hybridmed {

struct Cuda : cuda::Memory,
              cuda::Elementwise,
              cuda::Rows,
              cuda::LayerNorm,
              cuda::Products,
              cuda::Gather,
              cuda::Attention,
              cuda::Convolution,
              cuda::Losses,
              cuda::LocalAlignment,
              cuda::TokenAlignment,
              cuda::Generation,
              cuda::Update,
              cuda::Replay {
  using cuda::Elementwise::dropout_mask;  // of random numbers that the host gives
  using cuda::Replay::dropout_mask;       // of those in device memory
  static constexpr const char* name = "cuda";

  /// The most bytes that the current context has handed out at once. Waits for its work.
  static std::size_t memory_peak() { return cuda::memory_statistics().peak; }
};

}  // namespace hybridmed
