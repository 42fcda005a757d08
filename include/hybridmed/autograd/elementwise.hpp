#pragma once
// Differentiable element-wise operations.
#include "hybridmed/autograd/variable.hpp"
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed {

namespace detail {
inline void same_shape(std::string_view operation, const Shape& a, const Shape& b) {
  if (!(a == b))
    fail("autograd", operation, "expected two equal shapes, got " + a.str() + " and " + b.str());
}
}  // namespace detail

/// a + b, equal shapes.
template <Value V>
V add(const V& a, const V& b) {
  using B = backend_of<V>;
  detail::need_defined("add", a, b);
  detail::same_shape("add", value(a).shape(), value(b).shape());
  tensor_of<V> y(value(a).shape());
  B::add(y.size(), value(a).data(), value(b).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(a, b))
      return recorded(std::move(y), [sa = a.slot, sb = b.slot](tensor_of<V> dy) {
        if (sa) sa->add(dy);
        if (sb) sb->add(std::move(dy));
      });
  return y;
}

/// alpha x.
template <Value V>
V scale(const V& x, double alpha) {
  using B = backend_of<V>;
  detail::need_defined("scale", x);
  const auto factor = static_cast<scalar_of<V>>(alpha);
  tensor_of<V> y(value(x).shape());
  B::scale(y.size(), factor, value(x).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y), [s = x.slot, factor](tensor_of<V> dy) {
        tensor_of<V> dx(dy.shape());
        B::scale(dx.size(), factor, dy.data(), dx.data());
        s->add(std::move(dx));
      });
  return y;
}

/// x * mask, the mask a constant of equal shape (dropout).
template <Value V>
V multiply(const V& x, const tensor_of<V>& mask) {
  using B = backend_of<V>;
  detail::need_defined("multiply", x, mask);
  detail::same_shape("multiply", value(x).shape(), mask.shape());
  tensor_of<V> y(mask.shape());
  B::multiply(y.size(), value(x).data(), mask.data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y), [s = x.slot, mask](tensor_of<V> dy) {
        tensor_of<V> dx(dy.shape());
        B::multiply(dx.size(), dy.data(), mask.data(), dx.data());
        s->add(std::move(dx));
      });
  return y;
}

/// act(x).
template <Value V>
V activate(const V& x, Activation kind) {
  using B = backend_of<V>;
  detail::need_defined("activate", x);
  if (kind == Activation::identity) return x;
  tensor_of<V> y(value(x).shape());
  B::activation(kind, y.size(), value(x).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x))
      return recorded(std::move(y), [x, kind](tensor_of<V> dy) {
        tensor_of<V> dx = dy.unique() ? std::move(dy) : tensor_of<V>(dy.shape());
        B::activation_backward(kind, dx.size(), x.tensor.data(),
                               dy.defined() ? dy.data() : dx.data(), dx.data());
        x.slot->add(std::move(dx));
      });
  return y;
}

}  // namespace hybridmed
