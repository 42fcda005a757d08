#pragma once
// CUDA kernels, element by element, and sums over whole arrays; backend/reference/elementwise.hpp
// says what each computes. Instantiated for float and double, and what activations need for bf16:
// it is read in float, computed in float, and rounded once.
#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/core/philox.hpp"

namespace hybridmed::cuda {

struct Elementwise {
  template <class T>
  static void fill(Index n, T value, T* y);
  template <class T>
  static void copy(Index n, const T* x, T* y);
  /// y = x in another scalar, rounded to nearest even.
  static void convert(Index n, const bfloat16* x, float* y);
  static void convert(Index n, const float* x, bfloat16* y);
  template <class T>
  static void add(Index n, const T* a, const T* b, T* y);
  template <class T>
  static void multiply(Index n, const T* a, const T* b, T* y);
  template <class T>
  static void divide(Index n, const T* a, const T* b, T* y);
  template <class T>
  static void scale(Index n, accumulator_of<T> alpha, const T* x, T* y);
  template <class T>
  static void axpy(Index n, accumulator_of<T> alpha, const T* x, accumulator_of<T>* y);
  template <class T>
  static void scale_by(Index n, const T* alpha, const T* x, T* y);
  template <class T>
  static void exponential(Index n, const T* x, T* y);
  template <class T>
  static void logarithm(Index n, const T* x, T* y);
  template <class T>
  static void clamp(Index n, T low, T high, T* y);
  template <class T>
  static void reciprocal_sqrt(Index n, const T* x, T eps, T* y);
  template <class T>
  static void activation(Activation kind, Index n, const T* x, T* y);
  template <class T>
  static void activation_backward(Activation kind, Index n, const T* x, const T* dy, T* dx);
  template <class T>
  static void sigmoid_cross_entropy(Index n, const T* x, const T* z, T* y);
  template <class T>
  static void sigmoid_cross_entropy_backward(Index n, const T* x, const T* z, const T* dy, T* dx);
  template <class T>
  static void fill_normal(Index n, Philox random, double stddev, T* y);
  template <class T>
  static void dropout_mask(Index n, Philox random, double p, T* y);

  /// These sum in double, in an order that depends on n alone.
  template <class T, class Y>
  static void sum(Index n, double factor, const T* x, Y* y);
  template <class T>
  static void dot(Index n, accumulator_of<T> alpha, const T* a, const T* b, accumulator_of<T>* y);
  template <class T>
  static void squared_norm(Index n, const T* x, double* sum);
};

}  // namespace hybridmed::cuda
