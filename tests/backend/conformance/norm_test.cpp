// Normalisation.
#include "backend/conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("layer_norm", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [rows, cols] : matrices) {
    const Index r = rows, n = cols;
    const auto x = random<T>(r * n, 1, 2, 0.5), gain = random<T>(n, 2, 0.3, 1),
               bias = random<T>(n, 3), dy = random<T>(r * n, 4);
    Values<T> y(x.size()), mean(static_cast<std::size_t>(r)), rstd(mean);
    Reference::layer_norm(r, n, x.data(), gain.data(), bias.data(), 1e-5, y.data(), mean.data(),
                          rstd.data());
    const std::string s = "layer_norm " + text({r, n});
    conform<B, T>(s, {garbage<T>(r * n), garbage<T>(r), garbage<T>(r)}, [&](auto k, auto o) {
      decltype(k)::layer_norm(r, n, x.data(), gain.data(), bias.data(), 1e-5, o[0], o[1], o[2]);
    });
    // With one column dx is the difference of two equal numbers, which compilers that fuse products
    // and sums do not round alike.
    const double scale = n == 1 ? largest(dy) * largest(rstd) : 0;
    for (int wanted = 7; wanted > 0; --wanted)  // every set of outputs may be asked for
      conform<B, T>(
          s + " backward, outputs " + std::to_string(wanted),
          {garbage<T>(r * n), random<T>(n, 5), random<T>(n, 6)},
          [&](auto k, auto o) {
            decltype(k)::layer_norm_backward(r, n, x.data(), gain.data(), mean.data(), rstd.data(),
                                             dy.data(), wanted & 1 ? o[0] : nullptr,
                                             wanted & 2 ? o[1] : nullptr,
                                             wanted & 4 ? o[2] : nullptr);
          },
          tolerance<T>, scale);
  }
}

TEST_CASE_TEMPLATE("add_norm has the bits of add and layer_norm", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [rows, cols] : matrices) {
    const Index r = rows, n = cols;
    const auto x = random<T>(r * n, 1, 2, 0.5), y = random<T>(r * n, 4),
               gain = random<T>(n, 2, 0.3, 1), bias = random<T>(n, 3);
    conform<B, T>("add_norm " + text({r, n}),
                  {garbage<T>(r * n), garbage<T>(r * n), garbage<T>(r), garbage<T>(r)},
                  [&](auto k, auto o) {
                    decltype(k)::add_norm(r, n, x.data(), y.data(), gain.data(), bias.data(), 1e-5,
                                          o[0], o[1], o[2], o[3]);
                  });
    Values<T> sum(x.size()), norm(sum), mean(static_cast<std::size_t>(r)), rstd(mean);
    Values<T> sum2(sum), norm2(sum), mean2(mean), rstd2(mean);
    B::add(r * n, x.data(), y.data(), sum.data());
    B::layer_norm(r, n, sum.data(), gain.data(), bias.data(), 1e-5, norm.data(), mean.data(),
                  rstd.data());
    CHECK(B::add_norm(r, n, x.data(), y.data(), gain.data(), bias.data(), 1e-5, sum2.data(),
                      norm2.data(), mean2.data(), rstd2.data()));
    CHECK(sum == sum2);
    CHECK(norm == norm2);
    CHECK(mean == mean2);
    CHECK(rstd == rstd2);
  }
}

TEST_CASE_TEMPLATE("batch_norm and its statistics", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [rows, cols] : matrices) {
    const Index r = rows, n = cols;
    const auto x = random<T>(r * n, 1, 2, 0.5), gain = random<T>(n, 2, 0.3, 1),
               bias = random<T>(n, 3), dy = random<T>(r * n, 4), mean = random<T>(n, 7),
               rstd = random<T>(n, 8, 0.1, 1);
    const std::string s = text({r, n});
    if (r > 0)
      conform<B, T>("column_moments " + s, {garbage<T>(n), garbage<T>(n)}, [&](auto k, auto o) {
        decltype(k)::column_moments(r, n, x.data(), o[0], o[1]);
      });
    conform<B, T>("batch_norm " + s, {garbage<T>(r * n)}, [&](auto k, auto o) {
      decltype(k)::batch_norm(r, n, x.data(), mean.data(), rstd.data(), gain.data(), bias.data(),
                              o[0]);
    });
    for (bool moments : {false, true})
      for (bool with_dx : {false, true})
        conform<B, T>("batch_norm backward " + s,
                      {garbage<T>(r * n), random<T>(n, 5), random<T>(n, 6)}, [&](auto k, auto o) {
                        decltype(k)::batch_norm_backward(r, n, x.data(), mean.data(), rstd.data(),
                                                         gain.data(), dy.data(), moments,
                                                         with_dx ? o[0] : nullptr, o[1], o[2]);
                      });
  }
}
