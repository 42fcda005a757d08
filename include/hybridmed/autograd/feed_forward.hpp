#pragma once
// The two-layer feed-forward part as one operation, so that the activated hidden rows are rebuilt
// instead of stored.
#include "hybridmed/autograd/linear.hpp"

namespace hybridmed {

/// y = act(x w1^T + b1) w2^T + b2 + residual. x (rows, in), w1 (hidden, in), b1 (hidden), w2 (out,
/// hidden), b2 (out), residual (rows, out) or null -> (rows, out), wide. Saved for the backward
/// pass: x and the hidden rows before the activation.
template <Value V>
Wide<V> feed_forward(const V& x, const Weight<V>& w1, const Wide<V>& b1, const Weight<V>& w2,
                     const Wide<V>& b2, Activation act, const Wide<V>* residual = nullptr) {
  using T = scalar_of<V>;
  using A = accumulator_of<T>;
  using B = backend_of<V>;
  detail::need_defined("feed_forward", x, w1, b1, w2, b2);
  const Index rows = value(x).rows(), in = value(x).cols(), hidden = value(w1).rows(),
              out = value(w2).rows();
  if (value(w1).cols() != in || value(w2).cols() != hidden)
    fail("autograd", "feed_forward",
         "expected x (rows, in), w1 (hidden, in), w2 (out, hidden), got " + value(x).shape().str() +
             ", " + value(w1).shape().str() + ", " + value(w2).shape().str());
  if (value(b1).size() != hidden || value(b2).size() != out)
    fail("autograd", "feed_forward",
         "expected biases (" + std::to_string(hidden) + ") and (" + std::to_string(out) +
             "), got " + value(b1).shape().str() + " and " + value(b2).shape().str());
  tensor_of<Wide<V>> y({rows, out});
  detail::need_residual("feed_forward", residual, y.shape());
  tensor_of<V> pre({rows, hidden});
  {
    tensor_of<V> h({rows, hidden});
    detail::run_linear<B>(LinearArgs<T>{rows, in, hidden, value(x).data(), value(w1).data(),
                                        value(b1).data(), act, pre.data(), h.data()});
    detail::run_linear<B>(LinearArgs<T, A>{rows, hidden, out, h.data(), value(w2).data(),
                                           value(b2).data(), Activation::identity, nullptr,
                                           y.data(), residual ? value(*residual).data() : nullptr});
  }
  if constexpr (is_recorded<V>) {
    const bool added = residual && recording(*residual);
    if (recording(x, w1, b1, w2, b2) || added)
      return recorded(std::move(y), [x, w1, w2, s1 = b1.slot, s2 = b2.slot,
                                     sr = residual ? residual->slot : nullptr, pre, act, rows,
                                     hidden, out](tensor_of<Wide<V>> dy) {
        using Gradients = LinearGradients<T, A>;
        using Sum = typename Gradients::Sum;
        if (sr) sr->add(dy);
        Gradients a{rows, hidden, out, dy.data(), w2.tensor.data(), nullptr, act, pre.data()};
        a.dweight = detail::sum_in<Sum>(w2.slot, {out, hidden});
        a.dbias = detail::sum_in<Sum>(s2, {out});
        tensor_of<V> dpre;
        if (x.slot || w1.slot || s1) {
          dpre = tensor_of<V>({rows, hidden});
          a.dx = dpre.data();
          if (s1 != s2) a.dx_sum = detail::sum_in<Sum>(s1, {hidden});
        }
        detail::run_linear_backward<B>(a);
        // One bias for both layers: its two sums come one after the other.
        GradientSlot<A, B>* const left = s1 == s2 ? s1 : nullptr;
        if (x.slot || w1.slot || left) detail::linear_backward(dpre, x, w1, left);
      });
  }
  return y;
}

}  // namespace hybridmed
