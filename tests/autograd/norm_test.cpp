// Gradients of normalisation.
#include "hybridmed/autograd/norm.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gradients of layer_norm", B, BACKENDS) {
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {17, 3}, {0, 5}, {1, 65}}) {
    const auto gain = random<B>({cols}, 2, 0.3, 1), bias = random<B>({cols}, 3);
    check<B>("layer_norm", {random<B>({rows, cols}, 1, 2, 0.5), gain, bias},
             [](const auto& x) { return layer_norm(x[0], x[1], x[2], 1e-5); });
  }
  const auto gain = random<B>({5}, 2, 0.3, 1), bias = random<B>({5}, 3);
  // Equal elements: the standard deviation is sqrt(eps) alone; eps as in BERT would need a smaller
  // step than rounding allows.
  check<B>("layer_norm of a constant row", {X<B>::full({2, 5}, 0.7), gain, bias},
           [](const auto& x) { return layer_norm(x[0], x[1], x[2], 1e-4); });
}

TEST_CASE_TEMPLATE("gradients of batch_norm", B, BACKENDS) {
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {17, 3}, {0, 5}, {65, 1}}) {
    const Index n = cols;
    const auto x0 = random<B>({rows, n}, 1, 2, 0.5), gain = random<B>({n}, 2, 0.3, 1),
               bias = random<B>({n}, 3), mean = random<B>({n}, 4), rstd = random<B>({n}, 5, 0.1, 1);
    check<B>("batch_norm with fixed statistics", {x0, gain, bias},
             [&](const auto& x) { return batch_norm(x[0], x[1], x[2], mean, rstd, false); });
    if (rows == 0) continue;  // no statistics
    check<B>("batch_norm with its own statistics", {x0, gain, bias}, [&](const auto& x) {
      X<B> m({n}), v({n});
      B::column_moments(value(x[0]).rows(), n, value(x[0]).data(), m.data(), v.data());
      B::reciprocal_sqrt(n, v.data(), 1e-3, v.data());
      return batch_norm(x[0], x[1], x[2], m, v, true);
    });
  }
}
