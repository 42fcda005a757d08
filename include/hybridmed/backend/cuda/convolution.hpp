#pragma once
// CUDA kernels of convolutional networks, channels last: BatchNorm, convolution by cuBLAS over
// gathered patches, max-pooling; backend/reference/ says what each computes. Instantiated for
// float, double and bf16.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Convolution {
  /// Sums in double, in chunks of rows that are fixed.
  template <class T>
  static void column_moments(Index rows, Index cols, const T* x, accumulator_of<T>* mean,
                             accumulator_of<T>* var);
  template <class T>
  static void batch_norm(Index rows, Index cols, const T* x, const accumulator_of<T>* mean,
                         const accumulator_of<T>* rstd, const accumulator_of<T>* gain,
                         const accumulator_of<T>* bias, T* y);
  /// In double: what it subtracts is nearly equal.
  template <class T>
  static void batch_norm_backward(Index rows, Index cols, const T* x, const accumulator_of<T>* mean,
                                  const accumulator_of<T>* rstd, const accumulator_of<T>* gain,
                                  const T* dy, bool moments, T* dx, accumulator_of<T>* dgain,
                                  accumulator_of<T>* dbias);

  /// Elements of gathered patches that lie in scratch memory at a time: enough for products that
  /// fill a device.
  static constexpr Index patch_elements = Index{1} << 24;

  template <class T>
  static void conv2d(const ConvShape& s, const T* x, const T* w, T* y,
                     Index elements = patch_elements);
  template <class T>
  static void conv2d_backward_input(const ConvShape& s, const T* dy, const T* w, T* dx,
                                    Index elements = patch_elements);
  template <class T>
  static void conv2d_backward_weight(const ConvShape& s, const T* x, const T* dy,
                                     accumulator_of<T>* dw, Index elements = patch_elements);

  template <class T>
  static void max_pool(const ConvShape& s, const T* x, T* y, std::int32_t* where);
  template <class T>
  static void max_pool_backward(const ConvShape& s, const T* dy, const std::int32_t* where, T* dx);
};

}  // namespace hybridmed::cuda
