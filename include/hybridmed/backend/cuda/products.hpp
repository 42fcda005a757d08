#pragma once
// Matrix products by cuBLAS, and by cuBLASLt where bias and activation belong to the product.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Products {
  /// c (m, n) = alpha op(a) op(b) + beta c, row-major. C: T, or the scalar of sums. Float
  /// arithmetic throughout, no TF32 unless the context says so (FloatProducts); products of bf16
  /// are added up in float, on tensor cores, and rounded once where c is in bf16.
  template <class T, class C>
  static void gemm(bool ta, bool tb, Index m, Index n, Index k, accumulator_of<T> alpha, const T* a,
                   Index lda, const T* b, Index ldb, accumulator_of<T> beta, C* c, Index ldc);

  /// `batch` such products, whose operands lie the given numbers of elements apart; of bf16 with c
  /// in float.
  template <class T, class C>
  static void gemm_batch(Index batch, bool ta, bool tb, Index m, Index n, Index k,
                         accumulator_of<T> alpha, const T* a, Index lda, Index next_a, const T* b,
                         Index ldb, Index next_b, accumulator_of<T> beta, C* c, Index ldc,
                         Index next_c);

  /// A linear layer in one pass; false, with nothing written, where cuBLASLt does not serve it:
  /// double, no bias, empty extents, a residual in bf16 or with an activation, in float an
  /// activation other than tanh-form GELU with `pre`.
  ///
  /// Where y is in bf16, the product is rounded once, after its bias. cuBLASLt reads that bias in
  /// bf16, so it is rounded as the weights are; a y in float adds the bias as it is.
  template <class T, class Y>
  static bool linear(const LinearArgs<T, Y>& a);

  /// Its gradients; false, with nothing written, in double and where an extent is empty. The sums
  /// of a bias belong to the pass that rounds dy, or to the product that makes the weight's
  /// gradient; slope, rebuilt x and sums of an activation are one pass, or, for tanh-form GELU, the
  /// product's.
  template <class T, class Y>
  static bool linear_backward(const LinearGradients<T, Y>& a);
};

}  // namespace hybridmed::cuda
