#pragma once
// Activations and their slopes, one number at a time. Never included by a host compiler.
#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

template <class T>
__device__ T activate(Activation kind, T x) {
  switch (kind) {
    case Activation::relu:
      return x < T(0) ? T(0) : x;  // NaN stays NaN
    case Activation::gelu:
      return T(0.5) * x * (T(1) + erf(x * T(0.70710678118654752440)));
    case Activation::gelu_tanh:
      return T(0.5) * x * (T(1) + tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x)));
    default:
      return x;
  }
}

template <class T>
__device__ T activation_slope(Activation kind, T x) {
  switch (kind) {
    case Activation::relu:
      return x > T(0) ? T(1) : T(0);
    case Activation::gelu:
      return T(0.5) * (T(1) + erf(x * T(0.70710678118654752440))) +
             x * T(0.39894228040143267794) * exp(T(-0.5) * x * x);
    case Activation::gelu_tanh: {
      const T t = tanh(T(0.79788456080286535588) * (x + T(0.044715) * x * x * x));
      return T(0.5) * (T(1) + t) + T(0.5) * x * (T(1) - t * t) * T(0.79788456080286535588) *
                                       (T(1) + T(3 * 0.044715) * x * x);
    }
    default:
      return T(1);
  }
}

}  // namespace hybridmed::cuda
