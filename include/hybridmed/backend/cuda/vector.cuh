#pragma once
// Several numbers in one access: rows whose length and address allow it are read and written 16
// bytes at a time.
#include <cstdint>
#include <initializer_list>

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

/// n neighbours of a row, one access.
template <class T, int n>
struct alignas(n * sizeof(T)) Pack {
  using scalar = T;
  static constexpr int size = n;
  T v[n];
};

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
