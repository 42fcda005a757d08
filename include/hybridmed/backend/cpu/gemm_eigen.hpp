#pragma once
// Matrix products by Eigen: fixed tiles of the result, each inside one thread, so results do not
// depend on the number of threads. Eigen's panel buffers come from our arena, not from the heap.
#include <Eigen/Core>

#include <algorithm>

#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed::cpu {

/// A GEMM provider has `serial` (inside one thread) and `parallel` (over an executor), both
/// c (m, n) = alpha op(a) op(b) + beta c, row-major. See docs/policies/gemm.md.
template <class G, class T>
concept GemmProvider = requires(bool t, Index n, T s, const T* x, T* y) {
  G::serial(t, t, n, n, n, s, x, n, x, n, s, y, n);
  G::template parallel<executor::Serial>(t, t, n, n, n, s, x, n, x, n, s, y, n);
};

/// c = alpha op(a) op(b) + beta c as tiles of about equal size and at most (most_rows, most_cols),
/// each one serial product of `Gemm`.
template <class Gemm, class Executor, class T>
void tiled(Index most_rows, Index most_cols, bool ta, bool tb, Index m, Index n, Index k, T alpha,
           const T* a, Index lda, const T* b, Index ldb, T beta, T* c, Index ldc) {
  const auto even = [](Index extent, Index most) {
    const Index tiles = (std::max)(Index{1}, (extent + most - 1) / most),
                share = (extent + tiles - 1) / tiles;
    return (std::max)(Index{16}, (share + 15) / 16 * 16);
  };
  const Index rows = even(m, most_rows), cols = even(n, most_cols), down = (m + rows - 1) / rows,
              across = (n + cols - 1) / cols;
  Executor::for_each(down * across, [&](Index t) {
    const Index i = t / across * rows, j = t % across * cols;
    Gemm::serial(ta, tb, (std::min)(rows, m - i), (std::min)(cols, n - j), k, alpha,
                 ta ? a + i : a + i * lda, lda, tb ? b + j * ldb : b + j, ldb, beta,
                 c + i * ldc + j, ldc);
  });
}

struct EigenGemm {
  static constexpr const char* name = "eigen";
  static constexpr Index tile_rows = 192, tile_cols = 512;

  template <class T>
  static void serial(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                     const T* b, Index ldb, T beta, T* c, Index ldc) {
    if (beta != T(1))
      for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < n; ++j) c[i * ldc + j] = beta == T(0) ? T(0) : beta * c[i * ldc + j];
    if (m == 0 || n == 0 || k == 0) return;
    // Row-major c = a b is column-major c^T = b^T a^T: Eigen's left factor is our b.
    if (ta) {
      if (tb)
        product<T, Eigen::RowMajor, Eigen::RowMajor>(n, m, k, alpha, b, ldb, a, lda, c, ldc);
      else
        product<T, Eigen::ColMajor, Eigen::RowMajor>(n, m, k, alpha, b, ldb, a, lda, c, ldc);
    } else {
      if (tb)
        product<T, Eigen::RowMajor, Eigen::ColMajor>(n, m, k, alpha, b, ldb, a, lda, c, ldc);
      else
        product<T, Eigen::ColMajor, Eigen::ColMajor>(n, m, k, alpha, b, ldb, a, lda, c, ldc);
    }
  }

  template <class Executor, class T>
  static void parallel(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                       const T* b, Index ldb, T beta, T* c, Index ldc) {
    tiled<EigenGemm, Executor>(tile_rows, tile_cols, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta,
                               c, ldc);
  }

 private:
  template <class T>
  struct Blocking : Eigen::internal::level3_blocking<T, T> {
    Blocking(Index rows, Index cols, Index depth) {
      Eigen::Index kc = depth, mc = rows, nc = cols;
      Eigen::internal::computeProductBlockingSizes<T, T>(kc, mc, nc, Eigen::Index{1});
      this->m_kc = kc;
      this->m_mc = mc;
      this->m_nc = nc;
    }
    Index a_size() const { return this->m_kc * this->m_mc; }
    Index b_size() const { return this->m_kc * this->m_nc; }
    void use(T* a, T* b) {
      this->m_blockA = a;
      this->m_blockB = b;
    }
  };

  template <class T, int lhs_order, int rhs_order>
  static void product(Index rows, Index cols, Index depth, T alpha, const T* lhs, Index lhs_stride,
                      const T* rhs, Index rhs_stride, T* out, Index out_stride) {
    Blocking<T> blocking(rows, cols, depth);
    const Workspace<T> a(blocking.a_size()), b(blocking.b_size());
    blocking.use(a.data(), b.data());
    Eigen::internal::general_matrix_matrix_product<Eigen::Index, T, lhs_order, false, T, rhs_order,
                                                   false, Eigen::ColMajor, 1>::run(rows, cols,
                                                                                   depth, lhs,
                                                                                   lhs_stride, rhs,
                                                                                   rhs_stride, out,
                                                                                   1, out_stride,
                                                                                   alpha, blocking,
                                                                                   nullptr);
  }
};

}  // namespace hybridmed::cpu
