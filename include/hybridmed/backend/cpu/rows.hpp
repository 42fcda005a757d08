#pragma once
// CPU kernels on rows.
#include <algorithm>
#include <cstring>

#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed::cpu {

template <class Executor>
struct Rows {
  /// Rows per tile so that a tile has about 32 k elements.
  static Index row_tile(Index cols) {
    return std::max<Index>(1, (1 << 15) / std::max<Index>(1, cols));
  }

  template <class T>
  static void gather_rows(Index rows, Index cols, const T* x, const std::int32_t* index, T* y) {
    executor::for_tiles<Executor>(rows, row_tile(cols), [=](Index a, Index b) {
      for (Index r = a; r < b; ++r) {
        if (index[r] < 0)
          std::fill_n(y + r * cols, cols, T(0));
        else
          std::memcpy(y + r * cols, x + index[r] * cols,
                      static_cast<std::size_t>(cols) * sizeof(T));
      }
    });
  }
  /// Tiles over columns: every target row is summed in the order of the source rows.
  template <class T>
  static void scatter_add_rows(Index rows, Index cols, const T* dy, const std::int32_t* index,
                               T* dx) {
    executor::for_tiles<Executor>(cols, 128, [=](Index a, Index b) {
      for (Index r = 0; r < rows; ++r)
        if (index[r] >= 0) {
          const T* from = dy + r * cols;
          T* to = dx + index[r] * cols;
          for (Index c = a; c < b; ++c) to[c] += from[c];
        }
    });
  }
  template <class T>
  static void add_vector(Index rows, Index cols, const T* x, const T* v, T* y) {
    executor::for_tiles<Executor>(rows, row_tile(cols), [=](Index a, Index b) {
      for (Index r = a; r < b; ++r)
        for (Index c = 0; c < cols; ++c) y[r * cols + c] = x[r * cols + c] + v[c];
    });
  }
  template <class T>
  static void column_sum(Index rows, Index cols, const T* x, T* y) {
    sum_columns<1>(rows, cols, y, static_cast<T*>(nullptr),
                   [=](Index r, Index a, Index b, double* s, double*) {
                     for (Index c = a; c < b; ++c) s[c - a] += static_cast<double>(x[r * cols + c]);
                   });
  }
  template <class T>
  static void mix_rows(Index batch, Index outputs, Index inputs, Index cols,
                       const std::int32_t* start, const std::int32_t* column, const T* weight,
                       const T* x, T* y) {
    executor::for_tiles<Executor>(batch * outputs, row_tile(cols), [=](Index a, Index b) {
      for (Index r = a; r < b; ++r) {
        const Index o = r % outputs;
        const T* xb = x + r / outputs * inputs * cols;
        T* yr = y + r * cols;
        std::fill_n(yr, cols, T(0));
        for (std::int32_t k = start[o]; k < start[o + 1]; ++k) {
          const T w = weight[k];
          const T* xr = xb + column[k] * cols;
          for (Index c = 0; c < cols; ++c) yr[c] += w * xr[c];
        }
      }
    });
  }
  template <class T>
  static void transpose(Index batch, Index rows, Index cols, const T* x, T* y) {
    const Index block = 32, down = (rows + block - 1) / block;
    Executor::for_each(batch * down, [=](Index t) {
      const Index b = t / down, r0 = t % down * block, r1 = (std::min)(rows, r0 + block);
      for (Index c = 0; c < cols; ++c)
        for (Index r = r0; r < r1; ++r) y[(b * cols + c) * rows + r] = x[(b * rows + r) * cols + c];
    });
  }
  template <class T>
  static void patchify(Index batch, Index channels, Index side, Index patch, const T* x, T* y) {
    const Index n = side / patch;
    Executor::for_each(batch * n, [=](Index t) {
      const Index b = t / n, i = t % n;
      for (Index j = 0; j < n; ++j)
        for (Index c = 0; c < channels; ++c)
          for (Index u = 0; u < patch; ++u)
            std::memcpy(y + ((t * n + j) * channels + c) * patch * patch + u * patch,
                        x + ((b * channels + c) * side + i * patch + u) * side + j * patch,
                        static_cast<std::size_t>(patch) * sizeof(T));
    });
  }

  /// Sums per column in double: `add(row, first, end, s, t)` adds a row's columns [first, end) to s
  /// and t; the results are added to y and z. Row chunks and column tiles are fixed, chunk sums are
  /// added in order.
  template <int outputs, class T, class F>
  static void sum_columns(Index rows, Index cols, T* y, T* z, F&& add) {
    constexpr Index width = 256, height = 1024;
    const Index across = (cols + width - 1) / width,
                down = std::max<Index>(1, (rows + height - 1) / height);
    const Workspace<double> part(across * down * 2 * width);
    Executor::for_each(across * down, [&](Index t) {
      const Index a = t % across * width, b = (std::min)(cols, a + width);
      double *s = part.data() + t * 2 * width, *s2 = s + width;
      std::fill_n(s, 2 * width, 0.0);
      for (Index r = t / across * height, end = (std::min)(rows, r + height); r < end; ++r)
        add(r, a, b, s, s2);
    });
    for (Index t = 0; t < across; ++t)
      for (Index c = t * width; c < (std::min)(cols, (t + 1) * width); ++c) {
        double s = 0, s2 = 0;
        for (Index k = 0; k < down; ++k) {
          s += part[(k * across + t) * 2 * width + c - t * width];
          s2 += part[(k * across + t) * 2 * width + width + c - t * width];
        }
        if (y) y[c] += static_cast<T>(s);
        if (outputs > 1 && z) z[c] += static_cast<T>(s2);
      }
  }
};

}  // namespace hybridmed::cpu
