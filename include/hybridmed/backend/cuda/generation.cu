// Writing token by token: rows put at places, the best class of each row.
#include "hybridmed/backend/cuda/generation.hpp"

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

namespace {

/// The largest of some numbers, its class (of equal ones the first; -1: none yet), and the next.
template <class A>
struct Best {
  A top, next;
  std::int32_t at;
  int numbers;  // 0: one of them was NaN

  static __device__ Best of_none() { return {-INFINITY, -INFINITY, -1, 1}; }
  __device__ void add(A x, std::int32_t k) {
    if (isnan(x)) numbers = 0;
    if (x > top) {
      next = top;
      top = x;
      at = k;
    } else if (x > next) {
      next = x;
    }
  }
  __device__ void merge(const Best& o) {
    const bool theirs = o.top > top || (o.top == top && o.at >= 0 && (at < 0 || o.at < at));
    next = max(max(next, o.next), theirs ? top : o.top);
    at = theirs ? o.at : at;
    top = max(top, o.top);
    numbers &= o.numbers;
  }
};

template <class A>
__device__ Best<A> warp_best(Best<A> b) {
  for (int d = warp_size / 2; d > 0; d /= 2) {
    const auto other = [&](auto x) { return __shfl_xor_sync(0xffffffffu, x, d); };
    b.merge({other(b.top), other(b.next), other(b.at), other(b.numbers)});
  }
  return b;
}

/// z (rows, classes) -> best (rows), margin (rows). A block takes a row and reads it once.
template <class T, class A = accumulator_of<T>>
__global__ void __launch_bounds__(block_size)
    best_class_kernel(Index rows, Index classes, const T* z, std::int32_t* best, A* margin) {
  __shared__ Best<A> of_warps[block_warps];
  for (Index r = blockIdx.x; r < rows; r += gridDim.x) {
    Best<A> b = Best<A>::of_none();
    for (Index k = threadIdx.x; k < classes; k += block_size)
      b.add(widen(z[r * classes + k]), static_cast<std::int32_t>(k));
    b = warp_best(b);
    __syncthreads();  // the row before is over
    if (threadIdx.x % warp_size == 0) of_warps[threadIdx.x / warp_size] = b;
    __syncthreads();
    if (threadIdx.x != 0) continue;
    for (int w = 1; w < block_warps; ++w) b.merge(of_warps[w]);
    const bool any = b.numbers && isfinite(b.top);
    best[r] = any ? b.at : -1;
    margin[r] = any ? b.top - b.next : static_cast<A>(NAN);
  }
}

}  // namespace

template <class T>
void Generation::put_rows(Index rows, Index cols, const T* x, Index ldx, const std::int32_t* index,
                          T* y) {
  current_for<T>("put_rows");
  for_each(rows * cols, "put_rows", [=] __device__(Index i) {
    const Index r = i / cols, c = i - r * cols;
    y[index[r] * cols + c] = x[r * ldx + c];
  });
}

template <class T>
void Generation::best_class(Index rows, Index classes, const T* z, std::int32_t* best,
                            accumulator_of<T>* margin) {
  Context::State& c = current_for<T>("best_class");
  if (rows <= 0) return;
  best_class_kernel<<<blocks_for(rows, 1), block_size, 0, c.stream>>>(rows, classes, z, best,
                                                                      margin);
  check(cudaGetLastError(), "best_class");
}

#define HYBRIDMED_INSTANTIATE(T)                                                              \
  template void Generation::put_rows(Index, Index, const T*, Index, const std::int32_t*, T*); \
  template void Generation::best_class(Index, Index, const T*, std::int32_t*, accumulator_of<T>*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
