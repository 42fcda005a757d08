#pragma once
// A kernel of the CUDA backend against the same kernel of the reference backend.
#include <doctest/doctest.h>

#include <functional>

#include "hybridmed/backend/cuda/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "support.hpp"

namespace hybridmed::test {

/// Float kernels sum in float and call the device's own exp and erf.
template <class T>
inline constexpr double tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;

/// Runs f on both backends with the same inputs and initial outputs; every output must agree.
template <class T, class F>
void conform(const std::string& name, const std::vector<Values>& in,
             const std::vector<std::int32_t>& index, const std::vector<Values>& out, F&& f) {
  const auto run = [&]<class B>(B) {
    std::vector<Tensor<T, B>> x, y;
    for (const Values& v : in) x.push_back(tensor<T, B>(v, {static_cast<Index>(v.size())}));
    for (const Values& v : out) y.push_back(tensor<T, B>(v, {static_cast<Index>(v.size())}));
    const IndexTensor<B> i = indices<B>(index);
    f(B{}, x, i.data(), y);
    std::vector<Values> result;
    for (const auto& t : y) result.push_back(values(t));
    return result;
  };
  const auto want = run(Reference{}), got = run(Cuda{});
  for (std::size_t k = 0; k < out.size(); ++k) {
    CAPTURE(name);
    CAPTURE(k);
    CHECK(difference(got[k], want[k]) <= tolerance<T> * std::max(1.0, largest(want[k])));
  }
}

inline Values garbage(Index n) {
  return Values(static_cast<std::size_t>(n), std::numeric_limits<double>::quiet_NaN());
}
inline Values positive(Index n, std::uint64_t seed) {
  Values v = normal(n, seed);
  for (double& x : v) x = x * x + 0.01;
  return v;
}
inline std::string sizes(std::initializer_list<Index> n) { return Shape(n).str(); }

inline constexpr Index lengths[] = {0, 1, 3, 31, 33, 257, 1500};

}  // namespace hybridmed::test
