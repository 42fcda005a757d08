#pragma once
// log sum exp in one pass over its terms, of rows and of columns, and softmax. Never included by a
// host compiler.
#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

/// sum exp(factor (x - top)) over the x so far, top being the largest: the sum shrinks when a
/// larger one comes. What is -inf adds nothing.
template <class T>
struct LogSum {
  T top = -INFINITY;
  double sum = 0;

  __device__ void add(T x, T factor = T(1)) {
    if (x > top) {
      sum = sum * static_cast<double>(exp(factor * (top - x))) + 1;
      top = x;
    } else if (x != T(-INFINITY)) {
      sum += static_cast<double>(exp(factor * (x - top)));
    }
  }
  __device__ void merge(const LogSum& o, T factor = T(1)) {
    const T higher = max(top, o.top);
    sum = sum * share(higher, factor) + o.sum * o.share(higher, factor);
    top = higher;
  }
  /// What the sum is multiplied with where `higher` is the largest.
  __device__ double share(T higher, T factor) const {
    return top == higher ? 1.0 : static_cast<double>(exp(factor * (top - higher)));
  }
  /// log sum exp(factor x) - factor top; NaN where the largest is infinite, as exp(x - top) is.
  __device__ double log() const { return isinf(top) ? static_cast<double>(NAN) : ::log(sum); }
};

/// The sum of what the lanes of a warp hold, in every lane.
template <class T>
__device__ LogSum<T> warp_log_sum(LogSum<T> s, T factor = T(1)) {
  const T top = warp_max(s.top);
  return {top, warp_sum(s.sum * s.share(top, factor))};
}

/// The same over a block; the arrays hold one element per warp.
template <class T>
__device__ LogSum<T> block_log_sum(LogSum<T> s, T factor, T* shared, double* shared_wide) {
  const T top = block_max(s.top, shared);
  return {top, block_sum(s.sum * s.share(top, factor), shared_wide)};
}

/// y = softmax(x) of n numbers, by one warp; y may be x.
template <class T>
__device__ void warp_softmax(int lane, Index n, const T* x, T* y) {
  T top = -INFINITY;
  for (Index i = lane; i < n; i += warp_size) top = max(top, x[i]);
  top = warp_max(top);
  double sum = 0;
  for (Index i = lane; i < n; i += warp_size) sum += wide(y[i] = exp(x[i] - top));
  const T share = static_cast<T>(1 / warp_sum(sum));
  for (Index i = lane; i < n; i += warp_size) y[i] *= share;
}

/// Columns are added up by blocks of 32 columns times 8 slices of rows: a warp reads neighbours.
inline constexpr int slices = block_warps;

/// The sum over the slices of a column, in every slice.
template <class T>
__device__ T slice_sum(T x, T (&shared)[slices][warp_size]) {
  __syncthreads();  // the last use of `shared` is over
  shared[threadIdx.y][threadIdx.x] = x;
  __syncthreads();
  T total = T(0);
  for (int k = 0; k < slices; ++k) total += shared[k][threadIdx.x];
  return total;
}
template <class T>
__device__ T slice_max(T x, T (&shared)[slices][warp_size]) {
  __syncthreads();
  shared[threadIdx.y][threadIdx.x] = x;
  __syncthreads();
  T top = shared[0][threadIdx.x];
  for (int k = 1; k < slices; ++k) top = max(top, shared[k][threadIdx.x]);
  return top;
}

/// done(r, log sum over c of exp(term(r, c))), one warp a row.
template <class F, class G>
__global__ void __launch_bounds__(block_size)
    row_log_sum_kernel(Index rows, Index cols, F term, G done) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index r = blockIdx.x * Index{slices} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{slices}) {
    LogSum<double> s;
    for (Index c = lane; c < cols; c += warp_size) s.add(term(r, c));
    s = warp_log_sum(s);
    if (lane == 0) done(r, s);
  }
}
/// done(c, log sum over r of exp(term(r, c))), one block for 32 columns.
template <class F, class G>
__global__ void __launch_bounds__(block_size)
    column_log_sum_kernel(Index rows, Index cols, F term, G done) {
  __shared__ double shared[slices][warp_size];
  const Index c = blockIdx.x * Index{warp_size} + threadIdx.x;
  LogSum<double> s;
  for (Index r = threadIdx.y; r < rows && c < cols; r += slices) s.add(term(r, c));
  const double top = slice_max(s.top, shared);
  s = {top, slice_sum(s.sum * s.share(top, 1.0), shared)};
  if (threadIdx.y == 0 && c < cols) done(c, s);
}

template <class F, class G>
void row_log_sums(Index rows, Index cols, const char* operation, F term, G done) {
  Context::State& context = current();
  if (rows <= 0) return;
  row_log_sum_kernel<<<blocks_for(rows, slices), block_size, 0, context.stream>>>(rows, cols, term,
                                                                                  done);
  check(cudaGetLastError(), operation);
}
template <class F, class G>
void column_log_sums(Index rows, Index cols, const char* operation, F term, G done) {
  Context::State& context = current();
  if (cols <= 0) return;
  column_log_sum_kernel<<<blocks_for(cols, warp_size, cols), dim3(warp_size, slices), 0,
                          context.stream>>>(rows, cols, term, done);
  check(cudaGetLastError(), operation);
}

}  // namespace hybridmed::cuda
