#pragma once
// CUDA kernels on rows: LayerNorm, vectors over rows, transposition; backend/reference/ says what
// each computes. Instantiated for float and double. Sums run in an order that depends on the
// extents alone.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Rows {
  template <class T>
  static void add_vector(Index rows, Index cols, const T* x, const T* v, T* y);
  template <class T>
  static void column_sum(Index rows, Index cols, const T* x, T* y);
  static void repeat_indices(Index count, const std::int32_t* first, Index repeats, Index period,
                             std::int32_t* y);
  template <class T>
  static void transpose(Index batch, Index rows, Index cols, const T* x, T* y);

  template <class T>
  static void layer_norm(Index rows, Index cols, const T* x, const T* gain, const T* bias,
                         double eps, T* y, T* mean, T* rstd);
  template <class T>
  static void layer_norm_backward(Index rows, Index cols, const T* x, const T* gain, const T* mean,
                                  const T* rstd, const T* dy, T* dx, T* dgain, T* dbias);
};

}  // namespace hybridmed::cuda
