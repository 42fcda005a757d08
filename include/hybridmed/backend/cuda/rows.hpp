#pragma once
// CUDA kernels on rows: vectors over rows, sums of columns, transposition;
// backend/reference/rows.hpp says what each computes. Instantiated for float, double and bf16. Sums
// run in an order that depends on the extents alone.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Rows {
  template <class T>
  static void add_vector(Index rows, Index cols, const T* x, const accumulator_of<T>* v, T* y);
  template <class T>
  static void column_sum(Index rows, Index cols, const T* x, accumulator_of<T>* y);
  static void repeat_indices(Index count, const std::int32_t* first, Index repeats, Index period,
                             std::int32_t* y);
  template <class T>
  static void transpose(Index batch, Index rows, Index cols, const T* x, T* y);
};

}  // namespace hybridmed::cuda
