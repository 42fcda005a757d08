// expects: hybridmed: the matrix-product policy of Cpu<> lacks serial or parallel; see
// docs/policies/gemm.md

#include <hybridmed/backend/cpu/backend.hpp>

using namespace hybridmed;

struct OnlySerial {
  static constexpr const char* name = "only serial";
  template <class T>
  static void serial(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                     const T* b, Index ldb, T beta, T* c, Index ldc) {
    cpu::EigenGemm::serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
#ifdef HYBRIDMED_CONTROL
  template <class Executor, class T>
  static void parallel(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                       const T* b, Index ldb, T beta, T* c, Index ldc) {
    serial(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  }
#endif
};
constexpr auto bytes = sizeof(Cpu<OnlySerial>);
