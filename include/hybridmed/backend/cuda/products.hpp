#pragma once
// Matrix products by cuBLAS, and by cuBLASLt where bias and activation belong to the product.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Products {
  /// c (m, n) = alpha op(a) op(b) + beta c, row-major; float32 arithmetic throughout, no TF32.
  template <class T>
  static void gemm(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                   const T* b, Index ldb, T beta, T* c, Index ldc);

  /// y = x w^T + b in one pass; false, with y untouched, where cuBLASLt does not serve the shape
  /// (double, empty extents).
  template <class T>
  static bool linear(Index rows, Index out, Index in, const T* x, const T* w, const T* b, T* y);

  /// pre = x w^T + b and y = act(pre) in one pass; false where not served. cuBLASLt's GELU is the
  /// tanh form.
  template <class T>
  static bool linear_activation(Activation act, Index rows, Index out, Index in, const T* x,
                                const T* w, const T* b, T* pre, T* y);
};

}  // namespace hybridmed::cuda
