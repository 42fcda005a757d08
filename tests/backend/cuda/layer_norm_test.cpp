// CUDA kernels of LayerNorm against the reference backend, and the residual sum before it.
#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendFusedAddNorm<Cuda, float> && BackendFusedAddNorm<Cuda, double> &&
              BackendFusedAddNorm<Cuda, bfloat16>);
static_assert(BackendAddNormGradient<Cuda, float> && BackendAddNormGradient<Cuda, double> &&
              BackendAddNormGradient<Cuda, bfloat16>);

struct Matrix {
  Index rows, cols;
};
/// Rows that a lane holds few or many numbers of, rows that it does not hold; blocks that are full,
/// and one row more.
constexpr Matrix matrices[] = {{0, 5},    {1, 1},    {3, 17},   {33, 31},  {65, 256},
                               {600, 3},  {2, 600},  {130, 40}, {3, 1000}, {5, 1024},
                               {3, 1025}, {2, 1032}, {64, 257}, {1, 2100}, {129, 768}};

}  // namespace

TEST_CASE_TEMPLATE("layer_norm, forward and backward", T, float, double) {
  for (auto [rows, cols] : matrices) {
    const Index r = rows, n = cols;
    const std::string s = sizes({r, n});
    const Values x0 = normal(r * n, 1, 2), gain = normal(n, 3), bias = normal(n, 4),
                 dy = normal(r * n, 5);
    conform<T>("layer_norm" + s, {x0, gain, bias}, {}, {garbage(r * n), garbage(r), garbage(r)},
               [&](auto k, auto& x, auto, auto& y) {
                 k.layer_norm(r, n, x[0].data(), x[1].data(), x[2].data(), 1e-5, y[0].data(),
                              y[1].data(), y[2].data());
               });
    for (int want : {1, 2, 4, 3, 7})  // bits: dx, dgain, dbias
      conform<T>("layer_norm_backward" + s + " " + std::to_string(want), {x0, gain, dy}, {},
                 {dy, gain, bias}, [&](auto k, auto& x, auto, auto& y) {
                   using B = decltype(k);
                   Tensor<T, B> out({r, n}), mean({r}), rstd({r});
                   k.layer_norm(r, n, x[0].data(), x[1].data(), x[1].data(), 1e-5, out.data(),
                                mean.data(), rstd.data());
                   k.layer_norm_backward(r, n, x[0].data(), x[1].data(), mean.data(), rstd.data(),
                                         x[2].data(), want & 1 ? y[0].data() : nullptr,
                                         want & 2 ? y[1].data() : nullptr,
                                         want & 4 ? y[2].data() : nullptr);
                 });
  }
}

TEST_CASE_TEMPLATE("add_norm has the bits of add and layer_norm", T, float, double, bfloat16) {
  using A = accumulator_of<T>;
  for (auto [rows, cols] : matrices) {
    CAPTURE(rows);
    CAPTURE(cols);
    const Shape matrix{rows, cols};
    const auto x = tensor<A, Cuda>(normal(rows * cols, 1, 2), matrix),
               y = tensor<A, Cuda>(normal(rows * cols, 2), matrix),
               gain = tensor<A, Cuda>(normal(cols, 3), {cols}),
               bias = tensor<A, Cuda>(normal(cols, 4), {cols});
    Tensor<A, Cuda> sum[2]{Tensor<A, Cuda>(matrix), Tensor<A, Cuda>(matrix)};
    Tensor<T, Cuda> norm[2]{Tensor<T, Cuda>(matrix), Tensor<T, Cuda>(matrix)};
    Tensor<A, Cuda> mean[2]{Tensor<A, Cuda>({rows}), Tensor<A, Cuda>({rows})},
        rstd[2]{Tensor<A, Cuda>({rows}), Tensor<A, Cuda>({rows})};
    Cuda::add(x.size(), x.data(), y.data(), sum[0].data());
    Cuda::layer_norm(rows, cols, sum[0].data(), gain.data(), bias.data(), 1e-5, norm[0].data(),
                     mean[0].data(), rstd[0].data());
    CHECK(Cuda::add_norm(rows, cols, x.data(), y.data(), gain.data(), bias.data(), 1e-5,
                         sum[1].data(), norm[1].data(), mean[1].data(), rstd[1].data()));
    CHECK(values(sum[1]) == values(sum[0]));
    CHECK(values(norm[1]) == values(norm[0]));
    CHECK(values(mean[1]) == values(mean[0]));
    CHECK(values(rstd[1]) == values(rstd[0]));
  }
}

TEST_CASE_TEMPLATE("add_norm_backward is layer_norm_backward and add", T, float, double, bfloat16) {
  using A = accumulator_of<T>;
  for (auto [rows, cols] : matrices) {
    CAPTURE(rows);
    CAPTURE(cols);
    const Shape matrix{rows, cols};
    const auto x = tensor<A, Cuda>(normal(rows * cols, 1, 2), matrix),
               dsum = tensor<A, Cuda>(normal(rows * cols, 2), matrix),
               gain = tensor<A, Cuda>(normal(cols, 3), {cols}),
               bias = tensor<A, Cuda>(normal(cols, 4), {cols});
    const auto dnorm = tensor<T, Cuda>(normal(rows * cols, 5), matrix);
    const Tensor<A, Cuda> mean({rows}), rstd({rows});
    const Tensor<T, Cuda> norm(matrix);
    Cuda::layer_norm(rows, cols, x.data(), gain.data(), bias.data(), 1e-5, norm.data(), mean.data(),
                     rstd.data());
    const auto run = [&](auto&& kernel) {
      const auto dx = dsum.clone(), dgain = gain.clone(), dbias = bias.clone();
      kernel(dx.data(), dgain.data(), dbias.data());
      return std::vector<Values>{values(dx), values(dgain), values(dbias)};
    };
    const auto apart = run([&](A* dx, A* dgain, A* dbias) {
      const Tensor<A, Cuda> through(matrix);
      Cuda::layer_norm_backward(rows, cols, x.data(), gain.data(), mean.data(), rstd.data(),
                                dnorm.data(), through.data(), dgain, dbias);
      Cuda::add(rows * cols, dx, through.data(), dx);
    });
    const auto at_once = run([&](A* dx, A* dgain, A* dbias) {
      CHECK(Cuda::add_norm_backward(rows, cols, x.data(), gain.data(), mean.data(), rstd.data(),
                                    dnorm.data(), dx, dx, dgain, dbias));
    });
    for (std::size_t k = 0; k < apart.size(); ++k)
      CHECK(difference(at_once[k], apart[k]) <=
            4 * std::numeric_limits<A>::epsilon() * std::max(1.0, largest(apart[k])));
    const Tensor<A, Cuda> other(matrix);
    CHECK(Cuda::add_norm_backward(rows, cols, x.data(), gain.data(), mean.data(), rstd.data(),
                                  dnorm.data(), dsum.data(), other.data(), static_cast<A*>(nullptr),
                                  static_cast<A*>(nullptr)));
    CHECK(difference(values(other), at_once[0]) <=
          4 * std::numeric_limits<A>::epsilon() * std::max(1.0, largest(apart[0])));
  }
}

TEST_CASE_TEMPLATE("bf16: layer_norm of rows in X, forward and backward", X, float, bfloat16) {
  using T = bfloat16;
  for (auto [rows, cols] : matrices) {
    CAPTURE(rows);
    CAPTURE(cols);
    const Shape matrix{rows, cols};
    const auto run = [&, rows = rows, cols = cols](auto b, int want) {
      using B = decltype(b);
      const auto x = tensor<X, B>(normal(rows * cols, 1, 2), matrix);
      const auto dy = tensor<T, B>(normal(rows * cols, 2), matrix);
      const auto gain = tensor<float, B>(normal(cols, 3), {cols}),
                 bias = tensor<float, B>(normal(cols, 4), {cols});
      const Tensor<T, B> y(matrix);
      const Tensor<float, B> mean({rows}), rstd({rows});
      b.layer_norm(rows, cols, x.data(), gain.data(), bias.data(), 1e-5, y.data(), mean.data(),
                   rstd.data());
      const auto dx = tensor<X, B>(normal(rows * cols, 5), matrix);
      const auto dgain = tensor<float, B>(normal(cols, 6), {cols}),
                 dbias = tensor<float, B>(normal(cols, 7), {cols});
      b.layer_norm_backward(rows, cols, x.data(), gain.data(), mean.data(), rstd.data(), dy.data(),
                            want & 1 ? dx.data() : nullptr, want & 2 ? dgain.data() : nullptr,
                            want & 4 ? dbias.data() : nullptr);
      return std::vector<Values>{values(y),  values(mean),  values(rstd),
                                 values(dx), values(dgain), values(dbias)};
    };
    for (int want : {1, 6, 7}) {
      CAPTURE(want);
      const auto got = run(Cuda{}, want), reference = run(Reference{}, want);
      for (std::size_t k = 0; k < got.size(); ++k) {
        CAPTURE(k);
        // Two roundings to the next bf16 number may differ by one unit of it.
        const bool rounded = k == 0 || (k == 3 && std::is_same_v<X, bfloat16>);
        CHECK(difference(got[k], reference[k]) <=
              (rounded ? 0x1p-8 : 5e-5) * std::max(1.0, largest(reference[k])));
      }
    }
  }
}
