#pragma once
// Differentiable normalisation over columns (LayerNorm) and over rows (BatchNorm).
#include "hybridmed/autograd/elementwise.hpp"

namespace hybridmed {

/// LayerNorm over the last axis (Ba et al., 2016). x (rows, cols), gain and bias (cols) -> (rows,
/// cols).
template <Value V>
V layer_norm(const V& x, const V& gain, const V& bias, double eps) {
  using B = backend_of<V>;
  detail::need_defined("layer_norm", x, gain, bias);
  const Index rows = value(x).rows(), cols = value(x).cols();
  if (value(gain).size() != cols || value(bias).size() != cols)
    fail("autograd", "layer_norm",
         "expected gain and bias of " + std::to_string(cols) + " elements, got " +
             value(gain).shape().str());
  tensor_of<V> y({rows, cols}), mean({rows}), rstd({rows});
  B::layer_norm(rows, cols, value(x).data(), value(gain).data(), value(bias).data(), eps, y.data(),
                mean.data(), rstd.data());
  if constexpr (is_recorded<V>)
    if (recording(x, gain, bias))
      return recorded(
          std::move(y), [x, gain, sb = bias.slot, mean, rstd, rows, cols](tensor_of<V> dy) {
            tensor_of<V> dx;
            if (x.slot) dx = tensor_of<V>({rows, cols});
            B::layer_norm_backward(rows, cols, x.tensor.data(), gain.tensor.data(), mean.data(),
                                   rstd.data(), dy.data(), x.slot ? dx.data() : nullptr,
                                   gain.slot ? gain.slot->accumulator({cols}).data() : nullptr,
                                   sb ? sb->accumulator({cols}).data() : nullptr);
            if (x.slot) x.slot->add(std::move(dx));
          });
  return y;
}

/// BatchNorm with given per-column mean and 1/sqrt(var + eps). `moments`: they are those of x
/// itself, so the gradient flows through them too. x (rows, cols) -> (rows, cols).
template <Value V>
V batch_norm(const V& x, const V& gain, const V& bias, const tensor_of<V>& mean,
             const tensor_of<V>& rstd, bool moments) {
  using B = backend_of<V>;
  detail::need_defined("batch_norm", x, gain, bias, mean, rstd);
  const Index rows = value(x).rows(), cols = value(x).cols();
  if (value(gain).size() != cols || value(bias).size() != cols || mean.size() != cols ||
      rstd.size() != cols)
    fail("autograd", "batch_norm",
         "expected vectors of " + std::to_string(cols) + " elements, got " +
             value(gain).shape().str());
  tensor_of<V> y({rows, cols});
  B::batch_norm(rows, cols, value(x).data(), mean.data(), rstd.data(), value(gain).data(),
                value(bias).data(), y.data());
  if constexpr (is_recorded<V>)
    if (recording(x, gain, bias))
      return recorded(std::move(y), [x, gain, sb = bias.slot, mean, rstd, moments, rows,
                                     cols](tensor_of<V> dy) {
        tensor_of<V> dx, dgain = tensor_of<V>::zeros({cols}), dbias = tensor_of<V>::zeros({cols});
        if (x.slot) dx = tensor_of<V>({rows, cols});
        B::batch_norm_backward(rows, cols, x.tensor.data(), mean.data(), rstd.data(),
                               gain.tensor.data(), dy.data(), moments, x.slot ? dx.data() : nullptr,
                               dgain.data(), dbias.data());
        if (x.slot) x.slot->add(std::move(dx));
        if (gain.slot) gain.slot->add(std::move(dgain));
        if (sb) sb->add(std::move(dbias));
      });
  return y;
}

}  // namespace hybridmed
