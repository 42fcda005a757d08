#pragma once
// Differentiable matrix products.
#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/backend/concept.hpp"

namespace hybridmed {

namespace detail {
/// A linear layer, in as few passes as the backend has for it.
template <class B, class T, class Y>
void run_linear(const LinearArgs<T, Y>& a) {
  using A = accumulator_of<T>;
  if constexpr (BackendLinear<B, T, Y>)
    if (B::linear(a)) return;
  Y* const pre = a.pre ? a.pre : a.y;
  const auto sum_into = [&](auto* sum) {
    B::gemm(false, true, a.rows, a.out, a.in, A(1), a.x, a.in, a.weight, a.in, A(0), sum, a.out);
    if (a.bias) B::add_vector(a.rows, a.out, sum, a.bias, sum);
  };
  if (std::is_same_v<Y, A> || !a.bias) {
    sum_into(pre);
  } else if constexpr (!std::is_same_v<Y, A>) {  // rounded once, after the bias
    const Tensor<A, B> sum({a.rows, a.out});
    sum_into(sum.data());
    B::convert(sum.size(), sum.data(), pre);
  }
  if (a.activation != Activation::identity)
    B::activation(a.activation, a.rows * a.out, pre, a.y);
  else if (pre != a.y)
    B::copy(a.rows * a.out, pre, a.y);
  if (a.residual) B::add(a.rows * a.out, a.residual, a.y, a.y);
}
/// Its gradients, likewise.
template <class B, class T, class Y>
void run_linear_backward(const LinearGradients<T, Y>& a) {
  using A = accumulator_of<T>;
  if constexpr (BackendLinearGradients<B, T, Y>)
    if (B::linear_backward(a)) return;
  const auto add_rows = [&](Index cols, const auto* terms, const auto& sum) {
    if (!sum.to) return;
    if (!sum.holds) B::fill(cols, A(0), sum.to);
    B::column_sum(a.rows, cols, terms, sum.to);
  };
  add_rows(a.out, a.dy, a.dbias);
  if (!a.dweight.to && !a.dx) return;
  Tensor<T, B> narrowed;
  const T* dy;
  if constexpr (std::is_same_v<T, Y>) {
    dy = a.dy;
  } else {
    narrowed = Tensor<T, B>({a.rows, a.out});
    B::convert(narrowed.size(), a.dy, narrowed.data());
    dy = narrowed.data();
  }
  if (a.dweight.to) {
    const T* x = a.x;
    Tensor<T, B> rebuilt;
    if (a.pre) {  // where dx will be
      if (!a.dx) rebuilt = Tensor<T, B>({a.rows, a.in});
      T* const active = a.dx ? a.dx : rebuilt.data();
      B::activation(a.activation, a.rows * a.in, a.pre, active);
      x = active;
    }
    B::gemm(true, false, a.out, a.in, a.rows, A(1), dy, a.out, x, a.in,
            a.dweight.holds ? A(1) : A(0), a.dweight.to, a.in);
  }
  if (!a.dx) return;
  B::gemm(false, false, a.rows, a.in, a.out, A(1), dy, a.out, a.weight, a.in, A(0), a.dx, a.in);
  if (a.pre) B::activation_backward(a.activation, a.rows * a.in, a.pre, a.dx, a.dx);
  add_rows(a.in, a.dx, a.dx_sum);
}
/// Where the backend adds to the gradient in a slot; nowhere, without a slot.
template <class Sum, class M, class B>
Sum sum_in(GradientSlot<M, B>* slot, const Shape& shape) {
  if (!slot) return {};
  const auto [gradient, holds] = slot->target(shape);
  return {gradient.data(), holds};
}
/// Sends the gradient of a result in Y on to x, w and b, each where it is wanted.
template <class Y, class T, class B>
void linear_backward(const Tensor<Y, B>& dy, const Variable<T, B>& x,
                     const Weight<Variable<T, B>>& w, GradientSlot<master_of<T>, B>* b) {
  using Sum = typename LinearGradients<T, Y>::Sum;
  LinearGradients<T, Y> a{x.rows(),  x.cols(),        w.rows(),
                          dy.data(), w.tensor.data(), x.tensor.data()};
  a.dbias = sum_in<Sum>(b, {a.out});
  a.dweight = sum_in<Sum>(w.slot, {a.out, a.in});
  Tensor<T, B> dx;
  if (x.slot) {
    dx = Tensor<T, B>(x.shape());
    a.dx = dx.data();
  }
  run_linear_backward<B>(a);
  if (x.slot) x.slot->add(std::move(dx));
}
/// @throws Error where the residual stream that a result (rows, out) is added to has another shape.
template <Value Y>
void need_residual(std::string_view operation, const Y* residual, const Shape& result) {
  if (!residual) return;
  need_defined(operation, *residual);
  if (!(value(*residual).shape() == result))
    fail("autograd", operation,
         "expected a residual " + result.str() + ", got " + value(*residual).shape().str());
}
}  // namespace detail

/// y = x w^T + b + residual, in the scalar of Y: V, or wide, where it is a term of a sum. x (rows,
/// in), w (out, in), b (out) or null, residual (rows, out) or null -> (rows, out).
template <Value Y, Value V>
Y linear_as(const V& x, const Weight<V>& w, const Wide<V>* b = nullptr,
            const Y* residual = nullptr) {
  using T = scalar_of<V>;
  using B = backend_of<V>;
  detail::need_defined("linear", x, w);
  if (b) detail::need_defined("linear", *b);
  const Index rows = value(x).rows(), in = value(x).cols(), out = value(w).rows();
  if (value(w).cols() != in)
    fail("autograd", "linear",
         "expected x (rows, in) and w (out, in), got " + value(x).shape().str() + " and " +
             value(w).shape().str());
  if (b && value(*b).size() != out)
    fail("autograd", "linear",
         "expected a bias (" + std::to_string(out) + "), got " + value(*b).shape().str());
  tensor_of<Y> y({rows, out});
  detail::need_residual("linear", residual, y.shape());
  detail::run_linear<B>(LinearArgs<T, scalar_of<Y>>{
      rows, in, out, value(x).data(), value(w).data(), b ? value(*b).data() : nullptr,
      Activation::identity, nullptr, y.data(), residual ? value(*residual).data() : nullptr});
  if constexpr (is_recorded<V>) {
    const bool biased = b && recording(*b), added = residual && recording(*residual);
    if (recording(x, w) || biased || added)
      return recorded(std::move(y), [x, w, sb = b ? b->slot : nullptr,
                                     sr = residual ? residual->slot : nullptr](tensor_of<Y> dy) {
        if (sr) sr->add(dy);
        detail::linear_backward(dy, x, w, sb);
      });
  }
  return y;
}
/// The same in x's own scalar.
template <Value V>
V linear(const V& x, const Weight<V>& w, const Wide<V>* b = nullptr) {
  return linear_as<V>(x, w, b);
}

/// exp(log_scale) u v^T. u (n, d), v (m, d), log_scale one element -> (n, m).
template <Value V>
V scaled_similarity(const V& u, const V& v, const V& log_scale) {
  using T = scalar_of<V>;
  using B = backend_of<V>;
  detail::need_loss_scalar<V>();
  detail::need_defined("scaled_similarity", u, v, log_scale);
  const Index n = value(u).rows(), m = value(v).rows(), d = value(u).cols();
  if (value(v).cols() != d)
    fail("autograd", "scaled_similarity",
         "expected equal widths, got " + value(u).shape().str() + " and " + value(v).shape().str());
  if (value(log_scale).size() != 1)
    fail("autograd", "scaled_similarity",
         "expected one log_scale, got shape " + value(log_scale).shape().str());
  tensor_of<V> sigma({1}), raw({n, m}), y({n, m});
  B::exponential(1, value(log_scale).data(), sigma.data());
  B::gemm(false, true, n, m, d, T(1), value(u).data(), d, value(v).data(), d, T(0), raw.data(), m);
  B::scale_by(n * m, sigma.data(), raw.data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(u, v, log_scale))
      return recorded(y, [u, v, s = log_scale.slot, shape = log_scale.shape(), sigma, y, n, m,
                          d](tensor_of<V> dy) {
        if (s) B::dot(n * m, T(1), dy.data(), y.data(), s->accumulator(shape).data());
        tensor_of<V> g({n, m});
        B::scale_by(n * m, sigma.data(), dy.data(), g.data());
        if (u.slot) {
          tensor_of<V> du({n, d});
          B::gemm(false, false, n, d, m, T(1), g.data(), m, v.tensor.data(), d, T(0), du.data(), d);
          u.slot->add(std::move(du));
        }
        if (v.slot) {
          tensor_of<V> dv({m, d});
          B::gemm(true, false, m, d, n, T(1), g.data(), m, u.tensor.data(), d, T(0), dv.data(), d);
          v.slot->add(std::move(dv));
        }
      });
  return y;
}

}  // namespace hybridmed
