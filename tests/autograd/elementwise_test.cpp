// Gradients of element-wise operations.
#include "hybridmed/autograd/elementwise.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gradients of element-wise operations", B, BACKENDS) {
  for (const Shape& s : {Shape{3, 17}, Shape{1}, Shape{}, Shape{0, 5}, Shape{2, 3, 5}}) {
    const auto a = off_zero<B>(s, 1), b = random<B>(s, 2), mask = random<B>(s, 3);
    check<B>("add", {a, b}, [](const auto& x) { return add(x[0], x[1]); });
    check<B>("scale", {a}, [](const auto& x) { return scale(x[0], -1.7); });
    check<B>("multiply", {a}, [&](const auto& x) { return multiply(x[0], mask); });
    for (auto [kind, name] : activations)
      check<B>(std::string("activate ") + name, {a},
               [kind = kind](const auto& x) { return activate(x[0], kind); });
  }
}
