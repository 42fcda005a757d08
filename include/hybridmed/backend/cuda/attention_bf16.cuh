#pragma once
// Attention in bf16 on tensor cores, for heads of up to 128 columns: what its passes share. Tiles
// are of bf16; scores, sums and softmax are in float, and weights are rounded to bf16 where they
// are multiplied again. A warp has 16 rows of a tile. Never included by a host compiler.
#include "hybridmed/backend/cuda/attention.cuh"
#include "hybridmed/backend/cuda/fragments.cuh"

namespace hybridmed::cuda::tiles {

/// Queries and keys per tile; the shared memory they take; blocks that a multiprocessor shall hold
/// at once, which bounds the registers. A warp has 16 rows of the tile that stays; each tile that
/// passes is read once for all of them. So `tall` tiles, for segments that fill them, have as many
/// rows as registers allow: forward, that are the 197 tokens of an image of 224 pixels.
template <int dim, bool tall>
struct HalfTiles {
  static constexpr int width = dim,
                       row_bytes = static_cast<int>(sizeof(bfloat16)) * pitch<bfloat16, dim>;
  static constexpr bool narrow = dim <= 64;
  template <int rows>
  static constexpr int threads_for = rows / 16 * warp_size;
  struct Forward {
    static constexpr int queries = tall ? 208 : 64, keys = 64, threads = threads_for<queries>,
                         bytes = row_bytes * (queries + 2 * keys),
                         blocks = tall     ? 1
                                  : narrow ? 3
                                           : 2;
  };
  struct QueryGradient {
    static constexpr int queries = tall ? 128 : 64, keys = narrow ? 64 : 32,
                         threads = threads_for<queries>, bytes = 2 * row_bytes * (queries + keys),
                         blocks = tall ? 1 : 2;
  };
  struct KeyGradient {
    static constexpr int queries = 32, keys = tall ? 128 : 64, threads = threads_for<keys>,
                         bytes = 2 * row_bytes * (queries + keys), blocks = tall ? 1 : 2;
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

/// f(HalfTiles) of the smallest width that holds d columns on tensor cores, for segments of up to
/// `longest` rows.
template <class F>
void with_half_tiles(Index d, Index longest, F f) {
  if (d <= 32) return f(std::type_identity<HalfTiles<32, false>>{});
  if (d > 64) return f(std::type_identity<HalfTiles<128, false>>{});
  if (longest <= 64) return f(std::type_identity<HalfTiles<64, false>>{});  // or not said
  return f(std::type_identity<HalfTiles<64, true>>{});
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
