#pragma once
// Differentiable normalisation over columns (LayerNorm) and over rows (BatchNorm).
#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/backend/concept.hpp"

namespace hybridmed {

namespace detail {
/// Sends the gradient of a LayerNorm of x on to x, gain and bias, each where it is wanted; to what
/// `sx` holds already it is added in the same pass where the backend has that.
template <class X, class T, class B, class A = accumulator_of<T>>
void layer_norm_backward(const Tensor<X, B>& x, const Variable<A, B>& gain,
                         const Tensor<A, B>& mean, const Tensor<A, B>& rstd, const Tensor<T, B>& dy,
                         GradientSlot<X, B>* sx, GradientSlot<A, B>* sb) {
  const Index rows = x.rows(), cols = x.cols();
  A* const dgain = gain.slot ? gain.slot->accumulator({cols}).data() : nullptr;
  A* const dbias = sb ? sb->accumulator({cols}).data() : nullptr;
  if constexpr (std::is_same_v<X, A> && BackendAddNormGradient<B, T>)
    if (sx && sx->defined() && sx->grad.size() == x.size()) {
      Tensor<A, B> sum = sx->grad.unique() ? sx->grad : Tensor<A, B>(sx->shape());
      if (B::add_norm_backward(rows, cols, x.data(), gain.tensor.data(), mean.data(), rstd.data(),
                               dy.data(), sx->grad.data(), sum.data(), dgain, dbias)) {
        sx->grad = std::move(sum);
        return;
      }
    }
  Tensor<X, B> dx;
  if (sx) dx = Tensor<X, B>({rows, cols});
  B::layer_norm_backward(rows, cols, x.data(), gain.tensor.data(), mean.data(), rstd.data(),
                         dy.data(), sx ? dx.data() : nullptr, dgain, dbias);
  if (sx) sx->add(std::move(dx));
}
}  // namespace detail

/// LayerNorm over the last axis (Ba et al., 2016), its result in the scalar of V, which x has too
/// or is wider than. x (rows, cols), gain and bias (cols) -> (rows, cols).
template <Value V, Value X>
V layer_norm_as(const X& x, const Wide<V>& gain, const Wide<V>& bias, double eps) {
  detail::need_precision<detail::of_precision<X, scalar_of<V>>>();
  using B = backend_of<V>;
  detail::need_defined("layer_norm", x, gain, bias);
  const Index rows = value(x).rows(), cols = value(x).cols();
  if (value(gain).size() != cols || value(bias).size() != cols)
    fail("autograd", "layer_norm",
         "expected gain and bias of " + std::to_string(cols) + " elements, got " +
             value(gain).shape().str());
  tensor_of<V> y({rows, cols});
  tensor_of<Wide<V>> mean({rows}), rstd({rows});
  B::layer_norm(rows, cols, value(x).data(), value(gain).data(), value(bias).data(), eps, y.data(),
                mean.data(), rstd.data());
  if constexpr (is_recorded<V>)
    if (recording(x, gain, bias))
      return recorded(std::move(y), [x, gain, sb = bias.slot, mean, rstd](tensor_of<V> dy) {
        detail::layer_norm_backward(x.tensor, gain, mean, rstd, dy, x.slot, sb);
      });
  return y;
}
/// The same in x's own scalar.
template <Value V>
V layer_norm(const V& x, const Wide<V>& gain, const Wide<V>& bias, double eps) {
  return layer_norm_as<V>(x, gain, bias, eps);
}

/// The residual stream x + y and its LayerNorm: one operation with two outputs, in one pass where
/// the backend has it, with the bits of add and layer_norm. x, y (rows, cols), gain and bias (cols)
/// -> (x + y, norm), both (rows, cols); the sum is wide, the norm in the scalar of V.
template <Value V>
std::pair<Wide<V>, V> add_norm_as(const Wide<V>& x, const Wide<V>& y, const Wide<V>& gain,
                                  const Wide<V>& bias, double eps) {
  using T = scalar_of<V>;
  using A = accumulator_of<T>;
  using Sum = tensor_of<Wide<V>>;
  using B = backend_of<V>;
  detail::need_defined("add_norm", x, y, gain, bias);
  detail::same_shape("add_norm", value(x).shape(), value(y).shape());
  const Index rows = value(x).rows(), cols = value(x).cols();
  if (value(gain).size() != cols || value(bias).size() != cols)
    fail("autograd", "add_norm",
         "expected gain and bias of " + std::to_string(cols) + " elements, got " +
             value(gain).shape().str() + " and " + value(bias).shape().str());
  Sum sum(value(x).shape()), mean({rows}), rstd({rows});
  tensor_of<V> norm({rows, cols});
  bool fused = false;
  if constexpr (BackendFusedAddNorm<B, T>)
    fused = B::add_norm(rows, cols, value(x).data(), value(y).data(), value(gain).data(),
                        value(bias).data(), eps, sum.data(), norm.data(), mean.data(), rstd.data());
  if (!fused) {
    B::add(sum.size(), value(x).data(), value(y).data(), sum.data());
    B::layer_norm(rows, cols, sum.data(), value(gain).data(), value(bias).data(), eps, norm.data(),
                  mean.data(), rstd.data());
  }
  if constexpr (is_recorded<V>)
    if (recording(x, y, gain, bias)) {
      auto [residual, normed] = recorded_many(
          std::tuple(sum, std::move(norm)), [sx = x.slot, sy = y.slot, gain, sb = bias.slot, sum,
                                             mean, rstd](Sum dsum, tensor_of<V> dnorm) {
            GradientSlot<A, B> dx{std::move(dsum)};
            if (dnorm.defined())
              detail::layer_norm_backward(sum, gain, mean, rstd, dnorm, sx || sy ? &dx : nullptr,
                                          sb);
            if (sx) sx->add(dx.grad);
            if (sy) sy->add(std::move(dx.grad));
          });
      if (!recording(x, y)) residual.slot = nullptr;  // a constant, whatever gain and bias are
      return {std::move(residual), std::move(normed)};
    }
  return {Wide<V>(std::move(sum)), V(std::move(norm))};
}

/// The same in the scalar of x and y.
template <Value V>
std::pair<V, V> add_norm(const V& x, const V& y, const V& gain, const V& bias, double eps) {
  return add_norm_as<V>(x, y, gain, bias, eps);
}

/// BatchNorm with given per-column mean and 1/sqrt(var + eps). `moments`: they are those of x
/// itself, so the gradient flows through them too. x (rows, cols) -> (rows, cols).
template <Value V>
V batch_norm(const V& x, const Wide<V>& gain, const Wide<V>& bias, const tensor_of<Wide<V>>& mean,
             const tensor_of<Wide<V>>& rstd, bool moments) {
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
        tensor_of<V> dx;
        auto dgain = tensor_of<Wide<V>>::zeros({cols}), dbias = tensor_of<Wide<V>>::zeros({cols});
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
