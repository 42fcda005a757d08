// bf16 element by element and by rows, on the host backends and, in a program of its own, on CUDA:
// every result is the exact one, rounded once, and what is summed up is summed in float or better.
#include "backend/bf16_conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using Of = Output::Of;
const std::vector<Index> some_lengths{0, 1, 3, 197, 32768, 32769, 70001};
const std::vector<std::pair<Index, Index>> some_matrices{
    {0, 3}, {9, 64}, {1, 65}, {17, 3}, {3, 17}, {5, 257}, {65, 197}, {1025, 17}, {3, 33000}};

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

TEST_CASE_TEMPLATE("bf16: convert", B, BF16_BACKENDS) {
  const auto wide = [](const Values<bfloat16>& x) {
    Held<bfloat16, B> in(x);
    Held<float, B> out{Values<float>(x.size())};
    B::convert(static_cast<Index>(x.size()), in.data(), out.data());
    return out.values();
  };
  const auto narrow = [](const Values<float>& x) {
    Held<float, B> in(x);
    Held<bfloat16, B> out{Values<bfloat16>(x.size())};
    B::convert(static_cast<Index>(x.size()), in.data(), out.data());
    return out.values();
  };
  // Every bf16 number, to float and back. Which NaN comes back is a backend's own matter.
  Values<bfloat16> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
  const auto floats_of_all = wide(all);
  const auto back = narrow(floats_of_all);
  int bad = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const float x = floats_of_all[i];
    bad += std::bit_cast<std::uint32_t>(x) != static_cast<std::uint32_t>(i) << 16;
    bad += std::isnan(x) ? !std::isnan(static_cast<float>(back[i])) : back[i].bits != i;
  }
  CHECK(bad == 0);
  // Floats around every boundary between two of them: to the nearest, ties to even.
  Values<float> around;
  std::vector<std::uint32_t> want;
  for (std::uint32_t i = 0; i < 0x7F80; i += 7)
    for (std::uint32_t low : {0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      around.push_back(std::bit_cast<float>(i << 16 | low));
      want.push_back(i + (low > 0x8000u || (low == 0x8000u && i % 2 == 1) ? 1 : 0));
    }
  const auto nearest_ones = narrow(around);
  int wrong = 0;
  for (std::size_t i = 0; i < want.size(); ++i) wrong += nearest_ones[i].bits != want[i];
  CHECK(wrong == 0);
  B::convert(0, static_cast<const float*>(nullptr), static_cast<bfloat16*>(nullptr));
}

TEST_CASE_TEMPLATE("bf16: what moves values moves bits", B, BF16_BACKENDS) {
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
             [&]<class P>(P& p) { P::B::gather_rows(2 * r, n, p.x(x), p.index(index), p.y(0)); });
    check<B>("transpose", {Output::exact(nothing(r * n))},
             [&]<class P>(P& p) { P::B::transpose(1, r, n, p.x(x), p.y(0)); });
  }
  const auto image = halves(2 * 3 * 30 * 30, 1);
  check<B>("patchify", {Output::exact(nothing(2 * 3 * 30 * 30))},
           [&]<class P>(P& p) { P::B::patchify(2, 3, 30, 5, p.x(image), p.y(0)); });
}

TEST_CASE_TEMPLATE("bf16: element-wise arithmetic, apart and in place", B, BF16_BACKENDS) {
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

TEST_CASE_TEMPLATE("bf16: activations", B, BF16_BACKENDS) {
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
                   BF16_BACKENDS) {
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
    const ConvShape s{1, 2, 2, 1, 1, 2, 2, 0};
    same("max_pool", {Output::exact(nothing(1))},
         [&]<class P>(P& p) { P::B::max_pool(s, p.x(v), p.y(0), p.places(1)); });
    const std::vector<std::int32_t> to{1, 1, -1, 0};
    same("scatter_add_rows", {Output::sum({1, 2}, 0)},
         [&]<class P>(P& p) { P::B::scatter_add_rows(4, 1, p.x(v), p.index(to), p.sum(0)); });
  }
  for (Activation act :
       {Activation::identity, Activation::relu, Activation::gelu, Activation::gelu_tanh}) {
    same("activation", exact, [&]<class P>(P& p) { P::B::activation(act, n, p.x(a), p.y(0)); });
    same("activation_backward", exact,
         [&]<class P>(P& p) { P::B::activation_backward(act, n, p.x(a), p.x(b), p.y(0)); });
  }
}

TEST_CASE_TEMPLATE("bf16: sums over rows, rows that are mixed, added up and normalised", B,
                   BF16_BACKENDS) {
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
      P::B::scatter_add_rows(2 * r, n, p.x(dy), p.index(index), p.sum(0));
    });
    const std::vector<std::int32_t> none(static_cast<std::size_t>(r), -1);
    check<B>("scatter_add_rows to nowhere", {Output::sum(x, 0)}, [&]<class P>(P& p) {
      P::B::scatter_add_rows(r, n, p.x(dy), p.index(none), p.sum(0));
    });
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
      P::B::mix_rows(c.batch, c.outputs, c.inputs, c.cols, p.index(start), p.index(column),
                     p.wide(weight), p.x(x), p.y(0));
    });
  }
}

TEST_CASE_TEMPLATE("bf16: a sum of many ones does not stick where bf16 has no next number", B,
                   BF16_BACKENDS) {
  const Index n = 10000;  // 256 + 1 is 256 in bf16
  const Doubles ones(10000, 1.0), zeros(10000, 0.0), three{3}, threes{3, 3, 3};
  const std::vector<std::int32_t> same(10000, 1), start{0, 10000};
  std::vector<std::int32_t> column(10000);
  for (std::size_t i = 0; i < column.size(); ++i) column[i] = static_cast<std::int32_t>(i);
  const auto narrow = [&](const char* what, const Doubles& before, const Doubles& want,
                          auto&& kernel) {
    INFO(what);
    Arguments<B, bfloat16> p({Output{before}}, false);
    kernel(p, p.y(0));
    CHECK(p.result(0) == rounded(want));
  };
  const auto wide = [&](const char* what, const Doubles& before, const Doubles& want,
                        auto&& kernel) {
    INFO(what);
    Arguments<B, bfloat16> p({Output::sum(before)}, false);
    kernel(p, p.sum(0));
    CHECK(p.result(0) == want);
  };
  wide("scatter_add_rows", threes, {3, 10003, 3},
       [&](auto& p, float* y) { B::scatter_add_rows(n, 1, p.x(ones), p.index(same), y); });
  const ConvShape windows{1, 1, 3, 1, 1, 102, 1, 100};  // 100 x 102, all over the second of 3
  narrow("max_pool_backward", threes, {3, 10203, 3}, [&](auto& p, bfloat16* y) {
    B::max_pool_backward(windows, p.x(Doubles(10200, 1.0)),
                         p.index(std::vector<std::int32_t>(10200, 1)), y);
  });
  narrow("sum", three, {10003}, [&](auto& p, auto* y) { B::sum(n, 1, p.x(ones), y); });
  wide("sum in float", three, {10003}, [&](auto& p, auto* y) { B::sum(n, 1, p.x(ones), y); });
  wide("dot", three, {10003}, [&](auto& p, auto* y) { B::dot(n, 1, p.x(ones), p.x(ones), y); });
  wide("axpy", three, {1003}, [&](auto& p, auto* y) {
    for (int k = 0; k < 1000; ++k) B::axpy(1, 1, p.x({1}), y);
  });
  wide("column_sum", three, {10003}, [&](auto& p, auto* y) { B::column_sum(n, 1, p.x(ones), y); });
  narrow("gemm", three, {10003}, [&](auto& p, auto* y) {
    B::gemm(false, false, 1, 1, n, 1, p.x(ones), n, p.x(ones), 1, 1, y, 1);
  });
  wide("gemm to float", three, {10003}, [&](auto& p, auto* y) {
    B::gemm(true, false, 1, 1, n, 1, p.x(ones), 1, p.x(ones), 1, 1, y, 1);
  });
  narrow("mix_rows", three, {10000}, [&](auto& p, auto* y) {
    B::mix_rows(1, 1, n, 1, p.index(start), p.index(column), p.wide(ones), p.x(ones), y);
  });
  wide("layer_norm_backward of a stream", {3, 3}, {10003, 10003}, [&](auto& p, auto* y) {
    B::layer_norm_backward(n, 1, p.wide(ones), p.wide(ones), p.wide(zeros), p.wide(ones), p.x(ones),
                           static_cast<float*>(nullptr), y, y + 1);
  });
  wide("layer_norm_backward of bf16", {3, 3}, {10003, 10003}, [&](auto& p, auto* y) {
    B::layer_norm_backward(n, 1, p.x(ones), p.wide(ones), p.wide(zeros), p.wide(ones), p.x(ones),
                           static_cast<bfloat16*>(nullptr), y, y + 1);
  });
  wide("batch_norm_backward", {3, 3}, {10003, 10003}, [&](auto& p, auto* y) {
    B::batch_norm_backward(n, 1, p.x(ones), p.wide(zeros), p.wide(ones), p.wide(ones), p.x(ones),
                           true, static_cast<bfloat16*>(nullptr), y, y + 1);
  });
  wide("column_moments", {3, 3}, {1, 0},
       [&](auto& p, auto* y) { B::column_moments(n, 1, p.x(ones), y, y + 1); });
  wide("conv2d_backward_weight", three, {10003}, [&](auto& p, auto* y) {
    B::conv2d_backward_weight(ConvShape{1, 100, 100, 1, 1, 1, 1, 0}, p.x(ones), p.x(ones), y);
  });
}

TEST_CASE_TEMPLATE("bf16: kernels over nothing take null pointers", B, BF16_BACKENDS) {
  const bfloat16* x = nullptr;
  bfloat16* y = nullptr;
  const float* v = nullptr;
  float* sum = nullptr;
  const std::int32_t* index = nullptr;
  B::add(0, x, x, y);
  B::axpy(0, 1, x, sum);
  B::activation_backward(Activation::gelu, 0, x, x, y);
  Held<bfloat16, B> some{Values<bfloat16>(15)};
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
  B::max_pool_backward(ConvShape{}, x, index, y);
  B::attention(AttentionArgs<bfloat16>{});
  B::attention_backward(AttentionArgs<bfloat16>{}, AttentionGradients<bfloat16>{});
  Held<float, B> three({1, 2, 3});
  B::column_sum(0, 3, x, three.data());
  CHECK(three.values() == Values<float>{1, 2, 3});
}
