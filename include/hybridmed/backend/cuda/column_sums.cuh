#pragma once
// Sums over the rows of a matrix, in an order that depends on the extents alone. Never included by
// a host compiler.
#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

inline constexpr Index rows_per_chunk = 256;  // a fixed split, so that the order is fixed

/// Sums over a chunk of rows, one thread a column: part[(chunk * values + k) * cols + c] = sum of
/// term(r, c)[k].
template <int values, class F>
__global__ void __launch_bounds__(block_size)
    column_partial_kernel(Index rows, Index cols, F term, double* part) {
  const Index c = blockIdx.x * Index{block_size} + threadIdx.x, first = blockIdx.y * rows_per_chunk,
              last = min(rows, first + rows_per_chunk);
  if (c >= cols) return;
  double s[values] = {};
  for (Index r = first; r < last; ++r) term(r, c, s);
  for (int k = 0; k < values; ++k) part[(blockIdx.y * Index{values} + k) * cols + c] = s[k];
}

/// Column sums of `values` quantities at once: term(r, c, s) adds to s[k]; done(c, s) takes the
/// sums.
template <int values, class F, class G>
void column_sums(Index rows, Index cols, const char* operation, F term, G done) {
  Context::State& context = current();
  if (rows <= 0 || cols <= 0) return;
  const Index chunks = (rows + rows_per_chunk - 1) / rows_per_chunk;
  if (chunks > 65535)
    fail("cuda", operation, "more than " + std::to_string(65535 * rows_per_chunk) + " rows");
  Scratch<double> part(context, chunks * values * cols);
  double* p = part.data();
  column_partial_kernel<values>
      <<<dim3(blocks_for(cols, block_size, cols), static_cast<unsigned>(chunks)), block_size, 0,
         context.stream>>>(rows, cols, term, p);
  check(cudaGetLastError(), operation);
  for_each(cols, operation, [=] __device__(Index c) {
    double s[values] = {};
    for (Index chunk = 0; chunk < chunks; ++chunk)
      for (int k = 0; k < values; ++k) s[k] += p[(chunk * values + k) * cols + c];
    done(c, s);
  });
}

}  // namespace hybridmed::cuda
