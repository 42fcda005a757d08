#pragma once
// CUDA kernels on rows: LayerNorm, vectors over rows, transposition; backend/reference/ says what
// each computes. Instantiated for float, double and bf16. Sums run in an order that depends on the
// extents alone.
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

  /// X: T, or the scalar of sums, in which residual streams are.
  template <class X, class T>
  static void layer_norm(Index rows, Index cols, const X* x, const accumulator_of<T>* gain,
                         const accumulator_of<T>* bias, double eps, T* y, accumulator_of<T>* mean,
                         accumulator_of<T>* rstd);
  template <class X, class T>
  static void layer_norm_backward(Index rows, Index cols, const X* x, const accumulator_of<T>* gain,
                                  const accumulator_of<T>* mean, const accumulator_of<T>* rstd,
                                  const T* dy, X* dx, accumulator_of<T>* dgain,
                                  accumulator_of<T>* dbias);
};

}  // namespace hybridmed::cuda
