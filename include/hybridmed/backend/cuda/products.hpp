#pragma once
// Matrix products by cuBLAS, and by cuBLASLt where bias and activation belong to the product.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Products {
  /// c (m, n) = alpha op(a) op(b) + beta c, row-major; float32 arithmetic throughout, no TF32.
  template <class T>
  static void gemm(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                   const T* b, Index ldb, T beta, T* c, Index ldc);

  /// `batch` such products, whose operands lie the given numbers of elements apart.
  template <class T>
  static void gemm_batch(Index batch, bool ta, bool tb, Index m, Index n, Index k, T alpha,
                         const T* a, Index lda, Index next_a, const T* b, Index ldb, Index next_b,
                         T beta, T* c, Index ldc, Index next_c);

  /// A linear layer in one pass; false, with nothing written, where cuBLASLt does not serve it:
  /// double, no bias, empty extents, an activation other than tanh-form GELU with `pre`.
  template <class T>
  static bool linear(const LinearArgs<T>& a);
};

}  // namespace hybridmed::cuda
