// Gradients of convolution and pooling.
#include "hybridmed/autograd/convolution.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gradients of conv2d and max_pool", B, BACKENDS) {
  for (Index kernel : {1, 3, 7})
    for (Index stride : {1, 2})
      for (Index batch : {0, 1, 3}) {
        const ConvShape s{batch, 5, 7, 2, 3, kernel, stride, kernel / 2};
        check<B>("conv2d", {random<B>({batch * 35, 2}, 1), random<B>({3, 2, kernel, kernel}, 2)},
                 [&](const auto& x) { return conv2d(x[0], x[1], s); });
      }
  check<B>("conv2d, 9 images of one pixel", {random<B>({9, 1}, 1), random<B>({1, 1, 3, 3}, 2)},
           [](const auto& x) {
             return conv2d(x[0], x[1], ConvShape{9, 1, 1, 1, 1, 3, 1, 1});
           });
  for (const auto& s : {ConvShape{2, 7, 5, 3, 3, 3, 2, 1}, ConvShape{1, 4, 4, 1, 1, 2, 2, 0},
                        ConvShape{0, 7, 5, 3, 3, 3, 2, 1}, ConvShape{1, 1, 1, 2, 2, 3, 1, 1}})
    check<B>("max_pool", {random<B>({s.batch * s.height * s.width, s.in}, 1)},
             [&](const auto& x) { return max_pool(x[0], s); });
}
