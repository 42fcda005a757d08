#pragma once
// Differentiable element-wise operations.
#include "hybridmed/autograd/parameter.hpp"
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed {

namespace detail {
inline void same_shape(std::string_view operation, const Shape& a, const Shape& b) {
  if (!(a == b))
    fail("autograd", operation, "expected two equal shapes, got " + a.str() + " and " + b.str());
}
/// Is b one element, () or (1), that is applied to all of an a of another shape?
/// @throws Error where it is neither that nor of a's shape.
inline bool one_for_all(std::string_view operation, const Shape& a, const Shape& b) {
  if (a == b) return false;
  if (b.rank() > 1 || b.size() != 1)
    fail("autograd", operation,
         "expected two equal shapes or a second of one element, () or (1), got " + a.str() +
             " and " + b.str());
  return true;
}
/// a + b, b one element.
template <Value V>
V add_one(const V& a, const V& b) {
  using B = backend_of<V>;
  tensor_of<V> y = tensor_of<V>::full(value(a).shape(), scalar_of<V>(1));
  B::scale_by(y.size(), value(b).data(), y.data(), y.data());
  B::add(y.size(), value(a).data(), y.data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(a, b))
      return recorded(std::move(y), [sa = a.slot, sb = b.slot, one = b.shape()](tensor_of<V> dy) {
        if (sb) B::sum(dy.size(), 1.0, dy.data(), sb->accumulator(one).data());
        if (sa) sa->add(std::move(dy));
      });
  return y;
}
}  // namespace detail

/// a + b. b has a's shape, or is one element, () or (1), that is added to all; the sum has a's
/// shape.
template <Value V>
V add(const V& a, const V& b) {
  using B = backend_of<V>;
  detail::need_defined("add", a, b);
  if (detail::one_for_all("add", value(a).shape(), value(b).shape())) return detail::add_one(a, b);
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

/// Never chosen for two values of one kind: these say what differs.
template <class X, class Y>
requires detail::of_two_kinds<X, Y>
void add(const X&, const Y&) { detail::need_one_kind<X, Y>(); }
template <class X, class Y>
requires detail::of_two_kinds<X, Y>
void multiply(const X&, const Y&) { detail::need_one_kind<X, Y>(); }

/// alpha x.
template <Value V>
V scale(const V& x, double alpha) {
  using B = backend_of<V>;
  detail::need_defined("scale", x);
  const auto factor = static_cast<accumulator_of<scalar_of<V>>>(alpha);
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

/// a b, element by element. b has a's shape, or is one element, () or (1), that multiplies all; the
/// product has a's shape.
template <Value V>
V multiply(const V& a, const V& b) {
  using B = backend_of<V>;
  detail::need_defined("multiply", a, b);
  const bool one = detail::one_for_all("multiply", value(a).shape(), value(b).shape());
  tensor_of<V> y(value(a).shape());
  if (one)
    B::scale_by(y.size(), value(b).data(), value(a).data(), y.data());
  else
    B::multiply(y.size(), value(a).data(), value(b).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(a, b))
      return recorded(std::move(y), [a, b, one](tensor_of<V> dy) {
        const Index n = dy.size();
        if (b.slot && one)
          B::dot(n, accumulator_of<scalar_of<V>>(1), dy.data(), a.tensor.data(),
                 b.slot->accumulator(b.shape()).data());
        if (b.slot && !one) {
          tensor_of<V> db(dy.shape());
          B::multiply(n, dy.data(), a.tensor.data(), db.data());
          b.slot->add(std::move(db));
        }
        if (!a.slot) return;
        tensor_of<V> da(dy.shape());
        if (one)
          B::scale_by(n, b.tensor.data(), dy.data(), da.data());
        else
          B::multiply(n, dy.data(), b.tensor.data(), da.data());
        a.slot->add(std::move(da));
      });
  return y;
}

/// x * mask, the mask a constant (dropout): of x's shape, or one element, () or (1).
template <Value V>
V multiply(const V& x, const tensor_of<V>& mask) requires is_recorded<V> {
  using B = backend_of<V>;
  detail::need_defined("multiply", x, mask);
  if (detail::one_for_all("multiply", x.shape(), mask.shape())) return multiply(x, V(mask));
  tensor_of<V> y(mask.shape());
  B::multiply(y.size(), x.tensor.data(), mask.data(), y.data());
  if (!recording(x)) return y;
  return recorded(std::move(y), [s = x.slot, mask](tensor_of<V> dy) {
    tensor_of<V> dx(dy.shape());
    B::multiply(dx.size(), dy.data(), mask.data(), dx.data());
    s->add(std::move(dx));
  });
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
