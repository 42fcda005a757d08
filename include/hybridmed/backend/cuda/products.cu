#include "hybridmed/backend/cuda/products.hpp"

#include <array>
#include <climits>
#include <map>

#include "hybridmed/backend/cuda/activation.cuh"
#include "hybridmed/backend/cuda/column_pass.cuh"
#include "hybridmed/backend/cuda/elementwise.hpp"
#include "hybridmed/backend/cuda/rows.hpp"

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

/// How a product in T is computed, other than double.
template <class T>
cublasComputeType_t arithmetic(const Context::State& context) {
  const bool tf32 = std::is_same_v<T, float> && context.float_products == FloatProducts::tf32;
  return tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/// How cuBLASLt computes one shape: what its heuristics said the first time.
struct Plan {
  bool served = false;
  cublasLtMatmulAlgo_t algorithm{};
};
/// Epilogue, transpositions, extents, types and alignments. How floats are multiplied belongs to
/// the context, and so do its plans.
using PlanKey = std::array<std::int64_t, 14>;
using Plans = std::map<PlanKey, Plan>;
constexpr std::size_t most_plans = 4096;  // ragged batches may bring ever new extents

/// The plans of a context, whose lock is held.
Plans& plans_of(Context::State& context) {
  if (!context.plans) context.plans = std::make_shared<Plans>();
  auto& plans = *static_cast<Plans*>(context.plans.get());
  if (plans.size() >= most_plans) plans.clear();
  return plans;
}

/// The largest power of two up to 256 that an address is a multiple of; 0 for none.
std::uint32_t alignment(const void* p) {
  if (!p) return 0;
  const auto low = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(p)) | 256;
  return low & (~low + 1);
}

/// c (m, n) = epilogue(op(a) op(b) + add), row-major without gaps, in float arithmetic.
template <class T, class C>
struct Matmul {
  const char* operation;
  cublasLtEpilogue_t epilogue;
  bool ta, tb;
  Index m, n, k;
  const T *a, *b;
  C* c;
  const C* add = nullptr;
  /// Read or written by the epilogue: a vector along n, for BGRADB along m.
  const C* bias = nullptr;
  /// (m, n): what an activation is, or was, applied to.
  C* aux = nullptr;
};

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

/// Asks the heuristics, with the workspace that the context owns.
template <class T, class C>
Plan plan_of(const Context::State& context, LtProduct& p, const Matmul<T, C>& product) {
  const char* name = product.operation;
  check(cublasLtMatmulPreferenceCreate(&p.preference), name);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(p.preference, attribute, &value, sizeof value),
          name);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Context::State::workspace_bytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(product.b));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(product.a));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
         alignment(product.add ? product.add : product.c));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(product.c));
  // Parts of a sum meet in float: a result is rounded once.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         std::uint32_t{CUBLASLT_REDUCTION_SCHEME_MASK & ~CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE});
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      context.blas_lt, p.operation, p.a, p.b, p.c, p.c, p.preference, 1, &best, &found);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, name);
  return {status == CUBLAS_STATUS_SUCCESS && found > 0, best.algo};
}

/// False, with nothing written, where cuBLASLt does not serve it. It thinks in columns: c^T (n, m)
/// = op(b)^T op(a)^T, the same memory with the operands exchanged.
template <class T, class C>
bool matmul(const Matmul<T, C>& product) {
  const auto& [name, epilogue, ta, tb, m, n, k, a, b, c, add, bias, aux] = product;
  Context::State& context = current_for<T>(name);
  if (m <= 0 || n <= 0 || k <= 0) return false;
  LtProduct p;
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(p.operation, attribute, &value, sizeof value), name);
  };
  check(cublasLtMatmulDescCreate(&p.operation, arithmetic<T>(context), CUDA_R_32F), name);
  set(CUBLASLT_MATMUL_DESC_TRANSA, tb ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, ta ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  if (aux) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, static_cast<std::int64_t>(n));
  }
  const auto layout = [&](cublasLtMatrixLayout_t& made, cudaDataType_t type, Index rows,
                          Index cols) {
    check(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(cols),
                                     static_cast<std::uint64_t>(rows), cols),
          name);
  };
  layout(p.a, type_of<T>, tb ? n : k, tb ? k : n);
  layout(p.b, type_of<T>, ta ? k : m, ta ? m : k);
  layout(p.c, type_of<C>, m, n);
  const PlanKey key{epilogue,
                    (ta ? 1 : 0) + (tb ? 2 : 0) + (add ? 4 : 0),
                    m,
                    n,
                    k,
                    type_of<T>,
                    type_of<C>,
                    alignment(a),
                    alignment(b),
                    alignment(c),
                    alignment(add),
                    alignment(bias),
                    alignment(aux),
                    add == c};
  const std::lock_guard lock(context.issue);
  Plans& plans = plans_of(context);
  auto plan = plans.find(key);
  if (plan == plans.end()) plan = plans.emplace(key, plan_of(context, p, product)).first;
  if (!plan->second.served) return false;
  const float one = 1, beta = add ? 1 : 0;
  check(cublasLtMatmul(context.blas_lt, p.operation, &one, b, p.a, a, p.b, &beta, add ? add : c,
                       p.c, c, p.c, &plan->second.algorithm, context.workspace,
                       Context::State::workspace_bytes, context.stream),
        name);
  return true;
}

/// Rows of sums rounded to bf16, and what they add up to before that.
struct NarrowRows {
  using accumulator = float;
  Index cols;
  const float* x;
  bfloat16* y;  // or null

  template <int w>
  __device__ Pack<float, w> at(Index r, Index c) const {
    const auto v = *reinterpret_cast<const Pack<float, w>*>(x + r * cols + c);
    if (y) *reinterpret_cast<Pack<bfloat16, w>*>(y + r * cols + c) = narrow<bfloat16>(v);
    return v;
  }
};

/// From the gradient dx of x = act(pre) to that of pre, in its place; x in the place of pre, where
/// it is wanted.
template <class T>
struct ActivationBackward {
  using accumulator = float;
  Activation kind;
  bool rebuild;
  Index cols;
  T *pre, *dx;

  template <int w>
  __device__ Pack<float, w> at(Index r, Index c) const {
    auto& place = *reinterpret_cast<Pack<T, w>*>(pre + r * cols + c);
    auto& gradient = *reinterpret_cast<Pack<T, w>*>(dx + r * cols + c);
    Pack<float, w> v = widen(place), d = widen(gradient);
#pragma unroll
    for (int e = 0; e < w; ++e) {
      d.v[e] *= activation_slope(kind, v.v[e]);
      if (rebuild) v.v[e] = activate(kind, v.v[e]);
    }
    gradient = narrow<T>(d);
    if (rebuild) place = narrow<T>(v);
    return d;
  }
};

/// The sums of the columns of x, in a pass of their own.
template <class T, class Sum>
void sum_columns(Index rows, Index cols, const T* x, const Sum& sum) {
  if (!sum.holds) Elementwise::fill(cols, accumulator_of<T>(0), sum.to);
  Rows::column_sum(rows, cols, x, sum.to);
}

/// Calls f(where) with the place of a new sum, and adds that to what the sum holds.
template <class Sum, class F>
bool sum_anew(Context::State& context, Index n, const Sum& sum, F f) {
  if (!sum.holds) return f(sum.to);
  const Scratch<std::remove_pointer_t<decltype(sum.to)>> fresh(context, n);
  if (!f(fresh.data())) return false;
  Elementwise::add(n, fresh.data(), sum.to, sum.to);
  return true;
}

/// The gradient of x, or of pre, whose place x takes then where `rebuild`.
template <class T, class Y>
void input_gradient(const LinearGradients<T, Y>& a, const T* dy, bool rebuild) {
  constexpr const char* name = "linear_backward";
  Context::State& context = current();
  // The library's GELU is the tanh form, no other. Its sums have the scalar of dx: in bf16 they are
  // left to the pass below. Rows of `pre` come in multiples of 16 bytes.
  if (a.pre && a.activation == Activation::gelu_tanh && a.in % 8 == 0) {
    const auto product = [&](cublasLtEpilogue_t epilogue, const T* sums) {
      return matmul<T, T>({name, epilogue, false, false, a.rows, a.in, a.out, dy, a.weight, a.dx,
                           nullptr, sums, a.pre});
    };
    bool served = false;
    if (!a.dx_sum.to)
      served = product(CUBLASLT_EPILOGUE_DGELU, nullptr);
    else if constexpr (std::is_same_v<T, float>)
      served = sum_anew(context, a.in, a.dx_sum,
                        [&](float* to) { return product(CUBLASLT_EPILOGUE_DGELU_BGRAD, to); });
    if (served) {
      if (rebuild) Elementwise::activation(a.activation, a.rows * a.in, a.pre, a.pre);
      return;
    }
  }
  Products::gemm<T, T>(false, false, a.rows, a.in, a.out, 1, dy, a.out, a.weight, a.in, 0, a.dx,
                       a.in);
  if (a.pre)
    by_packs<T>(a.in, {a.pre, a.dx}, [&]<class P>(P, Index) {
      column_pass<P::size>(a.rows, a.in, name,
                           ActivationBackward<T>{a.activation, rebuild, a.in, a.pre, a.dx},
                           a.dx_sum.to, a.dx_sum.holds);
    });
  else if (a.dx_sum.to)
    sum_columns(a.rows, a.in, a.dx, a.dx_sum);
}

/// The gradient of the weight; with `sums` that of the bias too, which the library adds up in
/// float while it reads dy.
template <class T, class Y>
void weight_gradient(const LinearGradients<T, Y>& a, const T* dy, bool sums) {
  constexpr const char* name = "linear_backward";
  const T* const x = a.pre ? a.pre : a.x;
  float* const dw = a.dweight.to;
  const auto product = [&](float* to) {
    return matmul<T, float>({name, CUBLASLT_EPILOGUE_BGRADB, true, false, a.out, a.in, a.rows, dy,
                             x, dw, a.dweight.holds ? dw : nullptr, to});
  };
  if (sums && sum_anew(current(), a.out, a.dbias, product)) return;
  Products::gemm<T, float>(true, false, a.out, a.in, a.rows, 1, dy, a.out, x, a.in,
                           a.dweight.holds ? 1 : 0, dw, a.in);
  if (sums) sum_columns(a.rows, a.out, dy, a.dbias);
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
  if constexpr (std::is_same_v<T, double>)
    check(cublasDgemm(context.blas, opb, opa, in, im, ik, &alpha, b, ib, a, ia, &beta, c, ic),
          name);
  else
    check(cublasGemmEx(context.blas, opb, opa, in, im, ik, &alpha, b, type_of<T>, ib, a, type_of<T>,
                       ia, &beta, c, type_of<C>, ic, arithmetic<T>(context), CUBLAS_GEMM_DEFAULT),
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
  if constexpr (!std::is_same_v<T, double>)
    check(cublasGemmStridedBatchedEx(context.blas, opb, opa, in, im, ik, &alpha, b, type_of<T>, ib,
                                     next_b, a, type_of<T>, ia, next_a, &beta, c, type_of<C>, ic,
                                     next_c, count, arithmetic<T>(context), CUBLAS_GEMM_DEFAULT),
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
  const bool
      plain = a.activation == Activation::identity && !a.pre,
      // The library's GELU is the tanh form. It wants rows of `pre` in multiples of 16 bytes.
      fused = a.activation == Activation::gelu_tanh && a.pre && a.out % 8 == 0 && !a.residual;
  const auto product = [&](cublasLtEpilogue_t epilogue, const Y* bias, Y* pre, Y* y) {
    return matmul<T, Y>({"linear", epilogue, false, true, a.rows, a.out, a.in, a.x, a.weight, y,
                         a.residual, bias, pre});
  };
  if constexpr (std::is_same_v<Y, float>) {
    if (plain) return product(CUBLASLT_EPILOGUE_BIAS, a.bias, nullptr, a.y);
    if (fused) return product(CUBLASLT_EPILOGUE_GELU_AUX_BIAS, a.bias, a.pre, a.y);
  } else if constexpr (std::is_same_v<Y, bfloat16>) {
    if (a.residual) return false;  // streams are wide
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

template <class T, class Y>
bool Products::linear_backward(const LinearGradients<T, Y>& a) {
  if constexpr (std::is_same_v<T, double>) {
    return false;
  } else {
    constexpr const char* name = "linear_backward";
    Context::State& context = current_for<T>(name);
    if (a.rows <= 0 || a.out <= 0 || a.in <= 0) return false;
    const bool multiplied = a.dweight.to || a.dx;
    bool sums = a.dbias.to != nullptr;
    const T* dy;
    const Scratch<T> narrowed(context, !std::is_same_v<T, Y> && multiplied ? a.rows * a.out : 0);
    if constexpr (std::is_same_v<T, Y>) {
      dy = a.dy;
    } else {  // the sums before they are rounded, in the pass that rounds
      T* const half = multiplied ? narrowed.data() : nullptr;
      by_packs<T>(a.out, {a.dy, half}, [&]<class P>(P, Index) {
        column_pass<P::size>(a.rows, a.out, name, NarrowRows{a.out, a.dy, half}, a.dbias.to,
                             a.dbias.holds);
      });
      dy = half;
      sums = false;
    }
    if (a.dx)
      input_gradient(a, dy, a.dweight.to != nullptr);
    else if (a.pre && a.dweight.to)
      Elementwise::activation(a.activation, a.rows * a.in, a.pre, a.pre);
    if (a.dweight.to)
      weight_gradient(a, dy, sums);
    else if (sums)
      sum_columns(a.rows, a.out, dy, a.dbias);
    return true;
  }
}

#define HYBRIDMED_INSTANTIATE(T, C)                                                          \
  template void Products::gemm(bool, bool, Index, Index, Index, accumulator_of<T>, const T*, \
                               Index, const T*, Index, accumulator_of<T>, C*, Index);        \
  template bool Products::linear(const LinearArgs<T, C>&);                                   \
  template bool Products::linear_backward(const LinearGradients<T, C>&);
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
