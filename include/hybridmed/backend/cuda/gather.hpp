#pragma once
// CUDA kernels that pick, add up, mix and normalise rows, and cut images into patches;
// backend/reference/rows.hpp says what each computes. Instantiated for float, double and bf16.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Gather {
  template <class T>
  static void gather_rows(Index rows, Index cols, const T* x, const std::int32_t* index, T* y);
  /// Every target row is summed in the order of its source rows, so the bits are the reference's.
  template <class T>
  static void scatter_add_rows(Index rows, Index cols, const T* dy, const std::int32_t* index,
                               accumulator_of<T>* dx);
  template <class T>
  static void mix_rows(Index batch, Index outputs, Index inputs, Index cols,
                       const std::int32_t* start, const std::int32_t* column,
                       const accumulator_of<T>* weight, const T* x, T* y);

  /// These sum in double: the square of a float may be out of a float's range.
  template <class T>
  static void normalize_rows(Index rows, Index cols, const T* x, T* y, accumulator_of<T>* norm);
  template <class T>
  static void normalize_rows_backward(Index rows, Index cols, const T* y,
                                      const accumulator_of<T>* norm, const T* dy, T* dx);

  template <class T>
  static void patchify(Index batch, Index channels, Index side, Index patch, const T* x, T* y);
};

}  // namespace hybridmed::cuda
