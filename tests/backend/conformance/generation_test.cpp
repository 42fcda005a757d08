// Kernels of writing token by token.
#include <cmath>
#include <limits>

#include "backend/conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("rows are put where the index says, and nothing else changes", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [rows, cols] : matrices) {
    const Index r = rows, n = cols, ldx = n + 3;
    std::vector<std::int32_t> index;  // descending, every other place
    for (Index i = 0; i < r; ++i) index.push_back(static_cast<std::int32_t>(2 * (r - 1 - i)));
    const auto x = random<T>(r * ldx, 1), y = random<T>(2 * r * n, 2);
    conform<B, T>(
        "put_rows " + text({r, n}), {y},
        [&](auto k, auto o) { decltype(k)::put_rows(r, n, x.data(), ldx, index.data(), o[0]); }, 0);
    auto z = y;
    B::put_rows(r, n, x.data(), ldx, index.data(), z.data());
    for (Index i = 0; i < 2 * r; ++i)
      for (Index c = 0; c < n; ++c) {
        const T want = i % 2 == 0 ? x[static_cast<std::size_t>((r - 1 - i / 2) * ldx + c)]
                                  : y[static_cast<std::size_t>(i * n + c)];
        CHECK(z[static_cast<std::size_t>(i * n + c)] == want);
      }
  }
}

TEST_CASE_TEMPLATE("the best class: the first of equal ones, and how far it is ahead", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  struct Case {
    std::vector<T> z;
    std::int32_t best;
    double margin;  // below 0: NaN
  };
  const Case cases[] = {{{T(1), T(3), T(2)}, 1, 1},
                        {{T(3), T(1), T(3)}, 0, 0},
                        {{T(-7), T(-2), T(-4)}, 1, 2},
                        {{-inf, T(5), -inf}, 1, std::numeric_limits<double>::infinity()},
                        {{-inf, -inf, -inf}, -1, -1},
                        {{T(1), inf, T(2)}, -1, -1},
                        {{nan, T(1), T(2)}, -1, -1},
                        {{T(1), T(2), nan}, -1, -1},
                        {{T(4)}, 0, std::numeric_limits<double>::infinity()},
                        {{}, -1, -1}};
  for (const Case& c : cases) {
    std::int32_t best = 99;
    accumulator_of<T> margin = 99;
    B::best_class(1, static_cast<Index>(c.z.size()), c.z.data(), &best, &margin);
    CHECK(best == c.best);
    if (c.margin < 0)
      CHECK(std::isnan(margin));
    else
      CHECK(static_cast<double>(margin) == c.margin);
  }
}
