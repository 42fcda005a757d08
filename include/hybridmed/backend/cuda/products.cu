#include "hybridmed/backend/cuda/products.hpp"

#include <array>
#include <climits>
#include <map>

#include "hybridmed/backend/cuda/device.cuh"
#include "hybridmed/backend/cuda/elementwise.hpp"

namespace hybridmed::cuda {

namespace {

int extent(Index n, const char* operation) {
  if (n > INT_MAX)
    fail("cuda", operation, "an extent of " + std::to_string(n) + " is more than cuBLAS takes");
  return static_cast<int>(n);
}
int leading(Index n, const char* operation) { return extent(n > 0 ? n : 1, operation); }

template <class T>
constexpr cudaDataType_t type_of = CUDA_R_32F;
template <>
constexpr cudaDataType_t type_of<bfloat16> = CUDA_R_16BF;

/// How cuBLASLt computes one shape: what its heuristics said the first time.
struct Plan {
  bool served = false;
  cublasLtMatmulAlgo_t algorithm{};
};
/// Epilogue, extents, types and alignments.
using PlanKey = std::array<std::int64_t, 11>;
using Plans = std::map<PlanKey, Plan>;
constexpr std::size_t most_plans = 4096;  // ragged batches may bring ever new extents

/// The plans of a context, whose lock is held.
Plans& plans_of(Context::State& context) {
  if (!context.plans) context.plans = std::make_shared<Plans>();
  auto& plans = *static_cast<Plans*>(context.plans.get());
  if (plans.size() >= most_plans) plans.clear();
  return plans;
}

/// The largest power of two up to 256 that an address is a multiple of.
std::uint32_t alignment(const void* p) {
  const auto low = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(p)) | 256;
  return low & (~low + 1);
}

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

/// y = epilogue(x w^T + b), in float arithmetic. cuBLASLt thinks in columns: y^T (out, rows) = w
/// (out, in) x^T (in, rows), and its bias, of y's scalar, runs along the first extent of y^T. `aux`
/// receives what the epilogue's activation is applied to, or is null.
template <class T, class Y>
bool matmul(cublasLtEpilogue_t epilogue, Index rows, Index out, Index in, const T* x, const T* w,
            const Y* b, Y* aux, Y* y) {
  constexpr const char* name = "linear";
  Context::State& context = current_for<T>(name);
  if (rows <= 0 || out <= 0 || in <= 0) return false;
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
  check(cublasLtMatrixLayoutCreate(&p.a, type_of<T>, k, m, in), name);
  check(cublasLtMatrixLayoutCreate(&p.b, type_of<T>, k, n, in), name);
  check(cublasLtMatrixLayoutCreate(&p.c, type_of<Y>, m, n, out), name);
  const PlanKey key{epilogue,
                    rows,
                    out,
                    in,
                    type_of<T>,
                    type_of<Y>,
                    alignment(w),
                    alignment(x),
                    alignment(y),
                    alignment(b),
                    aux ? alignment(aux) : 0};
  const std::lock_guard lock(context.issue);
  Plans& plans = plans_of(context);
  auto plan = plans.find(key);
  if (plan == plans.end()) {
    check(cublasLtMatmulPreferenceCreate(&p.preference), name);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(cublasLtMatmulPreferenceSetAttribute(p.preference, attribute, &value, sizeof value),
            name);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Context::State::workspace_bytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(w));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(x));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(y));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(y));
    // Parts of a sum meet in float: a result is rounded once.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           std::uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK & ~CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE});
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        context.blas_lt, p.operation, p.a, p.b, p.c, p.c, p.preference, 1, &best, &found);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, name);
    plan = plans.emplace(key, Plan{status == CUBLAS_STATUS_SUCCESS && found > 0, best.algo}).first;
  }
  if (!plan->second.served) return false;
  const float one = 1, zero = 0;
  check(cublasLtMatmul(context.blas_lt, p.operation, &one, w, p.a, x, p.b, &zero, y, p.c, y, p.c,
                       &plan->second.algorithm, context.workspace, Context::State::workspace_bytes,
                       context.stream),
        name);
  return true;
}

}  // namespace

template <class T, class C>
void Products::gemm(bool ta, bool tb, Index m, Index n, Index k, accumulator_of<T> alpha,
                    const T* a, Index lda, const T* b, Index ldb, accumulator_of<T> beta, C* c,
                    Index ldc) {
  constexpr const char* name = "gemm";
  Context::State& context = current_for<T>(name);
  if (m <= 0 || n <= 0) return;
  if (k <= 0) {  // an empty sum: c = beta c, without reading c where beta is 0
    for (Index i = 0; i < m; ++i)
      beta == 0 ? Elementwise::fill(n, C(0), c + i * ldc)
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
  if constexpr (std::is_same_v<T, bfloat16>)
    check(cublasGemmEx(context.blas, opb, opa, in, im, ik, &alpha, b, type_of<T>, ib, a, type_of<T>,
                       ia, &beta, c, type_of<C>, ic, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          name);
  else if constexpr (std::is_same_v<T, float>)
    check(cublasSgemm(context.blas, opb, opa, in, im, ik, &alpha, b, ib, a, ia, &beta, c, ic),
          name);
  else
    check(cublasDgemm(context.blas, opb, opa, in, im, ik, &alpha, b, ib, a, ia, &beta, c, ic),
          name);
}

template <class T, class C>
void Products::gemm_batch(Index batch, bool ta, bool tb, Index m, Index n, Index k,
                          accumulator_of<T> alpha, const T* a, Index lda, Index next_a, const T* b,
                          Index ldb, Index next_b, accumulator_of<T> beta, C* c, Index ldc,
                          Index next_c) {
  constexpr const char* name = "gemm_batch";
  Context::State& context = current_for<T>(name);
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
  if constexpr (std::is_same_v<T, bfloat16>)
    check(cublasGemmStridedBatchedEx(context.blas, opb, opa, in, im, ik, &alpha, b, type_of<T>, ib,
                                     next_b, a, type_of<T>, ia, next_a, &beta, c, type_of<C>, ic,
                                     next_c, count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          name);
  else if constexpr (std::is_same_v<T, float>)
    check(cublasSgemmStridedBatched(context.blas, opb, opa, in, im, ik, &alpha, b, ib, next_b, a,
                                    ia, next_a, &beta, c, ic, next_c, count),
          name);
  else
    check(cublasDgemmStridedBatched(context.blas, opb, opa, in, im, ik, &alpha, b, ib, next_b, a,
                                    ia, next_a, &beta, c, ic, next_c, count),
          name);
}

template <class T, class Y>
bool Products::linear(const LinearArgs<T, Y>& a) {
  if constexpr (std::is_same_v<T, double>) return false;
  if (!a.bias || a.rows <= 0 || a.out <= 0 || a.in <= 0) return false;
  const bool plain = a.activation == Activation::identity && !a.pre,
             // The library wants rows of `pre` in multiples of 16 bytes.
      fused = a.activation == Activation::gelu_tanh && a.pre && a.out % 8 == 0;
  const auto product = [&](cublasLtEpilogue_t epilogue, const Y* bias, Y* pre, Y* y) {
    return matmul(epilogue, a.rows, a.out, a.in, a.x, a.weight, bias, pre, y);
  };
  if constexpr (std::is_same_v<Y, float>) {
    if (plain) return product(CUBLASLT_EPILOGUE_BIAS, a.bias, nullptr, a.y);
    if (fused) return product(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, a.bias, a.pre, a.y);
  } else if constexpr (std::is_same_v<Y, bfloat16>) {
    Scratch<Y> bias(current_for<T>("linear"), a.out);
    Elementwise::convert(a.out, a.bias, bias.data());
    if (fused) return product(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, bias.data(), a.pre, a.y);
    Y* const pre = a.pre ? a.pre : a.y;
    if (!product(CUBLASLT_EPILOGUE_BIAS, bias.data(), nullptr, pre)) return false;
    if (a.activation != Activation::identity)
      Elementwise::activation(a.activation, a.rows * a.out, pre, a.y);
    else if (pre != a.y)
      Elementwise::copy(a.rows * a.out, pre, a.y);
    return true;
  }
  return false;
}

#define HYBRIDMED_INSTANTIATE(T, C)                                                          \
  template void Products::gemm(bool, bool, Index, Index, Index, accumulator_of<T>, const T*, \
                               Index, const T*, Index, accumulator_of<T>, C*, Index);        \
  template bool Products::linear(const LinearArgs<T, C>&);
HYBRIDMED_INSTANTIATE(float, float)
HYBRIDMED_INSTANTIATE(double, double)
HYBRIDMED_INSTANTIATE(bfloat16, bfloat16)
HYBRIDMED_INSTANTIATE(bfloat16, float)
#undef HYBRIDMED_INSTANTIATE
#define HYBRIDMED_INSTANTIATE(T, C)                                                             \
  template void Products::gemm_batch(Index, bool, bool, Index, Index, Index, accumulator_of<T>, \
                                     const T*, Index, Index, const T*, Index, Index,            \
                                     accumulator_of<T>, C*, Index, Index);
HYBRIDMED_INSTANTIATE(float, float)
HYBRIDMED_INSTANTIATE(double, double)
HYBRIDMED_INSTANTIATE(bfloat16, float)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
