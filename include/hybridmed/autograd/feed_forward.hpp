#pragma once
// The two-layer feed-forward part as one operation, so that the activated hidden rows are rebuilt
// instead of stored.
#include "hybridmed/autograd/linear.hpp"

namespace hybridmed {

/// y = act(x w1^T + b1) w2^T + b2. x (rows, in), w1 (hidden, in), b1 (hidden), w2 (out, hidden), b2
/// (out) -> (rows, out), wide. Saved for the backward pass: x and the hidden rows before the
/// activation.
template <Value V>
Wide<V> feed_forward(const V& x, const Weight<V>& w1, const Wide<V>& b1, const Weight<V>& w2,
                     const Wide<V>& b2, Activation act) {
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
  tensor_of<V> pre({rows, hidden});
  {
    tensor_of<V> h({rows, hidden});
    detail::run_linear<B>(LinearArgs<T>{rows, in, hidden, value(x).data(), value(w1).data(),
                                        value(b1).data(), act, pre.data(), h.data()});
    detail::run_linear<B>(LinearArgs<T, A>{rows, hidden, out, h.data(), value(w2).data(),
                                           value(b2).data(), Activation::identity, nullptr,
                                           y.data()});
  }
  if constexpr (is_recorded<V>)
    if (recording(x, w1, b1, w2, b2))
      return recorded(std::move(y), [x, w1, w2, s1 = b1.slot, s2 = b2.slot, pre, act, rows, in,
                                     hidden, out](tensor_of<Wide<V>> wide_dy) {
        if (s2) B::column_sum(rows, out, wide_dy.data(), s2->accumulator({out}).data());
        const tensor_of<V> dy = detail::converted<T>(wide_dy);
        if (w2.slot) {
          tensor_of<V> h({rows, hidden});
          B::activation(act, h.size(), pre.data(), h.data());
          detail::weight_gradient(rows, hidden, out, dy, h, *w2.slot);
        }
        if (!x.slot && !w1.slot && !s1) return;
        tensor_of<V> dh({rows, hidden});
        B::gemm(false, false, rows, hidden, out, A(1), dy.data(), out, w2.tensor.data(), hidden,
                A(0), dh.data(), hidden);
        B::activation_backward(act, dh.size(), pre.data(), dh.data(), dh.data());
        detail::linear_backward(rows, in, hidden, dh, x, w1, s1);
      });
  return y;
}

}  // namespace hybridmed
