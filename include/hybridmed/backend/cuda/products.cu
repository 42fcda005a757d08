#include <climits>
#include <string>

#include "hybridmed/backend/cuda/device.cuh"
#include "hybridmed/backend/cuda/elementwise.hpp"
#include "hybridmed/backend/cuda/products.hpp"

namespace hybridmed::cuda {

namespace {

int extent(Index n, const char* operation) {
  if (n > INT_MAX)
    fail("cuda", operation, "an extent of " + std::to_string(n) + " is more than cuBLAS takes");
  return static_cast<int>(n);
}
int leading(Index n, const char* operation) { return extent(n > 0 ? n : 1, operation); }

/// cuBLASLt descriptions of one product, released with it.
struct LtProduct {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  ~LtProduct() {
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    if (c) cublasLtMatrixLayoutDestroy(c);
    if (b) cublasLtMatrixLayoutDestroy(b);
    if (a) cublasLtMatrixLayoutDestroy(a);
    if (operation) cublasLtMatmulDescDestroy(operation);
  }
};

/// y = epilogue(x w^T + b), float. cuBLASLt thinks in columns: y^T (out, rows) = w (out, in) x^T
/// (in, rows), and its bias runs along the first extent of y^T. `aux` receives what the epilogue's
/// activation is applied to, or is null.
bool matmul(cublasLtEpilogue_t epilogue, Index rows, Index out, Index in, const float* x,
            const float* w, const float* b, float* aux, float* y) {
  Context::State& context = current();
  if (rows <= 0 || out <= 0 || in <= 0) return false;
  constexpr const char* name = "linear";
  LtProduct p;
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(p.operation, attribute, &value, sizeof value), name);
  };
  check(cublasLtMatmulDescCreate(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), name);
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, b);
  if (aux) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, static_cast<std::int64_t>(out));
  }
  const auto m = static_cast<std::uint64_t>(out), n = static_cast<std::uint64_t>(rows),
             k = static_cast<std::uint64_t>(in);
  check(cublasLtMatrixLayoutCreate(&p.a, CUDA_R_32F, k, m, in), name);
  check(cublasLtMatrixLayoutCreate(&p.b, CUDA_R_32F, k, n, in), name);
  check(cublasLtMatrixLayoutCreate(&p.c, CUDA_R_32F, m, n, out), name);
  check(cublasLtMatmulPreferenceCreate(&p.preference), name);
  std::size_t bytes = Context::State::workspace_bytes;
  check(cublasLtMatmulPreferenceSetAttribute(p.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &bytes, sizeof bytes),
        name);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      context.blas_lt, p.operation, p.a, p.b, p.c, p.c, p.preference, 1, &best, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && found == 0))
    return false;
  check(status, name);
  const float one = 1, zero = 0;
  const std::lock_guard lock(context.issue);
  check(cublasLtMatmul(context.blas_lt, p.operation, &one, w, p.a, x, p.b, &zero, y, p.c, y, p.c,
                       &best.algo, context.workspace, bytes, context.stream),
        name);
  return true;
}

}  // namespace

template <class T>
void Products::gemm(bool ta, bool tb, Index m, Index n, Index k, T alpha, const T* a, Index lda,
                    const T* b, Index ldb, T beta, T* c, Index ldc) {
  constexpr const char* name = "gemm";
  Context::State& context = current();
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {  // an empty sum: c = beta c, without reading c where beta is 0
    for (Index i = 0; i < m; ++i)
      beta == T(0) ? Elementwise::fill(n, T(0), c + i * ldc)
                   : Elementwise::scale(n, beta, c + i * ldc, c + i * ldc);
    return;
  }
  // Row-major c = op(a) op(b) is column-major c^T = op(b)^T op(a)^T: the same memory with the
  // operands exchanged.
  const cublasOperation_t opa = ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                          opb = tb ? CUBLAS_OP_T : CUBLAS_OP_N;
  const int im = extent(m, name), in = extent(n, name), ik = extent(k, name),
            ia = leading(lda, name), ib = leading(ldb, name), ic = leading(ldc, name);
  const std::lock_guard lock(context.issue);
  if constexpr (sizeof(T) == sizeof(float))
    check(cublasSgemm(context.blas, opb, opa, in, im, ik, &alpha, b, ib, a, ia, &beta, c, ic),
          name);
  else
    check(cublasDgemm(context.blas, opb, opa, in, im, ik, &alpha, b, ib, a, ia, &beta, c, ic),
          name);
}

template <class T>
void Products::gemm_batch(Index batch, bool ta, bool tb, Index m, Index n, Index k, T alpha,
                          const T* a, Index lda, Index next_a, const T* b, Index ldb, Index next_b,
                          T beta, T* c, Index ldc, Index next_c) {
  constexpr const char* name = "gemm_batch";
  Context::State& context = current();
  if (batch <= 0 || m <= 0 || n <= 0) return;
  if (k <= 0) {
    for (Index i = 0; i < batch; ++i)
      gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c + i * next_c, ldc);
    return;
  }
  const cublasOperation_t opa = ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                          opb = tb ? CUBLAS_OP_T : CUBLAS_OP_N;
  const int im = extent(m, name), in = extent(n, name), ik = extent(k, name),
            ia = leading(lda, name), ib = leading(ldb, name), ic = leading(ldc, name),
            count = extent(batch, name);
  const std::lock_guard lock(context.issue);
  if constexpr (sizeof(T) == sizeof(float))
    check(cublasSgemmStridedBatched(context.blas, opb, opa, in, im, ik, &alpha, b, ib, next_b, a,
                                    ia, next_a, &beta, c, ic, next_c, count),
          name);
  else
    check(cublasDgemmStridedBatched(context.blas, opb, opa, in, im, ik, &alpha, b, ib, next_b, a,
                                    ia, next_a, &beta, c, ic, next_c, count),
          name);
}

template <class T>
bool Products::linear(const LinearArgs<T>& a) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (!a.bias) return false;
    if (a.activation == Activation::identity && !a.pre)
      return matmul(CUBLASLT_EPILOGUE_BIAS, a.rows, a.out, a.in, a.x, a.weight, a.bias, nullptr,
                    a.y);
    // The library wants rows of `pre` in multiples of 16 bytes.
    if (a.activation == Activation::gelu_tanh && a.pre && a.out % 8 == 0)
      return matmul(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, a.rows, a.out, a.in, a.x, a.weight, a.bias,
                    a.pre, a.y);
  }
  return false;
}

#define HYBRIDMED_INSTANTIATE(T)                                                                 \
  template void Products::gemm(bool, bool, Index, Index, Index, T, const T*, Index, const T*,    \
                               Index, T, T*, Index);                                             \
  template void Products::gemm_batch(Index, bool, bool, Index, Index, Index, T, const T*, Index, \
                                     Index, const T*, Index, Index, T, T*, Index, Index);        \
  template bool Products::linear(const LinearArgs<T>&);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
