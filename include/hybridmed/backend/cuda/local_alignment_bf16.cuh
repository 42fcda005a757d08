#pragma once
// Local alignment on tensor cores, what its kernels share: where a block stands, products of tiles
// with their results in registers, sums over the rows and the columns of these. Never included by a
// host compiler.
#include <cuda_pipeline.h>

#include "hybridmed/backend/cuda/fragments.cuh"
#include "hybridmed/backend/cuda/local_alignment.cuh"

namespace hybridmed::cuda::local {

using Half = bfloat16;

/// A block makes (rows, width) numbers, a warp 16 of the rows; `step` terms of their sums at a time
/// lie in shared memory, and the next ones come meanwhile.
inline constexpr int rows = 16 * block_warps, width = 160, groups = width / 8, step = 64;
inline constexpr int pitch = step + 8,
                     wide_pitch = width + 8;  // 8 rows of one column: different banks
inline constexpr int left_size = rows * pitch,
                     right_size = std::max(width * pitch, step*wide_pitch),
                     stage_size = left_size + right_size,
                     bytes = 2 * stage_size * int{sizeof(Half)};
/// Texts begin at columns whose address allows 16 bytes at a time.
inline constexpr Index spacing = 8;

extern __shared__ __align__(16) unsigned char shared_memory[];

using Sums = float[groups][4];

constexpr Index up_to(Index n, Index multiple) { return (n + multiple - 1) / multiple * multiple; }

/// What a kernel works on: some images and texts.
struct Tile {
  Texts texts;
  Index images, columns;  // columns: of all matrices
  int regions, region_tiles;
};

/// What a block of the first and the last kernel works on.
struct Place {
  int image, text, begin;  // begin: the text's first column
  int first, count;        // of the image's regions
  int words, padded;       // of the text; with the columns behind it
  __device__ explicit Place(const Tile& t) {
    const int pair = static_cast<int>(blockIdx.x) / t.region_tiles,
              texts = static_cast<int>(t.texts.count);
    image = pair / texts;
    text = pair % texts;
    begin = static_cast<int>(t.texts.begin(text));
    first = static_cast<int>(blockIdx.x) % t.region_tiles * rows;
    count = min(rows, t.regions - first);
    words = static_cast<int>(t.texts.words(text));
    padded = static_cast<int>(t.texts.begin(text + 1)) - begin;
  }
  __device__ Index first_row(const Tile& t) const { return Index{image} * t.regions + first; }
};

/// Begins to copy `wanted` rows of `columns` numbers to a tile; from row `count` and column `end`
/// on there are zeros.
template <int columns, int tile_pitch>
__device__ void fetch(Half* tile, const Half* x, Index ld, int wanted, int count, int end) {
  constexpr int pieces = columns / 8;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < wanted * pieces; i += block_size) {
    const int r = i / pieces, c = i % pieces * 8;
    const bool in = r < count && c < end;
    __pipeline_memcpy_async(tile + r * tile_pitch + c, in ? x + r * ld + c : x, 16, in ? 0 : 16);
  }
}

/// s = a b^T, or a b where b lies by rows: `count` rows of a and `columns` columns of s, over
/// `depth` terms, a multiple of `step`. b by rows has `terms` rows; where depth is more, they come
/// again. The whole block calls it.
template <bool by_rows>
__device__ void product(const Half* a, Index lda, int count, const Half* b, Index ldb, int columns,
                        int depth, int terms, Sums& s) {
  Half* const tiles = reinterpret_cast<Half*>(shared_memory);
  const int first_of_warp = static_cast<int>(threadIdx.x) / warp_size * 16;
  const auto begin_step = [&](int k) {
    Half *left_tile = tiles + k / step % 2 * stage_size, *right_tile = left_tile + left_size;
    fetch<step, pitch>(left_tile, a + k, lda, (count + 15) / 16 * 16, count, step);
    if constexpr (by_rows) {
      const int r = k % ((terms + step - 1) / step * step);
      fetch<width, wide_pitch>(right_tile, b + r * ldb, ldb, step, terms - r, columns);
    } else {
      fetch<step, pitch>(right_tile, b + k, ldb, (columns + 15) / 16 * 16, columns, step);
    }
  };
#pragma unroll
  for (int n = 0; n < groups; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[n][e] = 0;
  __syncthreads();  // shared memory is no longer in use
  begin_step(0);
  __pipeline_commit();
  for (int k = 0; k < depth; k += step) {
    __pipeline_wait_prior(0);
    __syncthreads();
    if (k + step < depth) begin_step(k + step);
    __pipeline_commit();
    if (first_of_warp >= count) continue;
    const Half *left_tile = tiles + k / step % 2 * stage_size + first_of_warp * pitch,
               *right_tile = tiles + k / step % 2 * stage_size + left_size;
#pragma unroll 2  // by four, registers spill
    for (int j = 0; j < step; j += 16) {
      const Fragment f = left<pitch>(left_tile, j);
#pragma unroll
      for (int n = 0; n < groups; n += 2) {
        if (8 * n >= columns) break;
        Fragment g;
        if constexpr (by_rows)
          g = right_of_rows<wide_pitch>(right_tile + j * wide_pitch, 8 * n);
        else
          g = right_of_columns<pitch>(right_tile + 8 * n * pitch, j);
        multiply(s[n], f, g, 0);
        multiply(s[n + 1], f, g, 1);
      }
    }
  }
  __syncthreads();
}

/// The softmax of scores over the words of a text, of a lane's two rows.
struct RowSoftmax {
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {};  // sum: after end(), its inverse
  /// The scores of some words, of which the lane's first is number `first`.
  __device__ void add(const Sums& s, int first, int words) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float highest = top[h];
#pragma unroll
      for (int n = 0; n < groups; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (first + 8 * n + e < words) highest = max(highest, s[n][2 * h + e]);
      highest = row_max(highest);
      sum[h] *= __expf(top[h] - (highest == -INFINITY ? 0.0f : highest));
      top[h] = highest;
#pragma unroll
      for (int n = 0; n < groups; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (first + 8 * n + e < words) sum[h] += __expf(s[n][2 * h + e] - highest);
    }
  }
  __device__ void end() {
#pragma unroll
    for (int h = 0; h < 2; ++h) sum[h] = 1 / row_sum(sum[h]);
  }
  __device__ float share(float score, int h) const { return __expf(score - top[h]) * sum[h]; }
};

/// part[q][column] (2, width) = sum over the block's rows of each of two numbers.
struct ColumnSums {
  float (*warps)[2][width];  // (warps, 2, width)
  __device__ ColumnSums() : warps(reinterpret_cast<float (*)[2][width]>(shared_memory)) {}
  /// Of the lane's rows, in columns `column` and `column` + 1; by the whole warp.
  __device__ void put(int q, int column, float low, float high) const {
#pragma unroll
    for (int d = 4; d < warp_size; d *= 2) {
      low += __shfl_xor_sync(0xffffffffu, low, d);
      high += __shfl_xor_sync(0xffffffffu, high, d);
    }
    if (threadIdx.x % warp_size >= 4) return;
    warps[threadIdx.x / warp_size][q][column] = low;
    warps[threadIdx.x / warp_size][q][column + 1] = high;
  }
  __device__ float total(int q, int column) const {
    float sum = 0;
    for (int w = 0; w < block_warps; ++w) sum += warps[w][q][column];
    return sum;
  }
};

}  // namespace hybridmed::cuda::local
