// Gradients of products.
#include "hybridmed/autograd/linear.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gradients of linear", B, BACKENDS) {
  struct Case {
    Index rows, in, out;
  };
  for (const auto& c :
       {Case{1, 1, 1}, Case{3, 17, 5}, Case{17, 3, 1}, Case{0, 3, 5}, Case{5, 1, 17}}) {
    const std::string s = "linear " + std::to_string(c.rows) + " x " + std::to_string(c.in) +
                          " x " + std::to_string(c.out);
    const auto x0 = random<B>({c.rows, c.in}, 1), w = random<B>({c.out, c.in}, 2),
               b = random<B>({c.out}, 3);
    check<B>(s, {x0, w}, [](const auto& x) { return linear(x[0], x[1]); });
    check<B>(s + ", bias", {x0, w, b}, [](const auto& x) { return linear(x[0], x[1], &x[2]); });
  }
}

TEST_CASE_TEMPLATE("gradients of scaled_similarity", B, BACKENDS) {
  const auto scale0 = random<B>({}, 3);
  for (auto [n, m, d] : {std::tuple<Index, Index, Index>{1, 1, 1},
                         {3, 5, 17},
                         {7, 7, 3},
                         {0, 3, 5},
                         {3, 0, 5},
                         {0, 0, 5}})
    check<B>("scaled_similarity", {random<B>({n, d}, 1), random<B>({m, d}, 2), scale0},
             [](const auto& x) { return scaled_similarity(x[0], x[1], x[2]); });
}
