#pragma once
// One pass over a matrix that does something with every element and adds up columns on the way, in
// an order that depends on the extents alone. Never included by a host compiler.
#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

inline constexpr Index rows_per_tile = 128;  // a fixed split, so that the order is fixed

/// A block takes a tile of rows; its warps take one row of the tile after the other, w neighbours a
/// thread. f.at<w>(r, c) does what there is to do with the elements c ... c + w - 1 of row r, and
/// gives what is added up. part[tile * cols + c]: the sum over a tile; null: nobody wants it.
template <int w, class F>
__global__ void __launch_bounds__(block_size)
    column_pass_kernel(Index rows, Index cols, F f, double* part) {
  using A = typename F::accumulator;
  constexpr int strip = warp_size * w;
  __shared__ A shared[block_warps * strip];
  const int warp = static_cast<int>(threadIdx.x) / warp_size,
            lane = static_cast<int>(threadIdx.x) % warp_size;
  const Index first = blockIdx.x * rows_per_tile, last = min(rows, first + rows_per_tile);
  for (Index begin = Index{blockIdx.y} * strip; begin < cols; begin += Index{gridDim.y} * strip) {
    const Index c = begin + lane * w;
    Pack<A, w> sum{};
    if (c < cols)
      for (Index r = first + warp; r < last; r += block_warps) {
        const Pack<A, w> term = f.template at<w>(r, c);
#pragma unroll
        for (int e = 0; e < w; ++e) sum.v[e] += term.v[e];
      }
    if (!part) continue;
    __syncthreads();  // the sums of the strip before are read
#pragma unroll
    for (int e = 0; e < w; ++e) shared[warp * strip + e * warp_size + lane] = sum.v[e];
    __syncthreads();
    const int k = static_cast<int>(threadIdx.x);
    if (k >= strip || begin + k >= cols) continue;
    double total = 0;
    for (int v = 0; v < block_warps; ++v)
      total += static_cast<double>(shared[v * strip + k % w * warp_size + k / w]);
    part[blockIdx.x * cols + begin + k] = total;
  }
}

/// to (cols) = the sums over all tiles, added to what is there where it `holds` something.
template <class A>
void add_tiles(Index tiles, Index cols, const char* operation, const double* part, A* to,
               bool holds) {
  for_each(cols, operation, [=] __device__(Index c) {
    double total = holds ? static_cast<double>(to[c]) : 0;
    for (Index tile = 0; tile < tiles; ++tile) total += part[tile * cols + c];
    to[c] = static_cast<A>(total);
  });
}

/// Runs f over a matrix of at least one row and one column, whose rows may be taken w elements at a
/// time. `to` (cols): the column sums, added where it `holds` something; null: nobody wants them.
template <int w, class F>
void column_pass(Index rows, Index cols, const char* operation, F f, typename F::accumulator* to,
                 bool holds) {
  static_assert(warp_size * w <= block_size);
  Context::State& context = current();
  const Index tiles = (rows + rows_per_tile - 1) / rows_per_tile;
  if (tiles > INT32_MAX)
    fail("cuda", operation, "more than " + std::to_string(INT32_MAX * rows_per_tile) + " rows");
  const Scratch<double> part(context, to ? tiles * cols : 0);
  const dim3 grid(static_cast<unsigned>(tiles), blocks_for(cols, warp_size * w, 65535));
  column_pass_kernel<w>
      <<<grid, block_size, 0, context.stream>>>(rows, cols, f, to ? part.data() : nullptr);
  check(cudaGetLastError(), operation);
  if (to) add_tiles(tiles, cols, operation, part.data(), to, holds);
}

}  // namespace hybridmed::cuda
