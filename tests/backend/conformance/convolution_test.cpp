// Convolution and pooling.
#include "backend/conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

std::vector<ConvShape> convolutions() {
  std::vector<ConvShape> all;
  const auto put = [&](Index batch, Index height, Index width, Index in, Index out, Index kernel,
                       Index stride, Index pad) {
    all.push_back({batch, height, width, in, out, kernel, stride, pad});
  };
  for (Index kernel : {1, 3, 7})
    for (Index stride : {1, 2}) {
      put(2, 9, 11, 3, 5, kernel, stride, kernel / 2);
      put(1, 17, 13, 1, 1, kernel, stride, 0);
      put(0, 9, 11, 3, 5, kernel, stride, kernel / 2);  // no images
      put(3, 1, 3, 2, 3, kernel, stride, kernel / 2);   // smaller than the kernel
      put(2, 7, 7, 5, 2, kernel, stride, kernel / 2);
    }
  put(17, 5, 5, 3, 4, 3, 1, 1);  // more images than groups of the weight gradient
  put(9, 3, 3, 4, 3, 1, 1, 0);
  put(2, 65, 65, 17, 3, 3, 1, 1);  // several bands of output rows
  put(1, 197, 65, 3, 5, 7, 2, 3);
  put(1, 33, 17, 197, 3, 1, 1, 0);
  return all;
}
std::string name(const ConvShape& s) {
  return text({s.batch, s.height, s.width, s.in, s.out}) + ", kernel " + std::to_string(s.kernel) +
         " stride " + std::to_string(s.stride) + " pad " + std::to_string(s.pad);
}

}  // namespace

TEST_CASE_TEMPLATE("convolution", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (const auto& s : convolutions()) {
    const Index nx = s.batch * s.height * s.width * s.in, nw = s.out * s.kernel * s.kernel * s.in,
                ny = s.batch * s.out_height() * s.out_width() * s.out;
    const auto x = random<T>(nx, 1), w = random<T>(nw, 2), dy = random<T>(ny, 3);
    conform<B, T>("conv2d " + name(s), {garbage<T>(ny)},
                  [&](auto k, auto y) { decltype(k)::conv2d(s, x.data(), w.data(), y[0]); });
    conform<B, T>("conv2d_backward_input " + name(s), {garbage<T>(nx)}, [&](auto k, auto y) {
      decltype(k)::conv2d_backward_input(s, dy.data(), w.data(), y[0]);
    });
    conform<B, T>("conv2d_backward_weight " + name(s), {random<T>(nw, 4)}, [&](auto k, auto y) {
      decltype(k)::conv2d_backward_weight(s, x.data(), dy.data(), y[0]);
    });
  }
}

TEST_CASE_TEMPLATE("max_pool", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (const auto& s : {ConvShape{2, 9, 11, 3, 3, 3, 2, 1}, ConvShape{1, 1, 1, 1, 1, 3, 2, 1},
                        ConvShape{0, 9, 9, 2, 2, 3, 2, 1}, ConvShape{3, 17, 65, 5, 5, 2, 2, 0},
                        ConvShape{1, 7, 7, 17, 17, 1, 1, 0}}) {
    const Index nx = s.batch * s.height * s.width * s.in,
                ny = s.batch * s.out_height() * s.out_width() * s.in;
    auto x = random<T>(nx, 1);
    for (auto& v : x) v = std::round(2 * v);  // with ties
    std::vector<std::int32_t> mine(static_cast<std::size_t>(ny) + 1, -7), theirs(mine);
    const auto dy = random<T>(ny, 2);
    conform<B, T>(
        "max_pool " + name(s), {garbage<T>(ny)},
        [&](auto k, auto y) {
          decltype(k)::max_pool(s, x.data(), y[0],
                                (std::is_same_v<decltype(k), Reference> ? theirs : mine).data());
        },
        0);
    CHECK(mine == theirs);
    conform<B, T>("max_pool backward " + name(s), {random<T>(nx, 3)}, [&](auto k, auto y) {
      decltype(k)::max_pool_backward(s, dy.data(), theirs.data(), y[0]);
    });
  }
}
