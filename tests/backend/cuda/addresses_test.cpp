// The bits of a result do not depend on whether the arrays begin at an address that allows several
// numbers in one access.
#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

constexpr Index n = 37;

/// The results of element-wise kernels, `offset` elements after an aligned address.
template <class T>
Values at_offset(Index offset) {
  using A = accumulator_of<T>;
  const auto moved = [&]<class X>(X, std::uint64_t seed) {
    Values all(static_cast<std::size_t>(offset), 1.0);
    for (double v : positive(n, seed)) all.push_back(v);
    return tensor<X, Cuda>(all, {offset + n});
  };
  const auto x = moved(T{}, 1), z = moved(T{}, 2);
  Values results;
  const auto keep = [&](const auto& y) {
    const Values all = values(y);
    results.insert(results.end(), all.begin() + offset, all.end());
  };
  const auto run = [&](auto f) {
    const auto y = moved(T{}, 3);
    f(x.data() + offset, z.data() + offset, y.data() + offset);
    keep(y);
  };
  using Y = T*;
  using X = const T*;
  run([](X a, X b, Y y) { Cuda::add(n, a, b, y); });
  run([](X a, X b, Y y) { Cuda::multiply(n, a, b, y); });
  run([](X a, X b, Y y) { Cuda::divide(n, a, b, y); });
  run([](X a, X, Y y) { Cuda::scale(n, A(0.3), a, y); });
  run([](X a, X b, Y y) { Cuda::scale_by(n, b, a, y); });
  run([](X a, X, Y y) { Cuda::exponential(n, a, y); });
  run([](X a, X, Y y) { Cuda::logarithm(n, a, y); });
  run([](X a, X, Y y) { Cuda::activation(Activation::gelu, n, a, y); });
  run([](X a, X b, Y y) { Cuda::activation_backward(Activation::gelu, n, a, b, y); });
  const auto sum = moved(A{}, 4);
  Cuda::axpy(n, A(0.3), x.data() + offset, sum.data() + offset);
  keep(sum);
  return results;
}

}  // namespace

TEST_CASE_TEMPLATE("element by element", T, float, double, bfloat16) {
  const Values want = at_offset<T>(0);
  for (Index offset : {1, 4}) CHECK(at_offset<T>(offset) == want);
}

TEST_CASE("bf16: rows that are put or added to their targets") {
  using T = bfloat16;
  const std::vector<std::int32_t> index{4, 0, 2};
  const auto targets = indices<Cuda>(index);
  for (Index offset : {0, 1}) {
    const auto x = tensor<T, Cuda>(normal(3 * 16 + offset, 1), {3 * 16 + offset});
    const auto put = tensor<T, Cuda>(Values(5 * 16, 0.0), {5 * 16});
    const auto added = tensor<accumulator_of<T>, Cuda>(
        Values(5 * 16 + static_cast<std::size_t>(offset), 0.0), {5 * 16 + offset});
    Cuda::put_rows(3, 16, x.data() + offset, 16, targets.data(), put.data());
    Cuda::scatter_add_rows(3, 16, x.data() + offset, targets.data(), added.data() + offset);
    const Values from = values(x), one = values(put), other = values(added);
    for (std::size_t r = 0; r < index.size(); ++r)
      for (std::size_t c = 0; c < 16; ++c) {
        const double want = from[r * 16 + c + static_cast<std::size_t>(offset)];
        const std::size_t at = static_cast<std::size_t>(index[r]) * 16 + c;
        CHECK(one[at] == want);
        CHECK(other[at + static_cast<std::size_t>(offset)] == want);
      }
  }
}

TEST_CASE_TEMPLATE("dropout's mask from random numbers in device memory is the host's", T, float,
                   double) {
  const Philox random(7, 3);
  const auto there = Tensor<Philox, Cuda>::from_host({&random, 1}, {1});
  const Tensor<T, Cuda> got({n}), want({n});
  Cuda::dropout_mask(n, there.data(), 5, 0.3, got.data());
  Cuda::dropout_mask(n, random.fork(5), 0.3, want.data());
  CHECK(values(got) == values(want));
}
