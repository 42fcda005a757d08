#pragma once
// What several test files share: values in and out of tensors, leaves with gradients, and small
// random inputs.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "hybridmed/autograd/parameter.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/core/philox.hpp"

namespace hybridmed::test {

/// A scalar type and a backend, for templated test cases.
template <class T_, class B_>
struct On {
  using T = T_;
  using B = B_;
};

using Values = std::vector<double>;

template <class T, class B>
Tensor<T, B> tensor(const Values& x, const Shape& shape) {
  return Tensor<T, B>::from_host(std::vector<T>(x.begin(), x.end()), shape);
}
template <class B>
IndexTensor<B> indices(const std::vector<std::int32_t>& x) {
  return IndexTensor<B>::from_host(x, {static_cast<Index>(x.size())});
}
template <class T, class B>
Values values(const Tensor<T, B>& t) {
  const std::vector<T> x = t.to_host();
  return Values(x.begin(), x.end());
}
/// A weight or an input whose gradient a test looks at.
template <class T, class B>
Parameter<T, B> leaf(const Values& x, const Shape& shape) {
  Parameter<T, B> p(shape, init::zeros());
  p.value = tensor<T, B>(x, shape);
  return p;
}
/// The gradient of a leaf; none counts as zero.
template <class T, class B>
Values gradient(const MasterParameter<T, B>& p) {
  return p.slot.grad.defined() ? values(p.slot.grad)
                               : Values(static_cast<std::size_t>(p.value.size()), 0.0);
}

inline Values normal(Index n, std::uint64_t seed, double stddev = 1) {
  Values x;
  for (Index i = 0; i < n; ++i)
    x.push_back(stddev * Philox(seed, 77).normal(static_cast<std::uint64_t>(i)));
  return x;
}
/// Largest |a - b|; infinite where the lengths differ or an entry is not a number.
inline double difference(const Values& a, const Values& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double e = std::abs(a[i] - b[i]);
    worst = std::isnan(e) ? std::numeric_limits<double>::infinity() : std::max(worst, e);
  }
  return worst;
}
inline double largest(const Values& a) { return difference(a, Values(a.size(), 0.0)); }
/// The entries [begin, end) of a row-major matrix's rows.
inline Values rows_of(const Values& x, Index cols, Index begin, Index end) {
  return Values(x.begin() + begin * cols, x.begin() + end * cols);
}

}  // namespace hybridmed::test
