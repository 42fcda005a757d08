#pragma once
// CUDA kernels of ragged attention; backend/reference/attention.hpp says what they compute.
// Instantiated for float, double and bf16. Scores live in tiles of shared memory only. A head has
// at most 256 columns. attention_backward needs AttentionArgs::query_rows.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Attention {
  template <class T>
  static void attention(const AttentionArgs<T>& a);
  template <class T>
  static void attention_backward(const AttentionArgs<T>& a, const AttentionGradients<T>& g);
};

}  // namespace hybridmed::cuda
