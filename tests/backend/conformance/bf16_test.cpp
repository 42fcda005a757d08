// bf16 on the host backends, element by element and by rows: every result is the exact one, rounded
// once, and what is summed up is summed in float or better.
#include "backend/bf16_conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

#define HOST_BACKENDS Reference, CpuBackend

static_assert(Backend<Reference, bfloat16> && Backend<CpuBackend, bfloat16>);
static_assert(BackendFusedAddNorm<Reference, bfloat16> &&
              BackendFusedAddNorm<CpuBackend, bfloat16>);

namespace {

using Of = Output::Of;
const std::vector<Index> some_lengths{0, 1, 3, 197, 32768, 32769, 70001};
const std::vector<std::pair<Index, Index>> some_matrices{
    {0, 3}, {1, 65}, {17, 3}, {3, 17}, {5, 257}, {65, 197}, {1025, 17}, {3, 33000}};

const double inf = std::numeric_limits<double>::infinity(),
             nan = std::numeric_limits<double>::quiet_NaN();
const double top = static_cast<float>(std::bit_cast<bfloat16>(std::uint16_t{0x7F7F})),
             tiny = static_cast<float>(std::bit_cast<bfloat16>(std::uint16_t{0x0001}));
/// Every pair of these, in turn.
const Doubles specials{0, -0.0, 1, -1, 1.5, -3, inf, -inf, nan, top, -top, tiny, -tiny, 100, -100};
Doubles first_of_pairs(std::size_t n) {
  Doubles x;
  for (std::size_t i = 0; i < n; ++i) x.push_back(specials[i % specials.size()]);
  return x;
}
Doubles second_of_pairs(std::size_t n) {
  Doubles x;
  for (std::size_t i = 0; i < n; ++i) x.push_back(specials[i / specials.size() % specials.size()]);
  return x;
}
template <class T>
T nearest(double x) {
  return T(static_cast<float>(x));
}

}  // namespace

TEST_CASE_TEMPLATE("bf16: convert", B, HOST_BACKENDS) {
  // Every bf16 number, to float and back.
  std::vector<bfloat16> all(65536), back(65536);
  std::vector<float> wide(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
  B::convert(65536, all.data(), wide.data());
  B::convert(65536, wide.data(), back.data());
  int bad = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    bad += std::bit_cast<std::uint32_t>(wide[i]) != static_cast<std::uint32_t>(i) << 16;
    const bool signalling = std::isnan(wide[i]) && (i & 0x40) == 0;
    bad += back[i].bits != (signalling ? i | 0x40 : i);
  }
  CHECK(bad == 0);
  // Floats around every boundary between two of them: to the nearest, ties to even.
  int wrong = 0;
  for (std::uint32_t i = 0; i < 0x7F80; i += 7)
    for (std::uint32_t low : {0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const float x = std::bit_cast<float>(i << 16 | low);
      bfloat16 y;
      B::convert(1, &x, &y);
      wrong += y.bits != i + (low > 0x8000u || (low == 0x8000u && i % 2 == 1) ? 1 : 0);
    }
  CHECK(wrong == 0);
  B::convert(0, static_cast<const float*>(nullptr), static_cast<bfloat16*>(nullptr));
}

TEST_CASE_TEMPLATE("bf16: what moves values moves bits", B, HOST_BACKENDS) {
  for (Index n : some_lengths) {
    const auto x = halves(n, 1);
    check<B>("fill", {Output::exact(nothing(n))},
             [&]<class P>(P& p) { P::B::fill(n, typename P::T(1.5f), p.y(0)); });
    check<B>("copy", {Output::exact(nothing(n))},
             [&]<class P>(P& p) { P::B::copy(n, p.x(x), p.y(0)); });
  }
  for (auto [rows, cols] : some_matrices) {
    const Index r = rows, n = cols;
    const auto x = halves(r * n, 1);
    std::vector<std::int32_t> index;
    for (Index i = 0; i < 2 * r; ++i)
      index.push_back(static_cast<std::int32_t>(i % 5 == 4 ? -1 : (7 * i + 3) % r));
    check<B>("gather_rows", {Output::exact(nothing(2 * r * n))},
             [&]<class P>(P& p) { P::B::gather_rows(2 * r, n, p.x(x), index.data(), p.y(0)); });
    check<B>("transpose", {Output::exact(nothing(r * n))},
             [&]<class P>(P& p) { P::B::transpose(1, r, n, p.x(x), p.y(0)); });
  }
  const auto image = halves(2 * 3 * 30 * 30, 1);
  check<B>("patchify", {Output::exact(nothing(2 * 3 * 30 * 30))},
           [&]<class P>(P& p) { P::B::patchify(2, 3, 30, 5, p.x(image), p.y(0)); });
}

TEST_CASE_TEMPLATE("bf16: element-wise arithmetic, apart and in place", B, HOST_BACKENDS) {
  for (Index n : some_lengths) {
    const auto a = halves(n, 1), b = halves(n, 2, 3), alpha = halves(1, 3);
    const double f = static_cast<float>(-0.7);
    const std::vector<Output> apart{Output::exact(nothing(n))}, on_a{Output::exact(a)},
        on_b{Output::exact(b)};
    INFO("length " << n);
    check<B>("add", apart, [&]<class P>(P& p) { P::B::add(n, p.x(a), p.x(b), p.y(0)); });
    check<B>("add onto a", on_a, [&]<class P>(P& p) { P::B::add(n, p.y(0), p.x(b), p.y(0)); });
    check<B>("add onto b", on_b, [&]<class P>(P& p) { P::B::add(n, p.x(a), p.y(0), p.y(0)); });
    check<B>("add to itself", on_a, [&]<class P>(P& p) { P::B::add(n, p.y(0), p.y(0), p.y(0)); });
    check<B>("multiply", apart, [&]<class P>(P& p) { P::B::multiply(n, p.x(a), p.x(b), p.y(0)); });
    check<B>("multiply onto b", on_b,
             [&]<class P>(P& p) { P::B::multiply(n, p.x(a), p.y(0), p.y(0)); });
    check<B>("divide", apart, [&]<class P>(P& p) { P::B::divide(n, p.x(a), p.x(b), p.y(0)); });
    check<B>("divide onto b", on_b,
             [&]<class P>(P& p) { P::B::divide(n, p.x(a), p.y(0), p.y(0)); });
    check<B>("scale", apart, [&]<class P>(P& p) { P::B::scale(n, p.factor(f), p.x(a), p.y(0)); });
    check<B>("scale in place", on_a,
             [&]<class P>(P& p) { P::B::scale(n, p.factor(f), p.y(0), p.y(0)); });
    check<B>("scale_by", apart,
             [&]<class P>(P& p) { P::B::scale_by(n, p.x(alpha), p.x(a), p.y(0)); });
    check<B>("scale_by in place", on_a,
             [&]<class P>(P& p) { P::B::scale_by(n, p.x(alpha), p.y(0), p.y(0)); });
    check<B>("axpy", {Output::sum(b)},
             [&]<class P>(P& p) { P::B::axpy(n, p.factor(f), p.x(a), p.sum(0)); });
    check<B>("axpy by 0", {Output::sum(b, 0)},
             [&]<class P>(P& p) { P::B::axpy(n, p.factor(0), p.x(a), p.sum(0)); });
    check<B>("exponential", {{nothing(n), 1e-6, Of::own}},
             [&]<class P>(P& p) { P::B::exponential(n, p.x(b), p.y(0)); });
    auto positive = b;
    for (double& x : positive) x = std::abs(x) + tiny;
    positive = rounded(positive);
    check<B>("logarithm", {{nothing(n), 1e-6, Of::own}},
             [&]<class P>(P& p) { P::B::logarithm(n, p.x(positive), p.y(0)); });
    check<B>("dot", {Output::sum({3})},
             [&]<class P>(P& p) { P::B::dot(n, p.factor(f), p.x(a), p.x(b), p.sum(0)); });
    check<B>("sum in float", {Output::sum({3})}, [&]<class P>(P& p) {
      P::B::sum(n, static_cast<double>(p.factor(f)), p.x(a), p.sum(0));
    });
    check<B>("sum", {{{3}}}, [&]<class P>(P& p) {
      P::B::sum(n, static_cast<double>(p.factor(f)), p.x(a), p.y(0));
    });
  }
}

TEST_CASE_TEMPLATE("bf16: activations", B, HOST_BACKENDS) {
  for (Activation act :
       {Activation::identity, Activation::relu, Activation::gelu, Activation::gelu_tanh})
    for (Index n : some_lengths)
      for (double size : {0.01, 1.0, 30.0}) {
        INFO("activation " << static_cast<int>(act) << ", length " << n << ", size " << size);
        const auto x = halves(n, 1, size), dy = halves(n, 2);
        const bool exact = act == Activation::identity || act == Activation::relu;
        // gelu is exact to an error of x, as in float
        const auto into = [&](const Doubles& before) {
          return std::vector{exact ? Output::exact(before) : Output{before}};
        };
        check<B>("apart", into(nothing(n)),
                 [&]<class P>(P& p) { P::B::activation(act, n, p.x(x), p.y(0)); });
        check<B>("in place", into(x),
                 [&]<class P>(P& p) { P::B::activation(act, n, p.y(0), p.y(0)); });
        check<B>("backward", into(nothing(n)), [&]<class P>(P& p) {
          P::B::activation_backward(act, n, p.x(x), p.x(dy), p.y(0));
        });
        check<B>("backward onto dy", into(dy),
                 [&]<class P>(P& p) { P::B::activation_backward(act, n, p.x(x), p.y(0), p.y(0)); });
      }
}

TEST_CASE_TEMPLATE("bf16: what is not finite, or too large, or tiny, comes out as in float", B,
                   HOST_BACKENDS) {
  const std::size_t size = specials.size() * specials.size();
  const auto n = static_cast<Index>(size);
  const auto a = first_of_pairs(size), b = second_of_pairs(size);
  const std::vector<Output> exact{Output::exact(nothing(n))};
  const auto same = [&](const char* what, const std::vector<Output>& outputs, auto&& kernel) {
    check_against<B, B, float>(what, outputs, kernel);
  };
  same("add", exact, [&]<class P>(P& p) { P::B::add(n, p.x(a), p.x(b), p.y(0)); });
  same("multiply", exact, [&]<class P>(P& p) { P::B::multiply(n, p.x(a), p.x(b), p.y(0)); });
  same("divide", exact, [&]<class P>(P& p) { P::B::divide(n, p.x(a), p.x(b), p.y(0)); });
  same("exponential", exact, [&]<class P>(P& p) { P::B::exponential(n, p.x(a), p.y(0)); });
  same("logarithm", exact, [&]<class P>(P& p) { P::B::logarithm(n, p.x(a), p.y(0)); });
  same("axpy", {Output::sum(b, 0)},
       [&]<class P>(P& p) { P::B::axpy(n, p.factor(1), p.x(a), p.sum(0)); });
  for (double f : specials) {
    const Doubles one{f};
    same("scale", exact,
         [&]<class P>(P& p) { P::B::scale(n, static_cast<typename P::A>(f), p.x(a), p.y(0)); });
    same("scale_by", exact, [&]<class P>(P& p) { P::B::scale_by(n, p.x(one), p.x(a), p.y(0)); });
    const Doubles last{1, 2, f};
    same("sum", {Output::exact({1})}, [&]<class P>(P& p) { P::B::sum(3, 1, p.x(last), p.y(0)); });
    same("dot", {Output::sum({1}, 0)},
         [&]<class P>(P& p) { P::B::dot(3, p.factor(1), p.x(last), p.x(last), p.sum(0)); });
    same("column_sum", {Output::sum({1, 1}, 0)},
         [&]<class P>(P& p) { P::B::column_sum(3, 1, p.x(last), p.sum(0)); });
    const Doubles columns{1, f, 2, 3};
    same("gemm", {Output::exact(nothing(4))}, [&]<class P>(P& p) {
      P::B::gemm(false, false, 2, 2, 2, p.factor(1), p.x(columns), 2, p.x(columns), 2, p.factor(0),
                 p.y(0), 2);
    });
    const Doubles v{f, 1, 2, 3};
    same("layer_norm",
         {Output::exact(nothing(4)), Output::sum(nothing(1), 0), Output::sum(nothing(1), 0)},
         [&]<class P>(P& p) {
           P::B::layer_norm(1, 4, p.x(v), p.wide({1, 1, 1, 1}), p.wide({0, 0, 0, 0}), 1e-5, p.y(0),
                            p.sum(1), p.sum(2));
         });
    same("normalize_rows", {Output::exact(nothing(4)), Output::sum(nothing(1), 0)},
         [&]<class P>(P& p) { P::B::normalize_rows(1, 4, p.x(v), p.y(0), p.sum(1)); });
    std::vector<std::int32_t> where(1);
    const ConvShape s{1, 2, 2, 1, 1, 2, 2, 0};
    same("max_pool", {Output::exact(nothing(1))},
         [&]<class P>(P& p) { P::B::max_pool(s, p.x(v), p.y(0), where.data()); });
    const std::int32_t to[] = {1, 1, -1, 0};
    same("scatter_add_rows", {Output::sum({1, 2}, 0)},
         [&]<class P>(P& p) { P::B::scatter_add_rows(4, 1, p.x(v), to, p.sum(0)); });
  }
  for (Activation act :
       {Activation::identity, Activation::relu, Activation::gelu, Activation::gelu_tanh}) {
    same("activation", exact, [&]<class P>(P& p) { P::B::activation(act, n, p.x(a), p.y(0)); });
    same("activation_backward", exact,
         [&]<class P>(P& p) { P::B::activation_backward(act, n, p.x(a), p.x(b), p.y(0)); });
  }
}

TEST_CASE_TEMPLATE("bf16: sums over rows, rows that are mixed, added up and normalised", B,
                   HOST_BACKENDS) {
  for (auto [rows, cols] : some_matrices) {
    const Index r = rows, n = cols;
    INFO(r << " x " << n);
    const auto x = halves(r * n, 1), dy = halves(2 * r * n, 3);
    const auto v = floats(n, 2);
    check<B>("add_vector", {Output::exact(nothing(r * n))},
             [&]<class P>(P& p) { P::B::add_vector(r, n, p.x(x), p.wide(v), p.y(0)); });
    check<B>("add_vector in place", {Output::exact(x)},
             [&]<class P>(P& p) { P::B::add_vector(r, n, p.y(0), p.wide(v), p.y(0)); });
    check<B>("column_sum", {Output::sum(v)},
             [&]<class P>(P& p) { P::B::column_sum(r, n, p.x(x), p.sum(0)); });
    std::vector<std::int32_t> index;  // repeated, descending, absent; the last row is never named
    for (Index i = 0; i < 2 * r; ++i)
      index.push_back(static_cast<std::int32_t>(i % 5 == 4 ? -1 : (7 * i + 3) % r));
    check<B>("scatter_add_rows", {Output::sum(halves((r + 1) * n, 4))}, [&]<class P>(P& p) {
      P::B::scatter_add_rows(2 * r, n, p.x(dy), index.data(), p.sum(0));
    });
    const std::vector<std::int32_t> none(static_cast<std::size_t>(r), -1);
    check<B>("scatter_add_rows to nowhere", {Output::sum(x, 0)},
             [&]<class P>(P& p) { P::B::scatter_add_rows(r, n, p.x(dy), none.data(), p.sum(0)); });
    auto some = x;  // with a row of zeros
    if (r > 1) std::fill_n(some.begin(), n, 0.0);
    check<B>("normalize_rows", {{nothing(r * n), 1e-6, Of::own}, Output::sum(nothing(r), 1e-6)},
             [&]<class P>(P& p) { P::B::normalize_rows(r, n, p.x(some), p.y(0), p.sum(1)); });
    Doubles y(some.size()), norm(static_cast<std::size_t>(r));
    Reference::normalize_rows(r, n, some.data(), y.data(), norm.data());
    y = rounded(y);
    for (double& s : norm) s = static_cast<float>(s);
    check<B>("normalize_rows_backward", {{nothing(r * n), 1e-6, Of::largest}}, [&]<class P>(P& p) {
      P::B::normalize_rows_backward(r, n, p.x(y), p.wide(norm), p.x(dy), p.y(0));
    });
  }
  struct Case {
    Index batch, outputs, inputs, cols;
  };
  for (const auto& c : {Case{0, 3, 5, 2}, Case{1, 1, 1, 1}, Case{3, 1, 65, 17},
                        Case{5, 65, 17, 197}, Case{2, 3, 5, 0}}) {
    std::vector<std::int32_t> start{0}, column;
    for (Index o = 0; o < c.outputs; ++o) {
      for (Index i = 0; i < c.inputs; ++i)
        if (o != 1 && (o + i) % 3 != 1) column.push_back(static_cast<std::int32_t>(i));
      start.push_back(static_cast<std::int32_t>(column.size()));
    }
    const auto weight = floats(static_cast<Index>(column.size()), 1),
               x = halves(c.batch * c.inputs * c.cols, 2);
    check<B>("mix_rows", {{nothing(c.batch * c.outputs * c.cols)}}, [&]<class P>(P& p) {
      P::B::mix_rows(c.batch, c.outputs, c.inputs, c.cols, start.data(), column.data(),
                     p.wide(weight), p.x(x), p.y(0));
    });
  }
}

TEST_CASE_TEMPLATE("bf16: a sum of many ones does not stick where bf16 has no next number", B,
                   HOST_BACKENDS) {
  using T = bfloat16;
  const Index n = 10000;  // 256 + 1 is 256 in bf16
  const std::vector<T> ones(10000, T(1.0f));
  const std::vector<float> floats_of_one(10000, 1.0f);
  const std::vector<std::int32_t> same(10000, 1);
  std::vector<float> wide(3, 3.0f);
  B::scatter_add_rows(n, 1, ones.data(), same.data(), wide.data());
  CHECK(wide == std::vector<float>{3, 10003, 3});
  std::vector<T> y(3, T(3.0f));
  B::max_pool_backward(n, ones.data(), same.data(), y.data());
  CHECK(y[1].bits == T(10003.0f).bits);
  CHECK((y[0].bits == T(3.0f).bits && y[2].bits == T(3.0f).bits));
  y[0] = T(3.0f);
  B::sum(n, 1, ones.data(), y.data());
  CHECK(y[0].bits == T(10003.0f).bits);
  B::dot(n, 1, ones.data(), ones.data(), wide.data());
  CHECK(wide[0] == 10003);
  B::sum(n, 1, ones.data(), wide.data());
  CHECK(wide[0] == 20003);
  for (int k = 0; k < 1000; ++k) B::axpy(1, 1, ones.data(), wide.data());
  CHECK(wide[0] == 21003);

  float sum = 3;
  B::column_sum(n, 1, ones.data(), &sum);
  CHECK(sum == 10003);
  std::vector<T> c(1, T(3.0f));
  B::gemm(false, false, 1, 1, n, 1, ones.data(), n, ones.data(), 1, 1, c.data(), 1);
  CHECK(c[0].bits == T(10003.0f).bits);
  sum = 3;
  B::gemm(true, false, 1, 1, n, 1, ones.data(), 1, ones.data(), 1, 1, &sum, 1);
  CHECK(sum == 10003);
  const std::vector<std::int32_t> start{0, 10000};
  std::vector<std::int32_t> column(10000);
  for (std::size_t i = 0; i < column.size(); ++i) column[i] = static_cast<std::int32_t>(i);
  B::mix_rows(1, 1, n, 1, start.data(), column.data(), floats_of_one.data(), ones.data(), c.data());
  CHECK(c[0].bits == T(10000.0f).bits);
  float dgain = 3, dbias = 3;
  const std::vector<float> zeros(10000, 0.0f);
  B::layer_norm_backward(n, 1, floats_of_one.data(), floats_of_one.data(), zeros.data(),
                         floats_of_one.data(), ones.data(), static_cast<float*>(nullptr), &dgain,
                         &dbias);
  CHECK((dgain == 10003 && dbias == 10003));
  dgain = dbias = 3;
  B::layer_norm_backward(n, 1, ones.data(), floats_of_one.data(), zeros.data(),
                         floats_of_one.data(), ones.data(), static_cast<T*>(nullptr), &dgain,
                         &dbias);
  CHECK((dgain == 10003 && dbias == 10003));
  dgain = dbias = 3;
  B::batch_norm_backward(n, 1, ones.data(), zeros.data(), floats_of_one.data(),
                         floats_of_one.data(), ones.data(), true, static_cast<T*>(nullptr), &dgain,
                         &dbias);
  CHECK((dgain == 10003 && dbias == 10003));
  float mean = 0, var = 0;
  B::column_moments(n, 1, ones.data(), &mean, &var);
  CHECK((mean == 1 && var == 0));
  const ConvShape s{1, 100, 100, 1, 1, 1, 1, 0};
  float dw = 3;
  B::conv2d_backward_weight(s, ones.data(), ones.data(), &dw);
  CHECK(dw == 10003);
}

TEST_CASE_TEMPLATE("bf16: kernels over nothing take null pointers", B, HOST_BACKENDS) {
  const bfloat16* x = nullptr;
  bfloat16* y = nullptr;
  const float* v = nullptr;
  float* sum = nullptr;
  const std::int32_t* index = nullptr;
  B::add(0, x, x, y);
  B::axpy(0, 1, x, sum);
  B::activation_backward(Activation::gelu, 0, x, x, y);
  const std::vector<bfloat16> some(15);
  B::gemm(false, false, 0, 3, 5, 1, x, 5, some.data(), 3, 0, y, 3);
  B::gemm(false, true, 0, 0, 0, 1, x, 1, x, 1, 0, sum, 1);
  B::add_vector(0, 3, x, v, y);
  B::column_sum(0, 0, x, sum);
  B::layer_norm(0, 3, x, v, v, 1e-5, y, sum, sum);
  B::layer_norm(0, 3, v, v, v, 1e-5, y, sum, sum);
  B::layer_norm_backward(0, 3, x, v, v, v, x, y, sum, sum);
  B::scatter_add_rows(0, 3, x, index, sum);
  B::mix_rows(0, 0, 0, 3, index, index, v, x, y);
  B::normalize_rows(0, 3, x, y, sum);
  B::max_pool_backward(0, x, index, y);
  B::attention(AttentionArgs<bfloat16>{});
  B::attention_backward(AttentionArgs<bfloat16>{}, AttentionGradients<bfloat16>{});
  float three[] = {1, 2, 3};
  B::column_sum(0, 3, x, three);
  CHECK((three[0] == 1 && three[1] == 2 && three[2] == 3));
}
