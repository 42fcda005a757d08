#pragma once
// CUDA kernels of LayerNorm, and of the residual sum before it, both ways; backend/reference/ says
// what each computes. Instantiated for float, double and bf16. A row of up to 1024 numbers is read
// once. Sums run in an order that depends on the extents alone.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct LayerNorm {
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
  /// sum = x + y and norm = LayerNorm(sum), with the bits of add and layer_norm. Always true.
  template <class T>
  static bool add_norm(Index rows, Index cols, const accumulator_of<T>* x,
                       const accumulator_of<T>* y, const accumulator_of<T>* gain,
                       const accumulator_of<T>* bias, double eps, accumulator_of<T>* sum, T* norm,
                       accumulator_of<T>* mean, accumulator_of<T>* rstd);
  /// dx = dsum + what layer_norm_backward makes of dnorm; dx may be dsum. Always true.
  template <class T>
  static bool add_norm_backward(Index rows, Index cols, const accumulator_of<T>* sum,
                                const accumulator_of<T>* gain, const accumulator_of<T>* mean,
                                const accumulator_of<T>* rstd, const T* dnorm,
                                const accumulator_of<T>* dsum, accumulator_of<T>* dx,
                                accumulator_of<T>* dgain, accumulator_of<T>* dbias);
};

}  // namespace hybridmed::cuda
