#pragma once
// CPU kernels: layer norm and batch norm. Each computes in double and rounds what it stores:
// differences of nearly equal numbers decide the gradients, and a ReLU behind a batch norm must not
// flip by a second rounding.
#include <cmath>

#include "hybridmed/backend/cpu/math.hpp"
#include "hybridmed/backend/cpu/rows.hpp"
#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed::cpu {

template <class Executor>
struct Norm {
  using R = Rows<Executor>;

  template <class T>
  static void layer_norm(Index rows, Index cols, const T* x, const T* gain, const T* bias,
                         double eps, T* y, T* mean, T* rstd) {
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index a, Index b) {
      for (Index r = a; r < b; ++r)
        norm_row(cols, x + r * cols, gain, bias, eps, y + r * cols, mean + r, rstd + r);
    });
  }
  template <class T>
  static bool add_norm(Index rows, Index cols, const T* x, const T* y, const T* gain, const T* bias,
                       double eps, T* sum, T* norm, T* mean, T* rstd) {
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index a, Index b) {
      for (Index r = a; r < b; ++r) {
        const T *xr = x + r * cols, *yr = y + r * cols;
        T* sr = sum + r * cols;
        for (Index c = 0; c < cols; ++c) sr[c] = xr[c] + yr[c];
        norm_row(cols, sr, gain, bias, eps, norm + r * cols, mean + r, rstd + r);
      }
    });
    return true;
  }
  template <class T>
  static void layer_norm_backward(Index rows, Index cols, const T* x, const T* gain, const T* mean,
                                  const T* rstd, const T* dy, T* dx, T* dgain, T* dbias) {
    if (dgain || dbias)
      R::template sum_columns<2>(rows, cols, dgain, dbias,
                                 [=](Index r, Index a, Index b, double* s, double* s2) {
                                   const double m = wide(mean[r]), k = wide(rstd[r]);
                                   for (Index c = a; c < b; ++c) {
                                     const double d = wide(dy[r * cols + c]);
                                     s[c - a] += d * ((wide(x[r * cols + c]) - m) * k);
                                     s2[c - a] += d;
                                   }
                                 });
    if (!dx) return;
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index from, Index to) {
      for (Index r = from; r < to; ++r) {
        const T *xr = x + r * cols, *g = dy + r * cols;
        const double m = wide(mean[r]), k = wide(rstd[r]), n = static_cast<double>(cols);
        const double a = lane_sum(cols, [=](Index c) { return wide(g[c]) * wide(gain[c]); }) / n;
        const double b = lane_sum(cols,
                                  [=](Index c) {
                                    return wide(g[c]) * wide(gain[c]) * ((wide(xr[c]) - m) * k);
                                  }) /
                         n;
        for (Index c = 0; c < cols; ++c)
          dx[r * cols + c] =
              static_cast<T>((wide(g[c]) * wide(gain[c]) - a - (wide(xr[c]) - m) * k * b) * k);
      }
    });
  }

  template <class T>
  static void column_moments(Index rows, Index cols, const T* x, T* mean, T* var) {
    const Workspace<double> m(cols), v(cols);
    std::fill_n(m.data(), cols, 0.0);
    std::fill_n(v.data(), cols, 0.0);
    R::template sum_columns<1>(rows, cols, m.data(), static_cast<double*>(nullptr),
                               [=](Index r, Index a, Index b, double* s, double*) {
                                 for (Index c = a; c < b; ++c) s[c - a] += wide(x[r * cols + c]);
                               });
    for (Index c = 0; c < cols; ++c) m[c] /= static_cast<double>(rows);
    const double* mp = m.data();
    R::template sum_columns<1>(rows, cols, v.data(), static_cast<double*>(nullptr),
                               [=](Index r, Index a, Index b, double* s, double*) {
                                 for (Index c = a; c < b; ++c)
                                   s[c - a] += (wide(x[r * cols + c]) - mp[c]) *
                                               (wide(x[r * cols + c]) - mp[c]);
                               });
    for (Index c = 0; c < cols; ++c) {
      mean[c] = static_cast<T>(m[c]);
      var[c] = static_cast<T>(v[c] / static_cast<double>(rows));
    }
  }
  template <class T>
  static void batch_norm(Index rows, Index cols, const T* x, const T* mean, const T* rstd,
                         const T* gain, const T* bias, T* y) {
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index a, Index b) {
      for (Index r = a; r < b; ++r)
        for (Index c = 0; c < cols; ++c)
          y[r * cols + c] = static_cast<T>((wide(x[r * cols + c]) - wide(mean[c])) *
                                               (wide(rstd[c]) * wide(gain[c])) +
                                           wide(bias[c]));
    });
  }
  template <class T>
  static void batch_norm_backward(Index rows, Index cols, const T* x, const T* mean, const T* rstd,
                                  const T* gain, const T* dy, bool moments, T* dx, T* dgain,
                                  T* dbias) {
    const Workspace<double> g(cols), b(cols);
    std::fill_n(g.data(), cols, 0.0);
    std::fill_n(b.data(), cols, 0.0);
    R::template sum_columns<2>(
        rows, cols, g.data(), b.data(), [=](Index r, Index from, Index to, double* s, double* s2) {
          for (Index c = from; c < to; ++c) {
            const double d = wide(dy[r * cols + c]);
            s[c - from] += d * ((wide(x[r * cols + c]) - wide(mean[c])) * wide(rstd[c]));
            s2[c - from] += d;
          }
        });
    const Workspace<double> k(cols), by_x(cols), shift(cols);
    for (Index c = 0; c < cols; ++c) {
      dgain[c] += static_cast<T>(g[c]);
      dbias[c] += static_cast<T>(b[c]);
      k[c] = wide(gain[c]) * wide(rstd[c]);
      by_x[c] = moments ? g[c] / static_cast<double>(rows) * wide(rstd[c]) : 0;
      shift[c] = moments ? b[c] / static_cast<double>(rows) : 0;
    }
    if (!dx) return;
    const double *kp = k.data(), *xp = by_x.data(), *sp = shift.data();
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index from, Index to) {
      for (Index r = from; r < to; ++r)
        for (Index c = 0; c < cols; ++c)
          dx[r * cols + c] =
              static_cast<T>(kp[c] * (wide(dy[r * cols + c]) - sp[c] -
                                      (wide(x[r * cols + c]) - wide(mean[c])) * xp[c]));
    });
  }

 private:
  /// LayerNorm of one row.
  template <class T>
  static void norm_row(Index cols, const T* x, const T* gain, const T* bias, double eps, T* y,
                       T* mean, T* rstd) {
    const double m =
        lane_sum(cols, [=](Index c) { return wide(x[c]); }) / static_cast<double>(cols);
    const double v = lane_sum(cols, [=](Index c) { return (wide(x[c]) - m) * (wide(x[c]) - m); }) /
                     static_cast<double>(cols);
    const double s = 1 / std::sqrt(v + eps);
    *mean = static_cast<T>(m);
    *rstd = static_cast<T>(s);
    for (Index c = 0; c < cols; ++c)
      y[c] = static_cast<T>((wide(x[c]) - m) * s * wide(gain[c]) + wide(bias[c]));
  }
};

}  // namespace hybridmed::cpu
