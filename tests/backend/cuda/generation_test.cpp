// CUDA kernels of writing token by token, against the reference backend.
#include <cmath>

#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendGeneration<Cuda, float> && BackendGeneration<Cuda, double> &&
              BackendGeneration<Cuda, bfloat16>);

template <class T>
void same_best(Index rows, Index classes, const std::vector<double>& z) {
  CAPTURE(rows);
  CAPTURE(classes);
  const auto run = [&](auto b) {
    using B = decltype(b);
    const auto logits = tensor<T, B>(z, {rows, classes});
    const IndexTensor<B> best({rows});
    const Tensor<accumulator_of<T>, B> margin({rows});
    b.best_class(rows, classes, logits.data(), best.data(), margin.data());
    return std::pair(best.to_host(), margin.to_host());
  };
  const auto got = run(Cuda{}), want = run(Reference{});
  CHECK(got.first == want.first);
  for (std::size_t i = 0; i < want.second.size(); ++i)
    CHECK((got.second[i] == want.second[i] ||
           (std::isnan(got.second[i]) && std::isnan(want.second[i]))));
}

}  // namespace

TEST_CASE_TEMPLATE("put_rows", T, float, double) {
  for (auto [rows, cols] : {std::pair<Index, Index>{0, 5}, {1, 1}, {3, 17}, {33, 32}, {5, 0}}) {
    const Index r = rows, n = cols, ldx = n + 3;
    std::vector<std::int32_t> index;
    for (Index i = 0; i < r; ++i) index.push_back(static_cast<std::int32_t>(2 * (r - 1 - i)));
    conform<T>("put_rows" + sizes({r, n}), {normal(r * ldx, 1)}, index, {normal(2 * r * n, 2)},
               [&](auto k, auto& x, auto i, auto& y) {
                 k.put_rows(r, n, x[0].data(), ldx, i, y[0].data());
               });
  }
}

TEST_CASE_TEMPLATE("best_class", T, float, double, bfloat16) {
  const double inf = INFINITY, nan = NAN;
  same_best<T>(0, 7, {});
  same_best<T>(2, 1, {4, -3});
  same_best<T>(4, 3, {1, 3, 3, -inf, -inf, -inf, 1, inf, 2, 1, 2, nan});
  for (Index classes : {31, 33, 256, 700}) same_best<T>(5, classes, normal(5 * classes, 3));
  std::vector<double> ties(1000, 1.0);  // equal ones in other warps and threads
  ties[0] = 0;
  same_best<T>(1, 1000, ties);
  ties[999] = 2;
  same_best<T>(1, 1000, ties);
}
