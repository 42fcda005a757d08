#pragma once
// Reference kernels: element-wise arithmetic, activations, random numbers.
#include <cmath>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/core/philox.hpp"

namespace hybridmed::reference {

/// act(x)
inline double act(Activation kind, double x) {
  switch (kind) {
    case Activation::relu:
      return x < 0 ? 0 : x;  // NaN stays NaN
    case Activation::gelu:
      return 0.5 * x * (1 + std::erf(x * 0.70710678118654752440));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    default:
      return x;
  }
}
/// act'(x)
inline double act_derivative(Activation kind, double x) {
  switch (kind) {
    case Activation::relu:
      return x > 0 ? 1 : 0;
    case Activation::gelu:
      return 0.5 * (1 + std::erf(x * 0.70710678118654752440)) +
             x * 0.39894228040143267794 * std::exp(-0.5 * x * x);
    case Activation::gelu_tanh: {
      const double t = std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x));
      return 0.5 * (1 + t) +
             0.5 * x * (1 - t * t) * 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x);
    }
    default:
      return 1;
  }
}

struct Elementwise {
  /// y = a + b; y may be a or b.
  template <class T>
  static void add(Index n, const T* a, const T* b, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = a[i] + b[i];
  }
  /// y = a b; y may be a or b.
  template <class T>
  static void multiply(Index n, const T* a, const T* b, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = a[i] * b[i];
  }
  /// y = a / b; y may be a or b.
  template <class T>
  static void divide(Index n, const T* a, const T* b, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = a[i] / b[i];
  }
  /// y = alpha x; y may be x.
  template <class T>
  static void scale(Index n, T alpha, const T* x, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = alpha * x[i];
  }
  /// y += alpha x.
  template <class T>
  static void axpy(Index n, T alpha, const T* x, T* y) {
    for (Index i = 0; i < n; ++i) y[i] += alpha * x[i];
  }
  /// y = *alpha x, the factor in device memory; y may be x.
  template <class T>
  static void scale_by(Index n, const T* alpha, const T* x, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = *alpha * x[i];
  }
  /// y += alpha <a, b>, one element.
  template <class T>
  static void dot(Index n, T alpha, const T* a, const T* b, T* y) {
    double s = 0;
    for (Index i = 0; i < n; ++i) s += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    *y += static_cast<T>(static_cast<double>(alpha) * s);
  }
  /// y += factor * sum of x, one element.
  template <class T>
  static void sum(Index n, double factor, const T* x, T* y) {
    double s = 0;
    for (Index i = 0; i < n; ++i) s += static_cast<double>(x[i]);
    *y += static_cast<T>(factor * s);
  }
  template <class T>
  static void exponential(Index n, const T* x, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = std::exp(x[i]);
  }
  /// y = log x: -inf at 0, NaN below.
  template <class T>
  static void logarithm(Index n, const T* x, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = std::log(x[i]);
  }
  template <class T>
  static void clamp(Index n, T low, T high, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = y[i] < low ? low : y[i] > high ? high : y[i];
  }
  /// y = 1 / sqrt(x + eps).
  template <class T>
  static void reciprocal_sqrt(Index n, const T* x, T eps, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = T(1) / std::sqrt(x[i] + eps);
  }

  /// y = act(x).
  template <class T>
  static void activation(Activation kind, Index n, const T* x, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = static_cast<T>(act(kind, static_cast<double>(x[i])));
  }
  /// dx = act'(x) dy; dx may be dy.
  template <class T>
  static void activation_backward(Activation kind, Index n, const T* x, const T* dy, T* dx) {
    for (Index i = 0; i < n; ++i)
      dx[i] = static_cast<T>(act_derivative(kind, static_cast<double>(x[i])) *
                             static_cast<double>(dy[i]));
  }

  /// y = log(1 + e^x) - z x, the cross-entropy of sigmoid(x) with the probability z; cut so that
  /// nothing overflows or cancels. z is not checked; what is not finite comes out.
  template <class T>
  static void sigmoid_cross_entropy(Index n, const T* x, const T* z, T* y) {
    for (Index i = 0; i < n; ++i) {
      const double xi = static_cast<double>(x[i]), zi = static_cast<double>(z[i]);
      y[i] =
          static_cast<T>((xi > 0 ? xi * (1 - zi) : -xi * zi) + std::log1p(std::exp(-std::abs(xi))));
    }
  }
  /// dx = (sigmoid(x) - z) dy; dx may be dy.
  template <class T>
  static void sigmoid_cross_entropy_backward(Index n, const T* x, const T* z, const T* dy, T* dx) {
    for (Index i = 0; i < n; ++i) {
      const double xi = static_cast<double>(x[i]), zi = static_cast<double>(z[i]),
                   e = std::exp(-std::abs(xi)), tail = e / (1 + e);  // sigmoid(-|x|)
      dx[i] = static_cast<T>((xi > 0 ? (1 - zi) - tail : tail - zi) * static_cast<double>(dy[i]));
    }
  }

  /// y_i = stddev * normal(i) of the stream.
  template <class T>
  static void fill_normal(Index n, Philox random, double stddev, T* y) {
    for (Index i = 0; i < n; ++i)
      y[i] = static_cast<T>(stddev * random.normal(static_cast<std::uint64_t>(i)));
  }
  /// Inverted dropout mask: 0 with probability p, else 1 / (1 - p).
  template <class T>
  static void dropout_mask(Index n, Philox random, double p, T* y) {
    for (Index i = 0; i < n; ++i)
      y[i] = random.uniform(static_cast<std::uint64_t>(i)) < p ? T(0) : static_cast<T>(1 / (1 - p));
  }

  /// *sum += sum of squares, in double.
  template <class T>
  static void squared_norm(Index n, const T* x, double* sum) {
    double s = 0;
    for (Index i = 0; i < n; ++i) s += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    *sum += s;
  }
  /// g may be null: a gradient of zero.
  template <class T>
  static void adamw(Index n, const AdamWArgs& a, const T* g, T* m, T* v, T* p) {
    const StepState& s = *a.step;
    const double norm = s.norm();
    if (!std::isfinite(norm)) return;
    const double factor = AdamWArgs::gradient_scale(a.clip, norm);
    for (Index i = 0; i < n; ++i) {
      const double gi = g ? static_cast<double>(g[i]) * factor : 0.0;
      const double mi = a.beta1 * static_cast<double>(m[i]) + (1 - a.beta1) * gi;
      const double vi = a.beta2 * static_cast<double>(v[i]) + (1 - a.beta2) * gi * gi;
      m[i] = static_cast<T>(mi);
      v[i] = static_cast<T>(vi);
      const double step =
          s.learning_rate * (mi / s.correction1) / (std::sqrt(vi / s.correction2) + a.eps);
      p[i] = static_cast<T>(static_cast<double>(p[i]) * (1 - s.learning_rate * a.decay) - step);
    }
  }
};

}  // namespace hybridmed::reference
