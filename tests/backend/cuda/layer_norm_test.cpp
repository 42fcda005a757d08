// CUDA kernels of LayerNorm against the reference backend, and the residual sum before it.
#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendFusedAddNorm<Cuda, float> && BackendFusedAddNorm<Cuda, double> &&
              BackendFusedAddNorm<Cuda, bfloat16>);

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
