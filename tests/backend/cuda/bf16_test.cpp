// What is particular to bf16 on CUDA: fused products, bands of a convolution, addresses that are
// not aligned, the same bits every time. tests/backend/bf16/ has the kernels one by one.
#include "conformance.hpp"
#include "errors.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using Half = bfloat16;

static_assert(Backend<Cuda, Half> && BackendLinear<Cuda, Half> && BackendLinear<Cuda, Half, float>);

/// Distance of the bf16 numbers around x.
double unit(double x) { return std::ldexp(1.0, std::max(std::ilogb(x), -126) - 7); }

Values halves(Index n, std::uint64_t seed) {
  Values x = normal(n, seed);
  for (double& v : x) v = Half(static_cast<float>(v));
  return x;
}
Values floats(Index n, std::uint64_t seed) {
  Values x = normal(n, seed);
  for (double& v : x) v = static_cast<float>(v);
  return x;
}

/// Elements of `got` that are further from those of `want` than their `room`.
std::size_t wrong(const Values& got, const Values& want, const Values& room) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < want.size(); ++i) count += !(std::abs(got[i] - want[i]) <= room[i]);
  return count;
}

}  // namespace

TEST_CASE("bf16: a fused linear layer is rounded once after its bias, and activated") {
  struct Case {
    Index rows, in, out;
  };
  for (const auto& [rows, in, out] :
       {Case{1, 1, 1}, Case{5, 16, 8}, Case{33, 7, 24}, Case{3, 5, 7}, Case{9, 128, 64}}) {
    CAPTURE(sizes({rows, in, out}));
    const Values x = halves(rows * in, 1), w = halves(out * in, 2), b = floats(out, 3);
    const auto cx = tensor<Half, Cuda>(x, {rows, in}), cw = tensor<Half, Cuda>(w, {out, in});
    const auto cb = tensor<float, Cuda>(b, {out});
    Values want, wide_room, room;
    for (Index r = 0; r < rows; ++r)
      for (Index o = 0; o < out; ++o) {
        const double bias = b[static_cast<std::size_t>(o)];
        double sum = bias, terms = std::abs(bias);
        for (Index k = 0; k < in; ++k) {
          const double term =
              x[static_cast<std::size_t>(r * in + k)] * w[static_cast<std::size_t>(o * in + k)];
          sum += term;
          terms += std::abs(term);
        }
        want.push_back(sum);
        wide_room.push_back(2e-6 * terms);
        // Half a unit of the result, and half a unit of the bias, which is rounded as weights are.
        room.push_back(0.5 * unit(std::abs(sum) + 0.5 * unit(bias)) + 0.5 * unit(bias) +
                       2e-6 * terms);
      }
    const LinearArgs<Half, float> to_float{rows, in, out, cx.data(), cw.data(), cb.data()};
    Tensor<float, Cuda> wide({rows, out});
    auto wide_args = to_float;
    wide_args.y = wide.data();
    REQUIRE(Cuda::linear(wide_args));
    CHECK(wrong(values(wide), want, wide_room) == 0);

    Tensor<Half, Cuda> y({rows, out}), pre({rows, out});
    LinearArgs<Half> a{rows, in, out, cx.data(), cw.data(), cb.data()};
    a.y = y.data();
    REQUIRE(Cuda::linear(a));
    CHECK(wrong(values(y), want, room) == 0);
    for (auto act : {Activation::relu, Activation::gelu, Activation::gelu_tanh}) {
      Values activated(want.size()), active_room;
      Reference::activation(act, rows * out, want.data(), activated.data());
      // No activation is steeper than 1.13.
      for (std::size_t i = 0; i < room.size(); ++i)
        active_room.push_back(1.14 * room[i] + 0.5 * unit(std::abs(activated[i]) + 1.14 * room[i]) +
                              1e-6);
      a.activation = act;
      for (bool with_pre : {true, false}) {
        CAPTURE(static_cast<int>(act));
        CAPTURE(with_pre);
        Cuda::fill(pre.size(), Half(7.0f), pre.data());
        a.pre = with_pre ? pre.data() : nullptr;
        REQUIRE(Cuda::linear(a));
        CHECK(wrong(values(y), activated, active_room) == 0);
        if (with_pre) CHECK(wrong(values(pre), want, room) == 0);
      }
    }
    a.bias = nullptr;
    CHECK_FALSE(Cuda::linear(a));
    a.bias = cb.data();
    a.rows = 0;
    CHECK_FALSE(Cuda::linear(a));
  }
}

TEST_CASE("bf16: a convolution in bands rounds a gradient of its input once") {
  for (Index elements : {1, 500, 1000, 2000, 5000})
    for (Index kernel : {1, 3}) {
      const ConvShape s{5, 7, 6, 8, 8, kernel, 1, kernel / 2};
      const Index nx = s.batch * s.height * s.width * s.in, nw = s.out * s.kernel * s.kernel * s.in,
                  ny = s.batch * s.out_height() * s.out_width() * s.out;
      CAPTURE(elements);
      CAPTURE(kernel);
      const Values x = halves(nx, 1), w = halves(nw, 2), dy = halves(ny, 3);
      const auto cx = tensor<Half, Cuda>(x, {nx}), cw = tensor<Half, Cuda>(w, {nw}),
                 cdy = tensor<Half, Cuda>(dy, {ny});
      const auto close = [](const Values& got, const Values& want, double slack, bool narrow) {
        Values room;
        for (double v : want) room.push_back((narrow ? 0.5 * unit(v) : 0) + slack);
        CHECK(wrong(got, want, room) == 0);
      };
      Values want(static_cast<std::size_t>(ny));
      Tensor<Half, Cuda> y({ny}), dx({nx});
      Reference::conv2d(s, x.data(), w.data(), want.data());
      Cuda::conv2d(s, cx.data(), cw.data(), y.data(), elements);
      close(values(y), want, 1e-5, true);
      want.resize(static_cast<std::size_t>(nx));
      Reference::conv2d_backward_input(s, dy.data(), w.data(), want.data());
      Cuda::conv2d_backward_input(s, cdy.data(), cw.data(), dx.data(), elements);
      close(values(dx), want, 1e-5, true);
      want = floats(nw, 4);
      auto dw = tensor<float, Cuda>(want, {nw});
      Reference::conv2d_backward_weight(s, x.data(), dy.data(), want.data());
      Cuda::conv2d_backward_weight(s, cx.data(), cdy.data(), dw.data(), elements);
      close(values(dw), want, 1e-4, false);
    }
}

namespace {

/// The results of kernels whose rows may move in packs, `offset` elements after an aligned address.
Values at_offset(Index offset) {
  constexpr Index rows = 9, cols = 64, n = rows * cols;
  const auto half = [&](Index size, std::uint64_t seed) {
    Values x(static_cast<std::size_t>(offset), 3.0);
    for (double v : halves(size, seed)) x.push_back(v);
    return tensor<Half, Cuda>(x, {offset + size});
  };
  const auto single = [&](Index size, std::uint64_t seed) {
    Values x(static_cast<std::size_t>(offset), 3.0);
    for (double v : floats(size, seed)) x.push_back(v);
    return tensor<float, Cuda>(x, {offset + size});
  };
  const auto x = half(n, 1), dy = half(n, 2);
  const auto stream = single(n, 3), gain = single(cols, 4), bias = single(cols, 5),
             weight = single(rows, 6);
  const auto index = indices<Cuda>({4, -1, 0, 4, 2, 1, 1, 8, 3}), start = indices<Cuda>({0, 4, 9});
  Values all;
  const auto keep = [&](const auto& t) {
    const Values v = values(t);
    all.insert(all.end(), v.begin() + offset, v.end());
  };
  const auto out = [&](auto f) {
    auto y = half(n, 7);
    f(y.data() + offset);
    keep(y);
  };
  const auto out_wide = [&](auto f) {
    auto y = single(n, 8);
    f(y.data() + offset);
    keep(y);
  };
  const Half *px = x.data() + offset, *pdy = dy.data() + offset;
  const float *ps = stream.data() + offset, *pg = gain.data() + offset, *pb = bias.data() + offset,
              *pw = weight.data() + offset;
  out([&](Half* y) { Cuda::add(n, px, pdy, y); });
  out([&](Half* y) { Cuda::convert(n, ps, y); });
  out_wide([&](float* y) { Cuda::convert(n, px, y); });
  out_wide([&](float* y) { Cuda::axpy(n, 0.3f, px, y); });
  out([&](Half* y) { Cuda::activation(Activation::gelu, n - 3, px, y); });
  out([&](Half* y) { Cuda::gather_rows(rows, cols, px, index.data(), y); });
  out_wide([&](float* y) { Cuda::scatter_add_rows(rows, cols, px, index.data(), y); });
  out([&](Half* y) {
    Cuda::mix_rows(1, 2, rows, cols, start.data(),
                   indices<Cuda>({0, 1, 2, 3, 4, 5, 6, 7, 8}).data(), pw, px, y);
  });
  out([&](Half* y) { Cuda::batch_norm(rows, cols, px, pb, pg, pg, pb, y); });
  Tensor<float, Cuda> mean({rows}), rstd({rows});
  out([&](Half* y) {
    Cuda::layer_norm(rows, cols, ps, pg, pb, 1e-5, y, mean.data(), rstd.data());
  });
  for (double v : values(mean)) all.push_back(v);
  for (double v : values(rstd)) all.push_back(v);
  out_wide([&](float* y) {
    Cuda::layer_norm_backward(rows, cols, ps, pg, mean.data(), rstd.data(), pdy, y,
                              static_cast<float*>(nullptr), static_cast<float*>(nullptr));
  });
  return all;
}

}  // namespace

TEST_CASE("bf16: the bits of a result do not depend on its address, nor on the run") {
  const Values want = at_offset(0);
  for (Index offset : {0, 1, 4}) CHECK(at_offset(offset) == want);
}

TEST_CASE("bf16: where a device has none, the error says so") {
  const auto e = error_of([] {
    const Half* x = nullptr;
    Cuda::add(0, x, x, static_cast<Half*>(nullptr));
  });
  CHECK_MESSAGE((e.empty() || holds(e,
                                    "[hybridmed.cuda] add: expected a device of compute "
                                    "capability 8.0 or newer for bfloat16, got 7.5")),
                e);
}
