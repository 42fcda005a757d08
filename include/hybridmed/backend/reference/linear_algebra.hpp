#pragma once
// Reference kernels: matrix product, layer norm, batch norm.
#include <cmath>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::reference {

struct LinearAlgebra {
  /// c (m, n) = alpha op(a) op(b) + beta c, row-major; op transposes where ta, tb. beta 0 ignores
  /// what c held.
  template <class T>
  static void gemm(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                   const T* b, Index ldb, T beta, T* c, Index ldc) {
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) {
        double s = 0;
        for (Index l = 0; l < k; ++l)
          s += static_cast<double>(ta ? a[l * lda + i] : a[i * lda + l]) *
               static_cast<double>(tb ? b[j * ldb + l] : b[l * ldb + j]);
        s *= static_cast<double>(alpha);
        if (beta != T(0)) s += static_cast<double>(beta) * static_cast<double>(c[i * ldc + j]);
        c[i * ldc + j] = static_cast<T>(s);
      }
  }

  /// y = (x - mean) / sqrt(var + eps) * gain + bias per row; mean, rstd: (rows).
  template <class T>
  static void layer_norm(Index rows, Index cols, const T* x, const T* gain, const T* bias,
                         double eps, T* y, T* mean, T* rstd) {
    for (Index r = 0; r < rows; ++r) {
      const T* xr = x + r * cols;
      double m = 0, v = 0;
      for (Index c = 0; c < cols; ++c) m += static_cast<double>(xr[c]);
      m /= static_cast<double>(cols);
      for (Index c = 0; c < cols; ++c)
        v += (static_cast<double>(xr[c]) - m) * (static_cast<double>(xr[c]) - m);
      const double s = 1 / std::sqrt(v / static_cast<double>(cols) + eps);
      mean[r] = static_cast<T>(m);
      rstd[r] = static_cast<T>(s);
      for (Index c = 0; c < cols; ++c)
        y[r * cols + c] =
            static_cast<T>((static_cast<double>(xr[c]) - m) * s * static_cast<double>(gain[c]) +
                           static_cast<double>(bias[c]));
    }
  }
  /// sum = x + y and norm = layer_norm(sum); mean, rstd: (rows).
  template <class T>
  static bool add_norm(Index rows, Index cols, const T* x, const T* y, const T* gain, const T* bias,
                       double eps, T* sum, T* norm, T* mean, T* rstd) {
    for (Index i = 0; i < rows * cols; ++i) sum[i] = x[i] + y[i];
    layer_norm(rows, cols, sum, gain, bias, eps, norm, mean, rstd);
    return true;
  }
  /// dx overwritten, dgain and dbias accumulated; each may be null.
  template <class T>
  static void layer_norm_backward(Index rows, Index cols, const T* x, const T* gain, const T* mean,
                                  const T* rstd, const T* dy, T* dx, T* dgain, T* dbias) {
    for (Index c = 0; c < cols && (dgain || dbias); ++c) {
      double g = 0, b = 0;
      for (Index r = 0; r < rows; ++r) {
        const double d = static_cast<double>(dy[r * cols + c]);
        g += d * (static_cast<double>(x[r * cols + c]) - static_cast<double>(mean[r])) *
             static_cast<double>(rstd[r]);
        b += d;
      }
      if (dgain) dgain[c] += static_cast<T>(g);
      if (dbias) dbias[c] += static_cast<T>(b);
    }
    for (Index r = 0; r < rows && dx; ++r) {
      double a = 0, b = 0;
      for (Index c = 0; c < cols; ++c) {
        const double d = static_cast<double>(dy[r * cols + c]) * static_cast<double>(gain[c]);
        a += d;
        b += d * (static_cast<double>(x[r * cols + c]) - static_cast<double>(mean[r])) *
             static_cast<double>(rstd[r]);
      }
      a /= static_cast<double>(cols);
      b /= static_cast<double>(cols);
      for (Index c = 0; c < cols; ++c) {
        const double xn = (static_cast<double>(x[r * cols + c]) - static_cast<double>(mean[r])) *
                          static_cast<double>(rstd[r]);
        dx[r * cols + c] = static_cast<T>(
            (static_cast<double>(dy[r * cols + c]) * static_cast<double>(gain[c]) - a - xn * b) *
            static_cast<double>(rstd[r]));
      }
    }
  }

  /// Mean and biased variance of each column.
  template <class T>
  static void column_moments(Index rows, Index cols, const T* x, T* mean, T* var) {
    for (Index c = 0; c < cols; ++c) {
      double m = 0, v = 0;
      for (Index r = 0; r < rows; ++r) m += static_cast<double>(x[r * cols + c]);
      m /= static_cast<double>(rows);
      for (Index r = 0; r < rows; ++r)
        v +=
            (static_cast<double>(x[r * cols + c]) - m) * (static_cast<double>(x[r * cols + c]) - m);
      mean[c] = static_cast<T>(m);
      var[c] = static_cast<T>(v / static_cast<double>(rows));
    }
  }
  /// y = (x - mean) rstd gain + bias, per column.
  template <class T>
  static void batch_norm(Index rows, Index cols, const T* x, const T* mean, const T* rstd,
                         const T* gain, const T* bias, T* y) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c)
        y[r * cols + c] = (x[r * cols + c] - mean[c]) * rstd[c] * gain[c] + bias[c];
  }
  /// Backward of batch_norm with batch statistics (`moments` true) or fixed ones. dx overwritten;
  /// dgain, dbias (cols) accumulated and needed for dx as well, so they may not be null.
  template <class T>
  static void batch_norm_backward(Index rows, Index cols, const T* x, const T* mean, const T* rstd,
                                  const T* gain, const T* dy, bool moments, T* dx, T* dgain,
                                  T* dbias) {
    for (Index c = 0; c < cols; ++c) {
      double g = 0, b = 0;
      for (Index r = 0; r < rows; ++r) {
        const double d = static_cast<double>(dy[r * cols + c]);
        g += d * (static_cast<double>(x[r * cols + c]) - static_cast<double>(mean[c])) *
             static_cast<double>(rstd[c]);
        b += d;
      }
      dgain[c] += static_cast<T>(g);
      dbias[c] += static_cast<T>(b);
      const double n = static_cast<double>(rows),
                   k = static_cast<double>(gain[c]) * static_cast<double>(rstd[c]);
      for (Index r = 0; r < rows && dx; ++r) {
        const double xn = (static_cast<double>(x[r * cols + c]) - static_cast<double>(mean[c])) *
                          static_cast<double>(rstd[c]);
        dx[r * cols + c] = static_cast<T>(
            k * (static_cast<double>(dy[r * cols + c]) - (moments ? (b + xn * g) / n : 0.0)));
      }
    }
  }
};

}  // namespace hybridmed::reference
