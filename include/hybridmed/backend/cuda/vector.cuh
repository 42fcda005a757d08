#pragma once
// Several numbers in one access: rows whose length and address allow it are read and written 16
// bytes at a time.
#include <cstdint>
#include <initializer_list>

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

/// n neighbours of a row, one access where they have 16 bytes or fewer.
template <class T, int n>
struct alignas(n * sizeof(T) < 16 ? n * sizeof(T) : 16) Pack {
  using scalar = T;
  static constexpr int size = n;
  T v[n];
};

/// The same numbers in the scalar of sums.
template <class T, int n>
__device__ Pack<accumulator_of<T>, n> widen(const Pack<T, n>& x) {
  Pack<accumulator_of<T>, n> y;
#pragma unroll
  for (int i = 0; i < n; ++i) y.v[i] = widen(x.v[i]);
  return y;
}
/// The same numbers rounded to T.
template <class T, int n>
__device__ Pack<T, n> narrow(const Pack<accumulator_of<T>, n>& x) {
  Pack<T, n> y;
#pragma unroll
  for (int i = 0; i < n; ++i) y.v[i] = narrow<T>(x.v[i]);
  return y;
}

/// Calls f(Pack, n / Pack::size) with the widest pack that divides rows of n elements and suits the
/// addresses.
template <class T, class F>
void by_packs(Index n, std::initializer_list<const void*> addresses, F f) {
  constexpr int most = 16 / static_cast<int>(sizeof(T));
  bool wide = n % most == 0;
  for (const void* p : addresses) wide = wide && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  if (wide)
    f(Pack<T, most>{}, n / most);
  else
    f(Pack<T, 1>{}, n);
}

/// y[i] = f(x[i]...), in packs of w as far as n has whole ones, then one by one.
template <int w, class F, class Y, class... X>
__global__ void __launch_bounds__(block_size) map_kernel(Index n, F f, Y* y, const X*... x) {
  const Index first = blockIdx.x * Index{block_size} + threadIdx.x,
              step = gridDim.x * Index{block_size}, packs = n / w;
  for (Index i = first; i < packs; i += step) {
    const auto each = [&](const Pack<X, w>&... in) {
      Pack<Y, w> out;
#pragma unroll
      for (int e = 0; e < w; ++e) out.v[e] = narrow<Y>(f(widen(in.v[e])...));
      return out;
    };
    reinterpret_cast<Pack<Y, w>*>(y)[i] = each(reinterpret_cast<const Pack<X, w>*>(x)[i]...);
  }
  for (Index i = packs * w + first; i < n; i += step) y[i] = narrow<Y>(f(widen(x[i])...));
}

/// y = f(x...), element by element: f takes and gives scalars of sums. y may be one of x. The
/// narrowest of the arrays moves 16 bytes at a time, where all begin at such an address.
template <class F, class Y, class... X>
void map(Index n, const char* operation, F f, Y* y, const X*... x) {
  using std::is_same_v;
  constexpr bool half = is_same_v<Y, bfloat16> || (is_same_v<X, bfloat16> || ...);
  Context::State& c = current_for<std::conditional_t<half, bfloat16, Y>>(operation);
  if (n <= 0) return;
  constexpr int w = half ? 8 : 16 / static_cast<int>(sizeof(Y));
  const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  if (aligned(y) && (aligned(x) && ...))
    map_kernel<w><<<blocks_for(n, block_size * w), block_size, 0, c.stream>>>(n, f, y, x...);
  else
    map_kernel<1><<<blocks_for(n, block_size), block_size, 0, c.stream>>>(n, f, y, x...);
  check(cudaGetLastError(), operation);
}

/// How threads share a matrix: groups of 2^bits neighbours, each on one row at a time; blockIdx.y
/// counts the strips of columns that a group's width takes.
struct RowGroups {
  int bits = 0;
  dim3 grid;

  /// `each`: rows that one thread takes, at least.
  RowGroups(Index rows, Index cols, Index each = 1) {
    while (bits < 5 && Index{1} << bits < cols) ++bits;
    const Index strips = ((cols - 1) >> bits) + 1;
    grid = dim3(blocks_for(rows, (block_size >> bits) * each),
                blocks_for(strips, 1, 65535));  // the limit of gridDim.y
  }
};

/// A thread's place in a matrix that RowGroups shares out.
struct RowPlace {
  Index row, rows_step, col, cols_step;
  __device__ explicit RowPlace(int bits)
      : row((blockIdx.x * Index{block_size} + threadIdx.x) >> bits),
        rows_step((gridDim.x * Index{block_size}) >> bits),
        col((Index{blockIdx.y} << bits) + (threadIdx.x & ((1u << bits) - 1))),
        cols_step(Index{gridDim.y} << bits) {}
};

}  // namespace hybridmed::cuda
