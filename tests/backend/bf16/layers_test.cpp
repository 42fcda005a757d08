// bf16 on the host backends and on CUDA: products, normalisation, convolution, pooling.
#include "backend/bf16_conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using Of = Output::Of;
const std::vector<std::pair<Index, Index>> some_matrices{{0, 3},  {9, 64},  {1, 65},   {3, 17},
                                                         {17, 3}, {5, 257}, {65, 197}, {1025, 17}};

/// Rows of `cols` numbers, `ld` apart, of which a kernel may read and write the first alone.
Doubles spread(Doubles x, Index cols, Index ld, double between) {
  for (std::size_t i = 0; i < x.size(); ++i)
    if (static_cast<Index>(i) % ld >= cols) x[i] = between;
  return x;
}

}  // namespace

TEST_CASE_TEMPLATE("bf16: gemm, to bf16 and to float", B, BF16_BACKENDS) {
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

TEST_CASE_TEMPLATE("bf16: a product is rounded once, whatever beta is", B, BF16_BACKENDS) {
  const auto product = [](const Doubles& a, double held) {
    Arguments<B, bfloat16> p({Output{{held}}}, false);
    B::gemm(false, false, 1, 1, 2, 1, p.x(a), 2, p.x({1, 1}), 1, 1, p.y(0), 1);
    return p.result(0)[0];
  };
  // 256 + 1 + 1 is 258, but 256 where each addition is rounded.
  CHECK(product({1, 1}, 256) == 258);
  // Two quarters of an ulp make a half, and the tie goes to even.
  CHECK(product({0x1p-9, 0x1p-9}, 1) == 1);
  CHECK(product({0x1p-9, 0x1p-9}, 1 + 0x1p-7) == 1 + 0x1p-6);
}

TEST_CASE_TEMPLATE("bf16: layer_norm of a stream and of bf16", B, BF16_BACKENDS) {
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

TEST_CASE_TEMPLATE("bf16: batch_norm and its statistics", B, BF16_BACKENDS) {
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

TEST_CASE_TEMPLATE("bf16: convolution and pooling", B, BF16_BACKENDS) {
  for (const ConvShape& s :
       {ConvShape{2, 9, 11, 3, 5, 3, 1, 1}, ConvShape{2, 9, 11, 3, 5, 3, 2, 1},
        ConvShape{3, 7, 5, 4, 3, 1, 1, 0}, ConvShape{3, 7, 5, 4, 3, 1, 2, 0},
        ConvShape{1, 33, 17, 3, 5, 7, 2, 3}, ConvShape{0, 9, 11, 3, 5, 3, 1, 1},
        ConvShape{2, 5, 4, 8, 16, 3, 1, 1}, ConvShape{17, 5, 5, 3, 4, 3, 1, 1},
        ConvShape{1, 65, 65, 17, 3, 3, 1, 1}}) {
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
    std::vector<std::int32_t> mine, theirs;
    check<B>("max_pool", {Output::exact(nothing(ny))}, [&]<class P>(P& p) {
      Held<std::int32_t, typename P::B> where{
          std::vector<std::int32_t>(static_cast<std::size_t>(ny), -7)};
      P::B::max_pool(s, p.x(x), p.y(0), where.data());
      (std::is_same_v<typename P::T, double> ? theirs : mine) = where.values();
    });
    CHECK(mine == theirs);
    check<B>("max_pool_backward", {{halves(nx, 3)}},
             [&]<class P>(P& p) { P::B::max_pool_backward(s, p.x(dy), p.index(theirs), p.y(0)); });
  }
}
