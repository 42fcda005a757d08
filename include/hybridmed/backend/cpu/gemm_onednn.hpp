#pragma once
// Matrix products by oneDNN (dnnl_sgemm, the same call in its 2.x and 3.x APIs) for float; other types go to Eigen.
#include <dnnl.h>

#include <string>

#include "hybridmed/backend/cpu/gemm_eigen.hpp"

namespace hybridmed::cpu {

struct OneDnnGemm {
  static constexpr const char* name = "onednn";

  template <class T>
  static void serial(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda, const T* b, Index ldb, T beta, T* c, Index ldc) {
    if constexpr (std::is_same_v<T, float>)
      call(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else
      EigenGemm::serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
  /// oneDNN runs its own OpenMP team; inside a tile it stays on the calling thread.
  template <class Executor, class T>
  static void parallel(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda, const T* b, Index ldb, T beta, T* c, Index ldc) {
    if constexpr (std::is_same_v<T, float>)
      call(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else
      EigenGemm::parallel<Executor>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }

 private:
  static void call(bool ta, bool tb, Index m, Index n, Index k, float alpha, const float* a, Index lda, const float* b, Index ldb, float beta, float* c, Index ldc) {
    if (m == 0 || n == 0) return;
    if (k == 0) return EigenGemm::serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);  // c = beta c
    const auto status = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (status != dnnl_success) fail("backend", "gemm", "oneDNN refused a product, status " + std::to_string(static_cast<int>(status)));
  }
};

}  // namespace hybridmed::cpu
