#pragma once
// Reference kernels on rows: gather, scatter, column sums, sparse mixing, normalisation, layout
// changes.
#include <cmath>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::reference {

struct Rows {
  /// y_r = x_{index_r}, or zeros where index_r < 0. y: (rows, cols).
  template <class T>
  static void gather_rows(Index rows, Index cols, const T* x, const std::int32_t* index, T* y) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c)
        y[r * cols + c] = index[r] < 0 ? T(0) : x[index[r] * cols + c];
  }
  /// dx_{index_r} += dy_r; rows with a negative index are dropped.
  template <class T>
  static void scatter_add_rows(Index rows, Index cols, const T* dy, const std::int32_t* index,
                               T* dx) {
    for (Index r = 0; r < rows; ++r)
      if (index[r] >= 0)
        for (Index c = 0; c < cols; ++c) dx[index[r] * cols + c] += dy[r * cols + c];
  }
  /// y_{r,c} = x_{r,c} + v_c.
  template <class T>
  static void add_vector(Index rows, Index cols, const T* x, const T* v, T* y) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c) y[r * cols + c] = x[r * cols + c] + v[c];
  }
  /// y_c += sum over rows of x_{r,c}.
  template <class T>
  static void column_sum(Index rows, Index cols, const T* x, T* y) {
    for (Index c = 0; c < cols; ++c) {
      double s = 0;
      for (Index r = 0; r < rows; ++r) s += static_cast<double>(x[r * cols + c]);
      y[c] += static_cast<T>(s);
    }
  }
  /// Per batch item b: y_{b,o} = sum_k weight_k x_{b, column_k} over k in [start_o, start_{o+1}); a
  /// resampling matrix in compressed rows. x: (batch, inputs, cols) -> y: (batch, outputs, cols).
  template <class T>
  static void mix_rows(Index batch, Index outputs, Index inputs, Index cols,
                       const std::int32_t* start, const std::int32_t* column, const T* weight,
                       const T* x, T* y) {
    for (Index b = 0; b < batch; ++b)
      for (Index o = 0; o < outputs; ++o)
        for (Index c = 0; c < cols; ++c) {
          double s = 0;
          for (std::int32_t k = start[o]; k < start[o + 1]; ++k)
            s += static_cast<double>(weight[k]) *
                 static_cast<double>(x[(b * inputs + column[k]) * cols + c]);
          y[(b * outputs + o) * cols + c] = static_cast<T>(s);
        }
  }
  /// y = x / max(|x|, 1e-12) per row; norm: (rows).
  template <class T>
  static void normalize_rows(Index rows, Index cols, const T* x, T* y, T* norm) {
    for (Index r = 0; r < rows; ++r) {
      double s = 0;
      for (Index c = 0; c < cols; ++c)
        s += static_cast<double>(x[r * cols + c]) * static_cast<double>(x[r * cols + c]);
      const double n = std::sqrt(s) > 1e-12 ? std::sqrt(s) : 1e-12;
      norm[r] = static_cast<T>(n);
      for (Index c = 0; c < cols; ++c)
        y[r * cols + c] = static_cast<T>(static_cast<double>(x[r * cols + c]) / n);
    }
  }
  /// dx = (dy - y <y, dy>) / |x|, given the forward's y and norm.
  template <class T>
  static void normalize_rows_backward(Index rows, Index cols, const T* y, const T* norm,
                                      const T* dy, T* dx) {
    for (Index r = 0; r < rows; ++r) {
      double s = 0;
      if (norm[r] > T(1e-12))  // below it the divisor is a constant
        for (Index c = 0; c < cols; ++c)
          s += static_cast<double>(y[r * cols + c]) * static_cast<double>(dy[r * cols + c]);
      for (Index c = 0; c < cols; ++c)
        dx[r * cols + c] = static_cast<T>(
            (static_cast<double>(dy[r * cols + c]) - static_cast<double>(y[r * cols + c]) * s) /
            static_cast<double>(norm[r]));
    }
  }
  /// y[r * count + k] = first[k] + r * period for r below `repeats`; negative numbers stay as they
  /// are.
  static void repeat_indices(Index count, const std::int32_t* first, Index repeats, Index period,
                             std::int32_t* y) {
    for (Index r = 0; r < repeats; ++r)
      for (Index k = 0; k < count; ++k)
        y[r * count + k] =
            first[k] < 0 ? first[k] : first[k] + static_cast<std::int32_t>(r * period);
  }
  /// Per batch item: (rows, cols) -> (cols, rows).
  template <class T>
  static void transpose(Index batch, Index rows, Index cols, const T* x, T* y) {
    for (Index b = 0; b < batch; ++b)
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < cols; ++c)
          y[(b * cols + c) * rows + r] = x[(b * rows + r) * cols + c];
  }
  /// Non-overlapping patches: x (batch, channels, side, side) -> y (batch, side / patch squared,
  /// channels * patch * patch).
  template <class T>
  static void patchify(Index batch, Index channels, Index side, Index patch, const T* x, T* y) {
    const Index n = side / patch;
    for (Index b = 0; b < batch; ++b)
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j)
          for (Index c = 0; c < channels; ++c)
            for (Index u = 0; u < patch; ++u)
              for (Index v = 0; v < patch; ++v)
                y[(((b * n + i) * n + j) * channels + c) * patch * patch + u * patch + v] =
                    x[((b * channels + c) * side + i * patch + u) * side + j * patch + v];
  }
};

}  // namespace hybridmed::reference
