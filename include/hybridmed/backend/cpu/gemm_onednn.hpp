#pragma once
// Matrix products by oneDNN (dnnl_sgemm, the same call in its 2.x and 3.x APIs) for float; other
// types go to Eigen. The executor runs fixed tiles of the result, each product inside one thread,
// so results do not depend on the number of threads and the rule for threads (core/executor.hpp)
// holds whatever runtime oneDNN was built with.
#include <dlfcn.h>
#include <dnnl.h>

#include <string>

#include "hybridmed/backend/cpu/gemm_eigen.hpp"

namespace hybridmed::cpu {

struct OneDnnGemm {
  static constexpr const char* name = "onednn";
  static constexpr Index tile_rows = 192, tile_cols = 512;

  template <class T>
  static void serial(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                     const T* b, Index ldb, T beta, T* c, Index ldc) {
    if constexpr (std::is_same_v<T, float>)
      call(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else
      EigenGemm::serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
  template <class Executor, class T>
  static void parallel(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                       const T* b, Index ldb, T beta, T* c, Index ldc) {
    if constexpr (std::is_same_v<T, float>)
      tiled<OneDnnGemm, Executor>(tile_rows, tile_cols, ta, tb, m, n, k, alpha, a, lda, b, ldb,
                                  beta, c, ldc);
    else
      EigenGemm::parallel<Executor>(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }

 private:
  /// Keeps an OpenMP-built oneDNN on the calling thread. Its runtime need not be the one that this
  /// program is compiled for, if any: the functions are looked up in the process.
  class OneThread {
   public:
    OneThread() : before_(runtime().most ? runtime().most() : 1) {
      if (before_ != 1) runtime().set(1);
    }
    ~OneThread() {
      if (before_ != 1) runtime().set(before_);
    }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;

   private:
    struct Runtime {
      int (*most)() = nullptr;
      void (*set)(int) = nullptr;
    };
    static const Runtime& runtime() {
      static const Runtime found = [] {
        Runtime r;
        r.most = reinterpret_cast<int (*)()>(::dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
        r.set = reinterpret_cast<void (*)(int)>(::dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
        return r.set ? r : Runtime{};
      }();
      return found;
    }
    int before_;
  };

  static void call(bool ta, bool tb, Index m, Index n, Index k, float alpha, const float* a,
                   Index lda, const float* b, Index ldb, float beta, float* c, Index ldc) {
    if (m == 0 || n == 0) return;
    if (k == 0)
      return EigenGemm::serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);  // c = beta c
    const OneThread alone;
    const auto status =
        dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (status != dnnl_success)
      fail("backend", "gemm",
           "oneDNN refused a product, status " + std::to_string(static_cast<int>(status)));
  }
};

}  // namespace hybridmed::cpu
