#pragma once
// CPU kernels: element-wise arithmetic, activations, optimizer. Tiles of fixed size go to the
// executor; inner loops are plain, for the compiler to vectorise.
#include <algorithm>
#include <cstring>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/backend/cpu/borrowed.hpp"
#include "hybridmed/backend/cpu/math.hpp"
#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/philox.hpp"
#include "hybridmed/core/tensor.hpp"

namespace hybridmed::cpu {

template <class Executor>
struct Elementwise {
  static constexpr Index tile = 1 << 15;

  template <class T>
  static void fill(Index n, T value, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i) y[i] = value;
    });
  }
  template <class T>
  static void copy(Index n, const T* x, T* y) {
    if (n <= tile) {
      if (n > 0) std::memcpy(y, x, static_cast<std::size_t>(n) * sizeof(T));
      return;
    }
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      std::memcpy(y + a, x + a, static_cast<std::size_t>(b - a) * sizeof(T));
    });
  }
  template <class T>
  static void add(Index n, const T* a, const T* b, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index from, Index to) {
      for (Index i = from; i < to; ++i) y[i] = a[i] + b[i];
    });
  }
  template <class T>
  static void multiply(Index n, const T* a, const T* b, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index from, Index to) {
      for (Index i = from; i < to; ++i) y[i] = a[i] * b[i];
    });
  }
  template <class T>
  static void divide(Index n, const T* a, const T* b, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index from, Index to) {
      for (Index i = from; i < to; ++i) y[i] = a[i] / b[i];
    });
  }
  template <class T>
  static void scale(Index n, T alpha, const T* x, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i) y[i] = alpha * x[i];
    });
  }
  template <class T>
  static void axpy(Index n, T alpha, const T* x, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i) y[i] += alpha * x[i];
    });
  }
  /// The standard library's exp and log: fast_exp is clamped, and what is not finite must come out.
  template <class T>
  static void exponential(Index n, const T* x, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i) y[i] = std::exp(x[i]);
    });
  }
  template <class T>
  static void logarithm(Index n, const T* x, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i) y[i] = std::log(x[i]);
    });
  }

  template <class T>
  static void activation(Activation kind, Index n, const T* x, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      switch (kind) {
        case Activation::relu:
          for (Index i = a; i < b; ++i) y[i] = x[i] < T(0) ? T(0) : x[i];  // NaN stays NaN
          break;
        case Activation::gelu:
          for (Index i = a; i < b; ++i)
            y[i] = T(0.5) * x[i] * (T(1) + fast_erf(x[i] * T(0.70710678118654752440)));
          break;
        case Activation::gelu_tanh:
          for (Index i = a; i < b; ++i)
            y[i] = T(0.5) * x[i] *
                   (T(1) + fast_tanh(T(0.79788456080286535588) *
                                     (x[i] + T(0.044715) * x[i] * x[i] * x[i])));
          break;
        default:
          for (Index i = a; i < b; ++i) y[i] = x[i];
      }
    });
  }
  template <class T>
  static void activation_backward(Activation kind, Index n, const T* x, const T* dy, T* dx) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      switch (kind) {
        case Activation::relu:
          for (Index i = a; i < b; ++i) dx[i] = x[i] > T(0) ? dy[i] : T(0);
          break;
        case Activation::gelu:
          for (Index i = a; i < b; ++i)
            dx[i] = dy[i] * (T(0.5) * (T(1) + fast_erf(x[i] * T(0.70710678118654752440))) +
                             x[i] * T(0.39894228040143267794) * fast_exp(T(-0.5) * x[i] * x[i]));
          break;
        default:
          for (Index i = a; i < b; ++i)
            dx[i] = static_cast<T>(act_derivative(kind, static_cast<double>(x[i])) *
                                   static_cast<double>(dy[i]));
      }
    });
  }

  template <class T>
  static void sigmoid_cross_entropy(Index n, const T* x, const T* z, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i)
        y[i] = (x[i] > T(0) ? x[i] * (T(1) - z[i]) : -x[i] * z[i]) +
               std::log1p(std::exp(-std::abs(x[i])));
    });
  }
  template <class T>
  static void sigmoid_cross_entropy_backward(Index n, const T* x, const T* z, const T* dy, T* dx) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i) {
        const T e = std::exp(-std::abs(x[i])), tail = e / (T(1) + e);
        dx[i] = (x[i] > T(0) ? (T(1) - z[i]) - tail : tail - z[i]) * dy[i];
      }
    });
  }

  template <class T>
  static void fill_normal(Index n, Philox random, double stddev, T* y) {
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i)
        y[i] = static_cast<T>(stddev * random.normal(static_cast<std::uint64_t>(i)));
    });
  }
  template <class T>
  static void dropout_mask(Index n, Philox random, double p, T* y) {
    const T keep = static_cast<T>(1 / (1 - p));
    executor::for_tiles<Executor>(n, tile, [=](Index a, Index b) {
      for (Index i = a; i < b; ++i)
        y[i] = random.uniform(static_cast<std::uint64_t>(i)) < p ? T(0) : keep;
    });
  }

  template <class T>
  static void sum(Index n, double factor, const T* x, T* y) {
    *y += static_cast<T>(factor * sum_tiles(n, [=](Index i) { return wide(x[i]); }));
  }
  template <class T>
  static void squared_norm(Index n, const T* x, double* sum) {
    *sum += sum_tiles(n, [=](Index i) { return wide(x[i]) * wide(x[i]); });
  }

  template <class T>
  static void adamw(Index n, const AdamWArgs& a, const T* g, T* m, T* v, T* p) {
    const StepState& s = *a.step;
    const double norm = s.norm();
    if (!std::isfinite(norm)) return;
    const double root = std::sqrt(s.correction2), factor = AdamWArgs::gradient_scale(a.clip, norm);
    const T b1 = static_cast<T>(a.beta1), b2 = static_cast<T>(a.beta2),
            c1 = static_cast<T>(1 - a.beta1), c2 = static_cast<T>(1 - a.beta2),
            keep = static_cast<T>(1 - s.learning_rate * a.decay),
            step = static_cast<T>(s.learning_rate / s.correction1 * root),
            eps = static_cast<T>(a.eps * root);
    executor::for_tiles<Executor>(n, tile, [=](Index from, Index to) {
      if (g) {
        for (Index i = from; i < to; ++i) {
          const T clipped = static_cast<T>(wide(g[i]) * factor);
          m[i] = b1 * m[i] + c1 * clipped;
          v[i] = b2 * v[i] + c2 * clipped * clipped;
          p[i] = keep * p[i] - step * m[i] / (std::sqrt(v[i]) + eps);
        }
      } else {
        for (Index i = from; i < to; ++i) {
          m[i] *= b1;
          v[i] *= b2;
          p[i] = keep * p[i] - step * m[i] / (std::sqrt(v[i]) + eps);
        }
      }
    });
  }

 private:
  /// Sum of term(i) over [0, n) in double: partial sums of fixed tiles, added in order, the same
  /// bits for any thread count.
  template <class F>
  static double sum_tiles(Index n, F term) {
    const Index tiles = (n + tile - 1) / tile;
    ArenaVector<double> part(static_cast<std::size_t>(tiles));
    Executor::for_each(tiles, [&](Index t) {
      const Index first = t * tile;
      part[static_cast<std::size_t>(t)] =
          lane_sum((std::min)(tile, n - first), [=](Index i) { return term(first + i); });
    });
    double s = 0;
    for (double p : part) s += p;
    return s;
  }
};

}  // namespace hybridmed::cpu
