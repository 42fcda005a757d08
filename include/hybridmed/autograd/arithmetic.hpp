#pragma once
// Differentiable arithmetic for objectives of one's own: exp and log, sums and means, the
// transpose. Products and sums of two are in elementwise.hpp, which this includes; losses are in
// losses.hpp.
#include "hybridmed/autograd/elementwise.hpp"

namespace hybridmed {

/// e^x, element by element.
template <Value V>
V exp(const V& x) {
  using B = backend_of<V>;
  detail::need_defined("exp", x);
  tensor_of<V> y(value(x).shape());
  B::exponential(y.size(), value(x).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(y, [s = x.slot, y](tensor_of<V> dy) {
        tensor_of<V> dx(dy.shape());
        B::multiply(dx.size(), dy.data(), y.data(), dx.data());
        s->add(std::move(dx));
      });
  return y;
}

/// The natural logarithm, element by element: -inf at 0, NaN below.
template <Value V>
V log(const V& x) {
  using B = backend_of<V>;
  detail::need_defined("log", x);
  tensor_of<V> y(value(x).shape());
  B::logarithm(y.size(), value(x).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y), [x](tensor_of<V> dy) {
        tensor_of<V> dx(dy.shape());
        B::divide(dx.size(), dy.data(), x.tensor.data(), dx.data());
        x.slot->add(std::move(dx));
      });
  return y;
}

namespace detail {
/// factor * sum of all elements -> (); of none 0, and no gradient.
template <Value V>
V scaled_sum(const V& x, double factor) {
  using A = accumulator_of<scalar_of<V>>;
  using B = backend_of<V>;
  const Index n = value(x).size();
  tensor_of<V> y = tensor_of<V>::zeros(Shape{});
  B::sum(n, factor, value(x).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x) && n > 0)
      return recorded(std::move(y), [s = x.slot, shape = x.shape(), factor](tensor_of<V> dy) {
        const auto one = detail::converted<A>(dy);
        Tensor<A, B> dx = Tensor<A, B>::full(shape, static_cast<A>(factor));
        B::scale_by(dx.size(), one.data(), dx.data(), dx.data());
        s->add(std::move(dx));
      });
  return y;
}
}  // namespace detail

/// The sum of all elements -> (), summed in double whatever the scalar, in an order that the number
/// of threads does not change; of none 0, and no gradient.
template <Value V>
V sum(const V& x) {
  detail::need_defined("sum", x);
  return detail::scaled_sum(x, 1);
}

/// The mean of all elements -> (), summed as `sum` does; of none 0, and no gradient.
template <Value V>
V mean(const V& x) {
  detail::need_defined("mean", x);
  const Index n = value(x).size();
  return detail::scaled_sum(x, n > 0 ? 1 / static_cast<double>(n) : 0);
}

/// x^T: (n, m) -> (m, n).
template <Value V>
V transpose(const V& x) {
  using B = backend_of<V>;
  detail::need_defined("transpose", x);
  if (value(x).shape().rank() != 2)
    fail("autograd", "transpose", "expected a matrix (n, m), got " + value(x).shape().str());
  const Index n = value(x).rows(), m = value(x).cols();
  tensor_of<V> y({m, n});
  B::transpose(1, n, m, value(x).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y), [s = x.slot, n, m](tensor_of<V> dy) {
        tensor_of<V> dx({n, m});
        B::transpose(1, m, n, dy.data(), dx.data());
        s->add(std::move(dx));
      });
  return y;
}

/// a - b; b as in `add`.
template <Value V>
V subtract(const V& a, const V& b) {
  return add(a, scale(b, -1));
}

}  // namespace hybridmed
