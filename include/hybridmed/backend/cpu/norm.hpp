#pragma once
// CPU kernels: layer norm and batch norm.
#include <cmath>

#include "hybridmed/backend/cpu/math.hpp"
#include "hybridmed/backend/cpu/rows.hpp"
#include "hybridmed/backend/reference/linear_algebra.hpp"

namespace hybridmed::cpu {

template <class Executor>
struct Norm : reference::LinearAlgebra {
  using R = Rows<Executor>;

  template <class T>
  static void layer_norm(Index rows, Index cols, const T* x, const T* gain, const T* bias, double eps, T* y, T* mean, T* rstd) {
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index a, Index b) {
      for (Index r = a; r < b; ++r) {
        const T* xr = x + r * cols;
        T* yr = y + r * cols;
        const double m = lane_sum(cols, [=](Index c) { return static_cast<double>(xr[c]); }) / static_cast<double>(cols);
        const T mt = static_cast<T>(m);
        const double v = lane_sum(cols, [=](Index c) { return (static_cast<double>(xr[c]) - m) * (static_cast<double>(xr[c]) - m); }) / static_cast<double>(cols);
        const T s = static_cast<T>(1 / std::sqrt(v + eps));
        mean[r] = mt, rstd[r] = s;
        for (Index c = 0; c < cols; ++c) yr[c] = (xr[c] - mt) * s * gain[c] + bias[c];
      }
    });
  }
  template <class T>
  static void layer_norm_backward(Index rows, Index cols, const T* x, const T* gain, const T* mean, const T* rstd, const T* dy, T* dx, T* dgain, T* dbias) {
    if (dgain || dbias)
      R::template sum_columns<2>(rows, cols, dgain, dbias, [=](Index r, Index a, Index b, double* s, double* s2) {
        const T m = mean[r], k = rstd[r];
        for (Index c = a; c < b; ++c) {
          const T d = dy[r * cols + c];
          s[c - a] += static_cast<double>(d * ((x[r * cols + c] - m) * k));
          s2[c - a] += static_cast<double>(d);
        }
      });
    if (!dx) return;
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index from, Index to) {
      for (Index r = from; r < to; ++r) {
        const T *xr = x + r * cols, *g = dy + r * cols;
        const T m = mean[r], k = rstd[r];
        const T a = static_cast<T>(lane_sum(cols, [=](Index c) { return static_cast<double>(g[c] * gain[c]); }) / static_cast<double>(cols));
        const T b = static_cast<T>(lane_sum(cols, [=](Index c) { return static_cast<double>(g[c] * gain[c] * ((xr[c] - m) * k)); }) / static_cast<double>(cols));
        for (Index c = 0; c < cols; ++c) dx[r * cols + c] = (g[c] * gain[c] - a - (xr[c] - m) * k * b) * k;
      }
    });
  }

  template <class T>
  static void column_moments(Index rows, Index cols, const T* x, T* mean, T* var) {
    const Workspace<double> m(cols), v(cols);
    std::fill_n(m.data(), cols, 0.0), std::fill_n(v.data(), cols, 0.0);
    R::template sum_columns<1>(rows, cols, m.data(), static_cast<double*>(nullptr), [=](Index r, Index a, Index b, double* s, double*) {
      for (Index c = a; c < b; ++c) s[c - a] += static_cast<double>(x[r * cols + c]);
    });
    for (Index c = 0; c < cols; ++c) m[c] /= static_cast<double>(rows);
    const double* mp = m.data();
    R::template sum_columns<1>(rows, cols, v.data(), static_cast<double*>(nullptr), [=](Index r, Index a, Index b, double* s, double*) {
      for (Index c = a; c < b; ++c) s[c - a] += (static_cast<double>(x[r * cols + c]) - mp[c]) * (static_cast<double>(x[r * cols + c]) - mp[c]);
    });
    for (Index c = 0; c < cols; ++c) mean[c] = static_cast<T>(m[c]), var[c] = static_cast<T>(v[c] / static_cast<double>(rows));
  }
  template <class T>
  static void batch_norm(Index rows, Index cols, const T* x, const T* mean, const T* rstd, const T* gain, const T* bias, T* y) {
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index a, Index b) {
      for (Index r = a; r < b; ++r)
        for (Index c = 0; c < cols; ++c) y[r * cols + c] = (x[r * cols + c] - mean[c]) * (rstd[c] * gain[c]) + bias[c];
    });
  }
  template <class T>
  static void batch_norm_backward(Index rows, Index cols, const T* x, const T* mean, const T* rstd, const T* gain, const T* dy, bool moments, T* dx, T* dgain, T* dbias) {
    const Workspace<double> g(cols), b(cols);
    std::fill_n(g.data(), cols, 0.0), std::fill_n(b.data(), cols, 0.0);
    R::template sum_columns<2>(rows, cols, g.data(), b.data(), [=](Index r, Index from, Index to, double* s, double* s2) {
      for (Index c = from; c < to; ++c) {
        const T d = dy[r * cols + c];
        s[c - from] += static_cast<double>(d * ((x[r * cols + c] - mean[c]) * rstd[c]));
        s2[c - from] += static_cast<double>(d);
      }
    });
    const Workspace<T> k(cols), by_x(cols), shift(cols);
    for (Index c = 0; c < cols; ++c) {
      dgain[c] += static_cast<T>(g[c]), dbias[c] += static_cast<T>(b[c]);
      k[c] = gain[c] * rstd[c];
      by_x[c] = moments ? static_cast<T>(g[c] / static_cast<double>(rows)) * rstd[c] : T(0);
      shift[c] = moments ? static_cast<T>(b[c] / static_cast<double>(rows)) : T(0);
    }
    if (!dx) return;
    const T *kp = k.data(), *xp = by_x.data(), *sp = shift.data();
    executor::for_tiles<Executor>(rows, R::row_tile(cols), [=](Index from, Index to) {
      for (Index r = from; r < to; ++r)
        for (Index c = 0; c < cols; ++c) dx[r * cols + c] = kp[c] * (dy[r * cols + c] - sp[c] - (x[r * cols + c] - mean[c]) * xp[c]);
    });
  }
};

}  // namespace hybridmed::cpu
