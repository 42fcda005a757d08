// bf16 on the host backends: products, normalisation, convolution, pooling; and the same bits for
// every number of threads.
#include "backend/bf16_conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

#define HOST_BACKENDS Reference, CpuBackend

namespace {

using Of = Output::Of;
const std::vector<std::pair<Index, Index>> some_matrices{{0, 3},   {1, 65},   {3, 17},   {17, 3},
                                                         {5, 257}, {65, 197}, {1025, 17}};

/// Rows of `cols` numbers, `ld` apart, of which a kernel may read and write the first alone.
Doubles spread(Doubles x, Index cols, Index ld, double between) {
  for (std::size_t i = 0; i < x.size(); ++i)
    if (static_cast<Index>(i) % ld >= cols) x[i] = between;
  return x;
}

}  // namespace

TEST_CASE_TEMPLATE("bf16: gemm, to bf16 and to float", B, HOST_BACKENDS) {
  struct Case {
    Index m, n, k;
  };
  for (const auto& [mm, nn, kk] :
       {Case{0, 3, 5}, Case{3, 0, 5}, Case{3, 5, 0}, Case{1, 1, 1}, Case{17, 65, 3},
        Case{3, 65, 197}, Case{65, 1, 65}, Case{1, 197, 197}, Case{193, 513, 17}})
    for (int transposed = 0; transposed < 4; ++transposed)
      for (Index gap : {0, 3})
        for (auto [alpha_, beta_] : {std::pair{1.0, 0.0}, {-0.5, 1.0}, {1.25, 0.5}}) {
          const Index m = mm, n = nn, k = kk;
          const bool ta = transposed & 1, tb = transposed & 2;
          const double alpha = alpha_, beta = beta_;
          const Index a_cols = ta ? m : k, b_cols = tb ? k : n, lda = a_cols + gap,
                      ldb = b_cols + gap, ldc = n + gap;
          if (lda == 0 || ldb == 0 || ldc == 0) continue;  // a leading dimension is at least 1
          const double nan = std::numeric_limits<double>::quiet_NaN();
          const auto a = spread(halves((ta ? k : m) * lda, 1), a_cols, lda, nan),
                     b = spread(halves((tb ? n : k) * ldb, 2), b_cols, ldb, nan);
          // Beta 0 ignores what c held; between its rows c stays as it was.
          const auto c = spread(beta == 0 ? nothing(m * ldc) : halves(m * ldc, 3), n, ldc, 7);
          INFO(m << " x " << n << " x " << k << (ta ? " a^T" : "") << (tb ? " b^T" : "") << " gap "
                 << gap << " beta " << beta);
          check<B>("to bf16", {{c}}, [&]<class P>(P& p) {
            P::B::gemm(ta, tb, m, n, k, p.factor(alpha), p.x(a), lda, p.x(b), ldb, p.factor(beta),
                       p.y(0), ldc);
          });
          check<B>("to float", {Output::sum(c)}, [&]<class P>(P& p) {
            P::B::gemm(ta, tb, m, n, k, p.factor(alpha), p.x(a), lda, p.x(b), ldb, p.factor(beta),
                       p.sum(0), ldc);
          });
        }
}

TEST_CASE_TEMPLATE("bf16: a product is rounded once, whatever beta is", B, HOST_BACKENDS) {
  // 256 + 1 + 1 is 258, but 256 where each addition is rounded.
  const bfloat16 a[] = {bfloat16(1.0f), bfloat16(1.0f)}, one[] = {bfloat16(1.0f), bfloat16(1.0f)};
  bfloat16 c(256.0f);
  B::gemm(false, false, 1, 1, 2, 1, a, 2, one, 1, 1, &c, 1);
  CHECK(static_cast<float>(c) == 258);
  // Two quarters of an ulp make a half, and the tie goes to even.
  const bfloat16 small[] = {bfloat16(0x1p-9f), bfloat16(0x1p-9f)};
  for (auto [held, want] : {std::pair{1.0f, 1.0f}, {1 + 0x1p-7f, 1 + 0x1p-6f}}) {
    c = bfloat16(held);
    B::gemm(false, false, 1, 1, 2, 1, small, 2, one, 1, 1, &c, 1);
    CHECK(static_cast<float>(c) == want);
  }
}

TEST_CASE_TEMPLATE("bf16: layer_norm of a stream and of bf16", B, HOST_BACKENDS) {
  for (auto [rows, cols] : some_matrices) {
    const Index r = rows, n = cols;
    INFO(r << " x " << n);
    const auto stream = floats(r * n, 1, 2, 0.5), x = rounded(stream), gain = floats(n, 2, 0.3, 1),
               bias = floats(n, 3), dy = halves(r * n, 4);
    const std::vector<Output> outputs{{nothing(r * n), 1e-6, Of::largest},
                                      Output::sum(nothing(r), 1e-6, Of::largest),
                                      Output::sum(nothing(r), 1e-6, Of::largest)};
    check<B>("of a stream", outputs, [&]<class P>(P& p) {
      P::B::layer_norm(r, n, p.wide(stream), p.wide(gain), p.wide(bias), 1e-5, p.y(0), p.sum(1),
                       p.sum(2));
    });
    check<B>("of bf16", outputs, [&]<class P>(P& p) {
      P::B::layer_norm(r, n, p.x(x), p.wide(gain), p.wide(bias), 1e-5, p.y(0), p.sum(1), p.sum(2));
    });
    Doubles y(x.size()), mean(static_cast<std::size_t>(r)), rstd(mean);
    Reference::layer_norm(r, n, x.data(), gain.data(), bias.data(), 1e-5, y.data(), mean.data(),
                          rstd.data());
    for (auto* v : {&mean, &rstd})
      for (double& s : *v) s = static_cast<float>(s);
    for (int wanted = 7; wanted > 0; --wanted) {  // every set of outputs may be asked for
      INFO("backward, outputs " << wanted);
      const std::vector<Output> of_stream{Output::sum(nothing(r * n), 2e-6, Of::largest),
                                          Output::sum(floats(n, 5), 2e-6, Of::largest),
                                          Output::sum(floats(n, 6), 2e-6, Of::largest)};
      auto of_half = of_stream;
      of_half[0].wide = false;
      check<B>("of a stream", of_stream, [&]<class P>(P& p) {
        P::B::layer_norm_backward(r, n, p.wide(stream), p.wide(gain), p.wide(mean), p.wide(rstd),
                                  p.x(dy), wanted & 1 ? p.sum(0) : nullptr,
                                  wanted & 2 ? p.sum(1) : nullptr, wanted & 4 ? p.sum(2) : nullptr);
      });
      check<B>("of bf16", of_half, [&]<class P>(P& p) {
        P::B::layer_norm_backward(r, n, p.x(x), p.wide(gain), p.wide(mean), p.wide(rstd), p.x(dy),
                                  wanted & 1 ? p.y(0) : nullptr, wanted & 2 ? p.sum(1) : nullptr,
                                  wanted & 4 ? p.sum(2) : nullptr);
      });
    }
  }
}

TEST_CASE_TEMPLATE("bf16: add_norm has the bits of add and layer_norm", B, HOST_BACKENDS) {
  for (auto [rows, cols] : some_matrices) {
    const Index r = rows, n = cols;
    INFO(r << " x " << n);
    const auto x = random<float>(r * n, 1, 2, 0.5), y = random<float>(r * n, 4),
               gain = random<float>(n, 2, 0.3, 1), bias = random<float>(n, 3);
    Values<float> sum(x.size()), mean(static_cast<std::size_t>(r)), rstd(mean), sum2(sum),
        mean2(mean), rstd2(mean);
    Values<bfloat16> norm(x.size()), norm2(norm);
    B::add(r * n, x.data(), y.data(), sum.data());
    B::layer_norm(r, n, sum.data(), gain.data(), bias.data(), 1e-5, norm.data(), mean.data(),
                  rstd.data());
    CHECK(B::add_norm(r, n, x.data(), y.data(), gain.data(), bias.data(), 1e-5, sum2.data(),
                      norm2.data(), mean2.data(), rstd2.data()));
    CHECK((sum == sum2 && mean == mean2 && rstd == rstd2));
    CHECK(std::equal(norm.begin(), norm.end(), norm2.begin(),
                     [](bfloat16 a, bfloat16 b) { return a.bits == b.bits; }));
  }
}

namespace {

/// Float kernels whose add_norm serves no shape.
struct Unserving : reference::Kernels {
  template <class T>
  static bool add_norm(Index, Index, const T*, const T*, const T*, const T*, double, T*, T*, T*,
                       T*) {
    return false;
  }
};

}  // namespace

TEST_CASE("bf16: an add_norm that does not serve a shape writes nothing") {
  const auto x = random<float>(6, 1);
  Values<float> sum(6, 1.0f), mean(2, 2.0f), rstd(2, 3.0f);
  Values<bfloat16> norm(6, bfloat16(4.0f));
  CHECK_FALSE(Widened<Unserving>::add_norm(2, 3, x.data(), x.data(), x.data(), x.data(), 1e-5,
                                           sum.data(), norm.data(), mean.data(), rstd.data()));
  CHECK((sum == Values<float>(6, 1.0f) && mean == Values<float>(2, 2.0f)));
  CHECK(
      std::all_of(norm.begin(), norm.end(), [](bfloat16 v) { return static_cast<float>(v) == 4; }));
}

TEST_CASE_TEMPLATE("bf16: batch_norm and its statistics", B, HOST_BACKENDS) {
  for (auto [rows, cols] : some_matrices) {
    const Index r = rows, n = cols;
    INFO(r << " x " << n);
    const auto x = halves(r * n, 1, 2, 0.5), dy = halves(r * n, 4);
    const auto gain = floats(n, 2, 0.3, 1), bias = floats(n, 3), mean = floats(n, 7),
               rstd = floats(n, 8, 0.1, 1);
    const Output statistic = Output::sum(nothing(n), 1e-6, Of::largest);
    if (r > 0)
      check<B>("column_moments", {statistic, statistic},
               [&]<class P>(P& p) { P::B::column_moments(r, n, p.x(x), p.sum(0), p.sum(1)); });
    check<B>("batch_norm", {{nothing(r * n), 1e-6, Of::largest}}, [&]<class P>(P& p) {
      P::B::batch_norm(r, n, p.x(x), p.wide(mean), p.wide(rstd), p.wide(gain), p.wide(bias),
                       p.y(0));
    });
    for (bool moments : {false, true})
      for (bool with_dx : {false, true})
        check<B>("batch_norm_backward",
                 {{nothing(r * n), 1e-6, Of::largest},
                  Output::sum(floats(n, 5), 1e-6, Of::largest),
                  Output::sum(floats(n, 6), 1e-6, Of::largest)},
                 [&]<class P>(P& p) {
                   P::B::batch_norm_backward(r, n, p.x(x), p.wide(mean), p.wide(rstd), p.wide(gain),
                                             p.x(dy), moments, with_dx ? p.y(0) : nullptr, p.sum(1),
                                             p.sum(2));
                 });
  }
}

TEST_CASE_TEMPLATE("bf16: convolution and pooling", B, HOST_BACKENDS) {
  for (const ConvShape& s :
       {ConvShape{2, 9, 11, 3, 5, 3, 1, 1}, ConvShape{2, 9, 11, 3, 5, 3, 2, 1},
        ConvShape{3, 7, 5, 4, 3, 1, 1, 0}, ConvShape{3, 7, 5, 4, 3, 1, 2, 0},
        ConvShape{1, 33, 17, 3, 5, 7, 2, 3}, ConvShape{0, 9, 11, 3, 5, 3, 1, 1},
        ConvShape{17, 5, 5, 3, 4, 3, 1, 1}, ConvShape{1, 65, 65, 17, 3, 3, 1, 1}}) {
    const Index nx = s.batch * s.height * s.width * s.in, nw = s.out * s.kernel * s.kernel * s.in,
                ny = s.batch * s.out_height() * s.out_width() * s.out;
    const auto x = halves(nx, 1), w = halves(nw, 2), dy = halves(ny, 3);
    INFO(text({s.batch, s.height, s.width, s.in, s.out})
         << ", kernel " << s.kernel << " stride " << s.stride);
    check<B>("conv2d", {{nothing(ny)}},
             [&]<class P>(P& p) { P::B::conv2d(s, p.x(x), p.x(w), p.y(0)); });
    check<B>("conv2d_backward_input", {{nothing(nx)}},
             [&]<class P>(P& p) { P::B::conv2d_backward_input(s, p.x(dy), p.x(w), p.y(0)); });
    check<B>("conv2d_backward_weight", {Output::sum(floats(nw, 4))},
             [&]<class P>(P& p) { P::B::conv2d_backward_weight(s, p.x(x), p.x(dy), p.sum(0)); });
  }
  for (const ConvShape& s :
       {ConvShape{2, 9, 11, 3, 3, 3, 2, 1}, ConvShape{1, 1, 1, 1, 1, 3, 2, 1},
        ConvShape{0, 9, 9, 2, 2, 3, 2, 1}, ConvShape{3, 17, 9, 5, 5, 3, 1, 1}}) {
    const Index nx = s.batch * s.height * s.width * s.in,
                ny = s.batch * s.out_height() * s.out_width() * s.in;
    auto x = halves(nx, 1);
    for (double& v : x) v = std::round(2 * v);  // with ties
    const auto dy = halves(ny, 2);
    std::vector<std::int32_t> mine(static_cast<std::size_t>(ny) + 1, -7), theirs(mine);
    check<B>("max_pool", {Output::exact(nothing(ny))}, [&]<class P>(P& p) {
      P::B::max_pool(s, p.x(x), p.y(0),
                     (std::is_same_v<typename P::T, double> ? theirs : mine).data());
    });
    CHECK(mine == theirs);
    check<B>("max_pool_backward", {{halves(nx, 3)}},
             [&]<class P>(P& p) { P::B::max_pool_backward(ny, p.x(dy), theirs.data(), p.y(0)); });
  }
}

namespace {

/// The outputs of a kernel for 1, 2 and 3 threads, twice each, must be the same bits.
template <class F>
void same_bits(const char* what, const std::vector<Output>& outputs, F&& kernel) {
  using B = CpuBackend;
  INFO(what);
  const int before = B::threads();
  std::vector<Doubles> first;
  for (int threads : {1, 2, 3, 1, 2, 3}) {
    B::set_threads(threads);
    Arguments<B, bfloat16> p(outputs, false);
    kernel(p);
    std::vector<Doubles> now;
    for (std::size_t i = 0; i < outputs.size(); ++i) now.push_back(p.result(i));
    if (first.empty()) first = now;
    bool equal = true;
    for (std::size_t i = 0; i < now.size(); ++i)
      equal = equal && std::memcmp(now[i].data(), first[i].data(), 8 * now[i].size()) == 0;
    INFO(threads << " threads");
    CHECK(equal);
  }
  B::set_threads(before);
}

}  // namespace

TEST_CASE("bf16: results do not depend on the number of threads") {
  const Index m = 401, n = 700, k = 197;
  const auto a = halves(m * k, 1), b = halves(k * n, 2);
  const auto gemm = [&]<class P>(P& p, auto* c) {
    P::B::gemm(true, false, m, n, k, 0.5f, p.x(a), m, p.x(b), n, 1, c, n);
  };
  same_bits("gemm", {{halves(m * n, 3)}}, [&](auto& p) { gemm(p, p.y(0)); });
  same_bits("gemm to float", {Output::sum(floats(m * n, 3))}, [&](auto& p) { gemm(p, p.sum(0)); });
  const Index rows = 5003, cols = 300, all = rows * cols;
  const auto x = halves(all, 1), dy = halves(all, 5), other = halves(all, 9);
  const auto gain = floats(cols, 2), mean = floats(rows, 3), rstd = floats(rows, 4),
             column = floats(cols, 8);
  std::vector<std::int32_t> index;
  for (Index r = 0; r < rows; ++r) index.push_back(static_cast<std::int32_t>(r * r % 97));
  same_bits("add", {{nothing(all)}},
            [&]<class P>(P& p) { P::B::add(all, p.x(x), p.x(dy), p.y(0)); });
  same_bits("axpy", {Output::sum(other)},
            [&]<class P>(P& p) { P::B::axpy(all, 0.3f, p.x(x), p.sum(0)); });
  same_bits("gelu", {{nothing(all)}},
            [&]<class P>(P& p) { P::B::activation(Activation::gelu, all, p.x(x), p.y(0)); });
  same_bits("sum", {{{0}}}, [&]<class P>(P& p) { P::B::sum(all, 1e-3, p.x(x), p.y(0)); });
  same_bits("sum to float", {Output::sum({0})},
            [&]<class P>(P& p) { P::B::sum(all, 1e-3, p.x(x), p.sum(0)); });
  same_bits("dot", {Output::sum({0})},
            [&]<class P>(P& p) { P::B::dot(all, 1, p.x(x), p.x(dy), p.sum(0)); });
  same_bits("column_sum", {Output::sum(column)},
            [&]<class P>(P& p) { P::B::column_sum(rows, cols, p.x(x), p.sum(0)); });
  same_bits("scatter_add_rows", {Output::sum(floats(97 * cols, 6))}, [&]<class P>(P& p) {
    P::B::scatter_add_rows(rows, cols, p.x(dy), index.data(), p.sum(0));
  });
  same_bits("layer_norm_backward",
            {{nothing(all)}, Output::sum(floats(cols, 6)), Output::sum(floats(cols, 7))},
            [&]<class P>(P& p) {
              P::B::layer_norm_backward(rows, cols, p.x(x), p.wide(gain), p.wide(mean),
                                        p.wide(rstd), p.x(dy), p.y(0), p.sum(1), p.sum(2));
            });
  same_bits("batch_norm_backward",
            {{nothing(all)}, Output::sum(floats(cols, 6)), Output::sum(floats(cols, 7))},
            [&]<class P>(P& p) {
              P::B::batch_norm_backward(rows, cols, p.x(x), p.wide(column), p.wide(gain),
                                        p.wide(gain), p.x(dy), true, p.y(0), p.sum(1), p.sum(2));
            });
  for (const auto& s :
       {ConvShape{19, 17, 13, 5, 7, 3, 1, 1}, ConvShape{3, 65, 33, 3, 5, 7, 2, 3}}) {
    const auto image = halves(s.batch * s.height * s.width * s.in, 1),
               w = halves(s.out * s.kernel * s.kernel * s.in, 2),
               dout = halves(s.batch * s.out_height() * s.out_width() * s.out, 3);
    same_bits("conv2d", {{nothing(static_cast<Index>(dout.size()))}},
              [&]<class P>(P& p) { P::B::conv2d(s, p.x(image), p.x(w), p.y(0)); });
    same_bits("conv2d_backward_input", {{nothing(static_cast<Index>(image.size()))}},
              [&]<class P>(P& p) { P::B::conv2d_backward_input(s, p.x(dout), p.x(w), p.y(0)); });
    same_bits(
        "conv2d_backward_weight", {Output::sum(floats(static_cast<Index>(w.size()), 4))},
        [&]<class P>(P& p) { P::B::conv2d_backward_weight(s, p.x(image), p.x(dout), p.sum(0)); });
  }
}
