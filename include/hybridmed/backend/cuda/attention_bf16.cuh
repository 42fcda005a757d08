#pragma once
// Attention in bf16 on tensor cores, for heads of up to 128 columns: what its passes share. Tiles
// are of bf16; scores, sums and softmax are in float, and weights are rounded to bf16 where they
// are multiplied again. A warp has 16 rows of a tile. Never included by a host compiler.
#include "hybridmed/backend/cuda/attention.cuh"
#include "hybridmed/backend/cuda/fragments.cuh"

namespace hybridmed::cuda::tiles {

/// Queries and keys per tile; the shared memory they take; blocks that a multiprocessor shall hold
/// at once, which bounds the registers.
template <int dim>
struct HalfTiles {
  static constexpr int row_bytes = static_cast<int>(sizeof(bfloat16)) * pitch<bfloat16, dim>;
  static constexpr bool narrow = dim <= 64;
  struct Forward {
    static constexpr int queries = 64, keys = 64, bytes = row_bytes * (queries + 2 * keys),
                         blocks = narrow ? 3 : 2;
  };
  struct QueryGradient {
    static constexpr int queries = 64, keys = narrow ? 64 : 32,
                         bytes = 2 * row_bytes * (queries + keys), blocks = 2;
  };
  struct KeyGradient {
    static constexpr int queries = 32, keys = 64, bytes = 2 * row_bytes * (queries + keys),
                         blocks = 2;
  };
};

/// What a causal query sees, or every one; and what sees a causal key.
inline __device__ Sight<false> sight_of_queries(bool causal, int i0, int j0) {
  return {causal ? i0 - j0 : 1 << 30};
}
inline __device__ Sight<true> sight_of_keys(bool causal, int i0, int j0) {
  return {causal ? j0 - i0 : -(1 << 30)};
}

/// Writes a lane's part of one of its two rows, times `factor`.
template <int blocks>
__device__ void write_half_row(const float (&y)[blocks][4], int half, float factor, bfloat16* row,
                               int d, int column, bool pieces) {
#pragma unroll
  for (int n = 0; n < blocks; ++n) {
    const int c = 8 * n + column;
    const std::uint32_t pair = narrow_pair(y[n][2 * half] * factor, y[n][2 * half + 1] * factor);
    if (pieces) {
      if (c < d) *reinterpret_cast<std::uint32_t*>(row + c) = pair;
    } else {
      if (c < d) row[c].bits = static_cast<std::uint16_t>(pair);
      if (c + 1 < d) row[c + 1].bits = static_cast<std::uint16_t>(pair >> 16);
    }
  }
}

/// f(integral_constant<int, dim>) with the smallest tile width that holds d columns on tensor
/// cores.
template <class F>
void with_half_dim(Index d, F f) {
  if (d <= 32) return f(std::integral_constant<int, 32>{});
  if (d <= 64) return f(std::integral_constant<int, 64>{});
  return f(std::integral_constant<int, 128>{});
}
inline constexpr Index widest_half = 128;

/// The forward pass of a head of up to `widest_half` columns, and the two kernels of the backward
/// pass: statistics, dq; dk, dv and partial sums of dbias.
void attention_bf16(Context::State& c, const AttentionArgs<bfloat16>& a, const char* operation);
void query_gradient_bf16(Context::State& c, const AttentionArgs<bfloat16>& a,
                         const AttentionGradients<bfloat16>& g, const float* centres,
                         const RowStatistics<float>& statistics, bool pieces,
                         const char* operation);
void key_gradient_bf16(Context::State& c, const AttentionArgs<bfloat16>& a,
                       const AttentionGradients<bfloat16>& g, const float* centres,
                       const RowStatistics<float>& statistics, Index groups, float* bias_parts,
                       bool pieces, const char* operation);

}  // namespace hybridmed::cuda::tiles
