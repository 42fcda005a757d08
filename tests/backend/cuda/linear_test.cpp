// Linear layers on CUDA: the residual sum and the gradients, in the passes that serve them, against
// plain loops in double; how floats are multiplied; plans.
#include <cublasLt.h>
#include <dlfcn.h>

#include "conformance.hpp"
#include "hybridmed/autograd/feed_forward.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using Half = bfloat16;

/// cuBLASLt's heuristics, which may be made to serve nothing.
bool nothing_served = false;
long asked = 0;

static_assert(BackendLinearGradients<Cuda, float> && BackendLinearGradients<Cuda, Half> &&
              BackendLinearGradients<Cuda, Half, float>);

/// The numbers as T has them.
template <class T>
Values held(Values x) {
  for (double& v : x)
    if constexpr (std::is_same_v<T, Half>)
      v = Half(static_cast<float>(v));
    else
      v = static_cast<T>(v);
  return x;
}

struct Extents {
  Index rows, in, out;
};
// One element; whole packs; odd; several tiles of rows, more columns than a strip has.
constexpr Extents all_extents[] = {
    {1, 1, 1}, {5, 16, 8}, {33, 7, 24}, {300, 24, 3}, {130, 264, 16}};

/// What a call is asked for.
struct Wanted {
  bool dx, dx_sum, dweight, dbias;
};
constexpr Wanted all_wanted[] = {{true, true, true, true},    {true, false, true, true},
                                 {true, false, false, false}, {true, true, false, true},
                                 {false, false, true, true},  {false, false, false, true},
                                 {false, false, true, false}};

/// The gradients as the reference makes them, and as T and Y on B do.
struct Gradients {
  Values dx, dx_sum, dweight, dbias;
};
template <class T, class Y, class B>
Gradients gradients(const Extents& e, Wanted want, bool activated, Activation act, bool holds) {
  using A = accumulator_of<T>;
  const auto given = [&]<class S>(S, Index n, std::uint64_t seed, Shape shape) {
    return tensor<S, B>(held<S>(normal(n, seed)), shape);
  };
  const Tensor<Y, B> dy = given(Y(), e.rows * e.out, 1, {e.rows, e.out});
  const Tensor<T, B> weight = given(T(), e.out * e.in, 2, {e.out, e.in});
  const Tensor<T, B> x = given(T(), e.rows * e.in, 3, {e.rows, e.in});
  const Tensor<T, B> dx({e.rows, e.in});
  B::fill(dx.size(), static_cast<T>(std::nanf("")), dx.data());
  // What a sum has not got must not be read.
  const auto start = [&](Index n, std::uint64_t seed) {
    return holds ? given(A(), n, seed, {n}) : tensor<A, B>(garbage(n), {n});
  };
  const Tensor<A, B> dweight = start(e.out * e.in, 4), dbias = start(e.out, 5),
                     dx_sum = start(e.in, 6);
  LinearGradients<T, Y> a{e.rows, e.in, e.out, dy.data(), weight.data()};
  (activated ? a.pre : const_cast<T*&>(a.x)) = x.data();
  a.activation = act;
  if (want.dweight) a.dweight = {dweight.data(), holds};
  if (want.dbias) a.dbias = {dbias.data(), holds};
  if (want.dx) a.dx = dx.data();
  if (want.dx_sum) a.dx_sum = {dx_sum.data(), holds};
  hybridmed::detail::run_linear_backward<B>(a);
  return {want.dx ? values(dx) : Values(), want.dx_sum ? values(dx_sum) : Values(),
          want.dweight ? values(dweight) : Values(), want.dbias ? values(dbias) : Values()};
}

/// The largest difference, in units of the largest number there.
double off(const Values& got, const Values& want) {
  REQUIRE(got.size() == want.size());
  return got.empty() ? 0 : difference(got, want) / std::max(1.0, largest(want));
}

template <class T, class Y>
void check_gradients(double sums, double products) {
  for (const Extents& e : all_extents)
    for (const Wanted& want : all_wanted)
      for (bool holds : {false, true})
        for (int kind = -1; kind < 4; ++kind) {
          const auto act = static_cast<Activation>(std::max(kind, 0));
          if (want.dx_sum && kind < 0) continue;  // of a layer behind an activation
          CAPTURE(sizes({e.rows, e.in, e.out}));
          CAPTURE(kind);
          CAPTURE(holds);
          CAPTURE(want.dx);
          CAPTURE(want.dweight);
          const auto got = gradients<T, Y, Cuda>(e, want, kind >= 0, act, holds);
          // The same numbers, in double throughout.
          const auto exact = [&] {
            if constexpr (std::is_same_v<T, Half>) {
              using D = Reference;
              const auto all = [&](Index n, std::uint64_t seed, auto scalar) {
                return tensor<double, D>(held<decltype(scalar)>(normal(n, seed)), {n});
              };
              const auto dy = all(e.rows * e.out, 1, Y()), w = all(e.out * e.in, 2, T()),
                         x = all(e.rows * e.in, 3, T());
              const auto start = [&](Index n, std::uint64_t seed) {
                return tensor<double, D>(held<float>(normal(n, seed)), {n});
              };
              const auto dw = start(e.out * e.in, 4), db = start(e.out, 5), ds = start(e.in, 6);
              Tensor<double, D> dx({e.rows * e.in});
              LinearGradients<double> a{e.rows, e.in, e.out, dy.data(), w.data()};
              (kind >= 0 ? a.pre : const_cast<double*&>(a.x)) = x.data();
              a.activation = act;
              a.dweight = {dw.data(), holds};
              a.dbias = {db.data(), holds};
              a.dx = dx.data();
              a.dx_sum = {ds.data(), holds};
              hybridmed::detail::run_linear_backward<D>(a);
              return Gradients{want.dx ? values(dx) : Values(), want.dx_sum ? values(ds) : Values(),
                               want.dweight ? values(dw) : Values(),
                               want.dbias ? values(db) : Values()};
            } else {
              return gradients<T, Y, Reference>(e, want, kind >= 0, act, holds);
            }
          }();
          CHECK(off(got.dbias, exact.dbias) <= sums);
          CHECK(off(got.dx_sum, exact.dx_sum) <= products);
          CHECK(off(got.dx, exact.dx) <= products);
          CHECK(off(got.dweight, exact.dweight) <= products);
        }
}

}  // namespace

extern "C" cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference, int most, cublasLtMatmulHeuristicResult_t* results,
    int* found) {
  static const auto next = reinterpret_cast<decltype(&cublasLtMatmulAlgoGetHeuristic)>(
      dlsym(RTLD_NEXT, "cublasLtMatmulAlgoGetHeuristic"));
  ++asked;
  if (nothing_served) return CUBLAS_STATUS_NOT_SUPPORTED;
  return next(handle, product, a, b, c, d, preference, most, results, found);
}

TEST_CASE("gradients of a linear layer: double") { check_gradients<double, double>(1e-12, 1e-12); }
TEST_CASE("gradients of a linear layer: float") { check_gradients<float, float>(2e-5, 2e-5); }
TEST_CASE("gradients of a linear layer: bf16") {
  // Sums of a bias are those of what comes in, unrounded; the rest is made of bf16.
  check_gradients<Half, Half>(2e-5, 0x1p-7);
}
TEST_CASE("gradients of a linear layer: bf16, of a wide result") {
  check_gradients<Half, float>(2e-5, 0x1p-7);
}

TEST_CASE("gradients of a linear layer without rows are zeros, or what was there") {
  for (bool holds : {false, true}) {
    const auto g =
        gradients<float, float, Cuda>({0, 3, 5}, all_wanted[0], true, Activation::gelu, holds);
    CHECK(g.dbias == (holds ? held<float>(normal(5, 5)) : Values(5, 0.0)));
    CHECK(g.dweight == (holds ? held<float>(normal(15, 4)) : Values(15, 0.0)));
    CHECK(g.dx_sum == (holds ? held<float>(normal(3, 6)) : Values(3, 0.0)));
  }
}

TEST_CASE("gradients of a linear layer: the same bits again, and at any address") {
  constexpr Index rows = 300, in = 64, out = 40;
  const auto at = [&](Index shift) {
    const auto given = [&]<class S>(S, Index n, std::uint64_t seed) {
      Values x(static_cast<std::size_t>(shift), 3.0);
      for (double v : normal(n, seed)) x.push_back(v);
      return tensor<S, Cuda>(held<S>(x), {shift + n});
    };
    const auto dy = given(1.f, rows * out, 1), dw = given(1.f, out * in, 4),
               db = given(1.f, out, 5), ds = given(1.f, in, 6);
    const auto w = given(Half(1.f), out * in, 2), pre = given(Half(1.f), rows * in, 3),
               dx = given(Half(1.f), rows * in, 7);
    LinearGradients<Half, float> a{rows, in, out, dy.data() + shift, w.data() + shift};
    a.pre = pre.data() + shift;
    a.activation = Activation::gelu;
    a.dweight = {dw.data() + shift, true};
    a.dbias = {db.data() + shift, true};
    a.dx = dx.data() + shift;
    a.dx_sum = {ds.data() + shift, true};
    REQUIRE(Cuda::linear_backward(a));
    Values all;
    const auto keep = [&](const Values& v) { all.insert(all.end(), v.begin() + shift, v.end()); };
    keep(values(dx));
    keep(values(db));
    keep(values(ds));
    keep(values(dw));
    return all;
  };
  const Values want = at(0);
  for (Index shift : {0, 1, 4}) CHECK(at(shift) == want);
}

TEST_CASE("gradients of a linear layer where cuBLASLt serves none of its epilogues") {
  const cuda::Context context;  // whose plans are its own
  const cuda::Use use(context);
  nothing_served = true;
  check_gradients<float, float>(2e-5, 2e-5);
  check_gradients<Half, Half>(2e-5, 0x1p-7);
  nothing_served = false;
}

TEST_CASE("plans: the heuristics are asked once for each shape of a context") {
  const cuda::Context context;
  const cuda::Use use(context);
  // Forward with bias and with a stream, the weight's gradient with and without a sum before it.
  const auto once = [](Index rows) {
    const long before = asked;
    const auto x = Tensor<float, Cuda>::full({rows, 8}, 1),
               w = Tensor<float, Cuda>::full({8, 8}, 1);
    for (bool holds : {false, true}) {
      const Tensor<float, Cuda> y({rows, 8}), dw = Tensor<float, Cuda>::zeros({8, 8}),
                                              db = Tensor<float, Cuda>::zeros({8});
      REQUIRE(Cuda::linear(LinearArgs<float>{rows, 8, 8, x.data(), w.data(), db.data(),
                                             Activation::identity, nullptr, y.data(),
                                             holds ? x.data() : nullptr}));
      LinearGradients<float> a{rows, 8, 8, y.data(), w.data(), x.data()};
      a.dweight = {dw.data(), holds};
      a.dbias = {db.data(), holds};
      REQUIRE(Cuda::linear_backward(a));
    }
    return asked - before;
  };
  CHECK(once(4) == 4);
  CHECK(once(4) == 0);
  CHECK(once(5) == 4);
  CHECK(once(4) == 0);
}

TEST_CASE("a residual stream is added within the product") {
  for (const Extents& e : all_extents) {
    CAPTURE(sizes({e.rows, e.in, e.out}));
    const auto run = [&]<class T, class B>(T, B) {
      const auto x = tensor<T, B>(held<Half>(normal(e.rows * e.in, 1)), {e.rows, e.in}),
                 w = tensor<T, B>(held<Half>(normal(e.out * e.in, 2)), {e.out, e.in});
      using A = accumulator_of<T>;
      const auto b = tensor<A, B>(held<float>(normal(e.out, 3)), {e.out}),
                 stream = tensor<A, B>(held<float>(normal(e.rows * e.out, 4)), {e.rows, e.out});
      Tensor<A, B> y({e.rows, e.out});
      const LinearArgs<T, A> a{
          e.rows,  e.in,     e.out,        x.data(), w.data(), b.data(), Activation::identity,
          nullptr, y.data(), stream.data()};
      if constexpr (std::is_same_v<B, Cuda>) CHECK(Cuda::linear(a) == !std::is_same_v<T, double>);
      if (!std::is_same_v<B, Cuda> || std::is_same_v<T, double>)
        hybridmed::detail::run_linear<B>(a);
      CHECK(values(stream) == held<float>(normal(e.rows * e.out, 4)));
      return values(y);
    };
    const Values want = run(1.0, Reference());
    CHECK(off(run(1.0, Cuda()), want) <= 1e-12);
    CHECK(off(run(1.0f, Cuda()), want) <= 1e-5);
    CHECK(off(run(Half(1.0f), Cuda()), want) <= 1e-5);
  }
  // Not served: a stream in bf16, and one behind an activation. The call is two passes then.
  const auto x = Tensor<float, Cuda>::full({8, 8}, 1);
  Tensor<float, Cuda> y({8, 8}), pre({8, 8});
  LinearArgs<float> a{
      8, 8, 8, x.data(), x.data(), x.data(), Activation::gelu_tanh, pre.data(), y.data(), x.data()};
  CHECK_FALSE(Cuda::linear(a));
  hybridmed::detail::run_linear<Cuda>(a);
  CHECK(difference(values(y), Values(64, 10)) <= 1e-5);
  const auto h = Tensor<Half, Cuda>::full({8, 8}, Half(1.0f));
  Tensor<Half, Cuda> z({8, 8});
  LinearArgs<Half> half{
      8, 8, 8, h.data(), h.data(), x.data(), Activation::identity, nullptr, z.data(), h.data()};
  CHECK_FALSE(Cuda::linear(half));
  hybridmed::detail::run_linear<Cuda>(half);
  CHECK(values(z) == Values(64, 10));
}

TEST_CASE(
    "TF32: products of floats round their factors where the context says so, and only there") {
  constexpr Index n = 24;
  const Values x = held<float>(normal(n * n, 1)), w = held<float>(normal(n * n, 2)),
               b = held<float>(normal(n, 3));
  const auto run = [&] {
    const auto cx = tensor<float, Cuda>(x, {n, n}), cw = tensor<float, Cuda>(w, {n, n}),
               cb = tensor<float, Cuda>(b, {n});
    std::vector<Values> all;
    Tensor<float, Cuda> y({n, n}), z({n, n});
    REQUIRE(Cuda::linear(LinearArgs<float>{n, n, n, cx.data(), cw.data(), cb.data(),
                                           Activation::identity, nullptr, y.data()}));
    all.push_back(values(y));
    Cuda::gemm(false, true, n, n, n, 1.f, cx.data(), n, cw.data(), n, 0.f, z.data(), n);
    all.push_back(values(z));
    Cuda::gemm_batch(1, false, true, n, n, n, 1.f, cx.data(), n, n * n, cw.data(), n, n * n, 0.f,
                     z.data(), n, n * n);
    all.push_back(values(z));
    return all;
  };
  const cuda::Context exact(0), rounded(0, cuda::FloatProducts::tf32);
  CHECK(exact.float_products() == cuda::FloatProducts::exact);
  CHECK(rounded.float_products() == cuda::FloatProducts::tf32);
  const auto in = [&](const cuda::Context& context) {
    const cuda::Use use(context);
    return run();
  };
  const auto want = run(), got = in(exact), tf32 = in(rounded);
  for (std::size_t i = 0; i < want.size(); ++i) {
    CHECK(got[i] == want[i]);
    const double d = difference(tf32[i], want[i]);
    CHECK(d > 1e-5);
    CHECK(d < 0x1p-10 * 2 * 24 * 3);
  }
  CHECK(in(rounded) == tf32);
}
