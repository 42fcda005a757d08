// CUDA kernels of convolutional networks against the reference backend.
#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendConvolution<Cuda, float> && BackendConvolution<Cuda, double>);

struct Case {
  ConvShape shape;
  Index elements = Cuda::patch_elements;  // of patches at a time
};

std::vector<Case> convolutions() {
  std::vector<Case> all;
  const auto put = [&](Index batch, Index height, Index width, Index in, Index out, Index kernel,
                       Index stride, Index pad) {
    all.push_back({{batch, height, width, in, out, kernel, stride, pad}});
  };
  for (Index kernel : {1, 3, 7})
    for (Index stride : {1, 2}) {
      put(2, 9, 11, 3, 5, kernel, stride, kernel / 2);
      put(1, 17, 13, 1, 1, kernel, stride, 0);
      put(0, 9, 11, 3, 5, kernel, stride, kernel / 2);  // no images
      put(3, 1, 3, 2, 3, kernel, stride, kernel / 2);   // smaller than the kernel
      put(2, 7, 7, 4, 2, kernel, stride, kernel / 2);
    }
  put(17, 5, 5, 3, 4, 3, 1, 1);
  put(9, 3, 3, 4, 3, 1, 1, 0);
  put(1, 33, 17, 197, 3, 1, 1, 0);
  put(2, 3, 3, 0, 2, 3, 1, 1);  // no channels
  put(2, 3, 3, 2, 0, 3, 1, 1);
  put(2, 4, 4, 2, 2, 2, 3, 0);  // places that no window takes
  // Bands of one line, of a few, across images, of whole images, and the last one smaller.
  for (Index elements : {1, 500, 1000, 2000, 5000})
    for (Index kernel : {1, 3}) all.push_back({{5, 7, 6, 4, 3, kernel, 1, kernel / 2}, elements});
  all.push_back({{5, 9, 6, 3, 3, 5, 2, 2}, 1000});
  return all;
}
std::string name(const ConvShape& s) {
  return sizes({s.batch, s.height, s.width, s.in, s.out}) + sizes({s.kernel, s.stride, s.pad});
}

}  // namespace

TEST_CASE_TEMPLATE("convolution", T, float, double) {
  for (const auto& [s, elements] : convolutions()) {
    const Index nx = s.batch * s.height * s.width * s.in, nw = s.out * s.kernel * s.kernel * s.in,
                ny = s.batch * s.out_height() * s.out_width() * s.out, most = elements;
    CAPTURE(most);
    const ConvShape shape = s;
    conform<T>("conv2d" + name(s), {normal(nx, 1), normal(nw, 2)}, {}, {garbage(ny)},
               [&](auto k, auto& x, auto, auto& y) {
                 if constexpr (std::is_same_v<decltype(k), Cuda>)
                   k.conv2d(shape, x[0].data(), x[1].data(), y[0].data(), most);
                 else
                   k.conv2d(shape, x[0].data(), x[1].data(), y[0].data());
               });
    conform<T>("conv2d_backward_input" + name(s), {normal(ny, 3), normal(nw, 2)}, {}, {garbage(nx)},
               [&](auto k, auto& x, auto, auto& y) {
                 if constexpr (std::is_same_v<decltype(k), Cuda>)
                   k.conv2d_backward_input(shape, x[0].data(), x[1].data(), y[0].data(), most);
                 else
                   k.conv2d_backward_input(shape, x[0].data(), x[1].data(), y[0].data());
               });
    conform<T>("conv2d_backward_weight" + name(s), {normal(nx, 1), normal(ny, 3)}, {},
               {normal(nw, 4)}, [&](auto k, auto& x, auto, auto& y) {
                 if constexpr (std::is_same_v<decltype(k), Cuda>)
                   k.conv2d_backward_weight(shape, x[0].data(), x[1].data(), y[0].data(), most);
                 else
                   k.conv2d_backward_weight(shape, x[0].data(), x[1].data(), y[0].data());
               });
  }
}

TEST_CASE_TEMPLATE("max_pool", T, float, double) {
  for (const auto& s : {ConvShape{2, 9, 11, 3, 3, 3, 2, 1}, ConvShape{1, 1, 1, 1, 1, 3, 2, 1},
                        ConvShape{0, 9, 9, 2, 2, 3, 2, 1}, ConvShape{3, 17, 65, 5, 5, 2, 2, 0},
                        ConvShape{1, 7, 7, 17, 17, 1, 1, 0}}) {
    const Index nx = s.batch * s.height * s.width * s.in,
                ny = s.batch * s.out_height() * s.out_width() * s.in;
    Values x0 = normal(nx, 1);
    for (double& v : x0) v = std::round(2 * v);  // with ties
    const auto run = [&](auto b, const Values& in, bool backward) {
      using B = decltype(b);
      const auto x = tensor<T, B>(in, {nx}), dy = tensor<T, B>(normal(ny, 2), {ny});
      Tensor<T, B> y({ny}), dx = tensor<T, B>(normal(nx, 3), {nx});
      IndexTensor<B> where({ny});
      b.max_pool(s, x.data(), y.data(), where.data());
      if (backward) b.max_pool_backward(s, dy.data(), where.data(), dx.data());
      Values all = backward ? values(dx) : values(y);
      for (std::int32_t at : where.to_host()) all.push_back(at);
      return all;
    };
    CAPTURE(name(s));
    for (bool backward : {false, true})
      CHECK(difference(run(Cuda{}, x0, backward), run(Reference{}, x0, backward)) == 0);
    if (nx == 0) continue;
    x0[static_cast<std::size_t>(nx / 2)] = std::nan("");
    x0[0] = -std::numeric_limits<double>::infinity();
    const Values got = run(Cuda{}, x0, false), want = run(Reference{}, x0, false);
    for (std::size_t i = 0; i < want.size(); ++i)
      CHECK((got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]))));
  }
  CHECK_THROWS_AS(Cuda::max_pool<T>({1 << 20, 64, 64, 1, 1, 3, 2, 1}, nullptr, nullptr, nullptr),
                  Error);
}

TEST_CASE_TEMPLATE("batch_norm and its statistics", T, float, double) {
  for (auto [rows, cols] :
       {std::pair<Index, Index>{0, 5}, {1, 1}, {3, 17}, {33, 36}, {2, 600}, {600, 3}, {8500, 2}}) {
    const Index r = rows, n = cols;
    const std::string s = sizes({r, n});
    Values gain = normal(n, 2, 0.3), rstd = normal(n, 8, 0.1);
    for (double& v : gain) v += 1;
    for (double& v : rstd) v += 1;
    const Values x0 = normal(r * n, 1, 2), bias = normal(n, 3), dy = normal(r * n, 4),
                 mean = normal(n, 7);
    if (r > 0)
      conform<T>("column_moments" + s, {x0}, {}, {garbage(n), garbage(n)},
                 [&](auto k, auto& x, auto, auto& y) {
                   k.column_moments(r, n, x[0].data(), y[0].data(), y[1].data());
                 });
    conform<T>("batch_norm" + s, {x0, mean, rstd, gain, bias}, {}, {garbage(r * n)},
               [&](auto k, auto& x, auto, auto& y) {
                 k.batch_norm(r, n, x[0].data(), x[1].data(), x[2].data(), x[3].data(), x[4].data(),
                              y[0].data());
               });
    for (bool moments : {false, true})
      for (bool with_dx : {false, true})
        conform<T>("batch_norm_backward" + s, {x0, mean, rstd, gain, dy}, {},
                   {with_dx ? garbage(r * n) : Values(static_cast<std::size_t>(r * n)),
                    normal(n, 5), normal(n, 6)},
                   [&](auto k, auto& x, auto, auto& y) {
                     k.batch_norm_backward(r, n, x[0].data(), x[1].data(), x[2].data(), x[3].data(),
                                           x[4].data(), moments, with_dx ? y[0].data() : nullptr,
                                           y[1].data(), y[2].data());
                   });
  }
}

TEST_CASE_TEMPLATE("moments keep their digits beside a large offset, and what is not finite shows",
                   T, float, double) {
  constexpr Index rows = 700, cols = 3;
  const auto run = [](auto b, const Values& in) {
    using B = decltype(b);
    const auto x = tensor<T, B>(in, {rows, cols});
    Tensor<T, B> mean({cols}), var({cols});
    b.column_moments(rows, cols, x.data(), mean.data(), var.data());
    Values all = values(mean);
    for (double v : values(var)) all.push_back(v);
    return all;
  };
  for (double offset : {1e4, -1e6, 1e8}) {
    Values x = normal(rows * cols, 1);
    for (double& v : x) v += offset;
    x[0] = 0;  // and one far away
    const Values got = run(Cuda{}, x), want = run(Reference{}, x);
    for (std::size_t i = 0; i < want.size(); ++i)
      CHECK(std::abs(got[i] - want[i]) <= tolerance<T> * std::abs(want[i]));
  }
  for (double odd : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    Values x = normal(rows * cols, 1);
    x[cols * 300 + 1] = odd;
    const Values got = run(Cuda{}, x), want = run(Reference{}, x);
    for (std::size_t i = 0; i < want.size(); ++i)
      CHECK((std::abs(got[i] - want[i]) <= 1e-5 || got[i] == want[i] ||
             (std::isnan(got[i]) && std::isnan(want[i]))));
  }
}
