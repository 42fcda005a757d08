#pragma once
// The basic layers: Linear, LayerNorm, Dropout, BatchNorm, Convolution.
#include <cmath>
#include <optional>

#include "hybridmed/autograd/convolution.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/norm.hpp"
#include "hybridmed/backend/concept.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::nn {

/// y = x W^T + b; W (out, in), N(0, .02) unless told otherwise; b 0.
template <class T, class B>
struct Linear {
  Parameter<T, B> weight, bias;
  bool has_bias = true;

  Linear() = default;
  Linear(Index in, Index out, bool with_bias = true, Initial how = init::normal(0.02))
      : weight({out, in}, how), has_bias(with_bias) {
    if (has_bias) bias = Parameter<T, B>({out}, init::zeros());
  }
  template <class F>
  void visit(F&& f) {
    f("weight", weight);
    if (has_bias) f("bias", bias);
  }
  /// x (rows, in), in T or wider -> (rows, out) in T
  template <Value X>
  Like<X, T> operator()(const X& x) const {
    return as<Like<X, T>>(x);
  }
  /// The same, wide: for what is added up, or what a loss reads.
  template <Value X>
  Wide<Like<X, T>> wide(const X& x) const {
    return as<Wide<Like<X, T>>>(x);
  }
  /// residual + wide(x), in the pass of the product where the backend has that.
  template <Value X>
  Wide<Like<X, T>> onto(const Wide<Like<X, T>>& residual, const X& x) const {
    return as<Wide<Like<X, T>>>(x, &residual);
  }

 private:
  template <Value Y, Value X>
  Y as(const X& x, const Y* residual = nullptr) const {
    using V = Like<X, T>;
    if (!has_bias) return linear_as<Y, V>(narrow<T>(x), use<V>(weight), nullptr, residual);
    const Wide<V> b = use<Wide<V>>(bias);
    return linear_as<Y, V>(narrow<T>(x), use<V>(weight), &b, residual);
  }
};

/// LayerNorm over the last axis.
template <class T, class B>
struct LayerNorm {
  Parameter<T, B> weight, bias;
  double eps = 1e-5;

  LayerNorm() = default;
  explicit LayerNorm(Index width, double eps_ = 1e-5)
      : weight({width}, init::ones()), bias({width}, init::zeros()), eps(eps_) {}
  template <class F>
  void visit(F&& f) {
    f("weight", weight);
    f("bias", bias);
  }
  /// x (rows, width), in T or wider -> the same shape in T
  template <Value X>
  Like<X, T> operator()(const X& x) const {
    using V = Like<X, T>;
    return layer_norm_as<V>(x, use<Wide<V>>(weight), use<Wide<V>>(bias), eps);
  }
  /// The same, wide: for what several readers take, each of which rounds it for itself.
  template <Value X>
  Wide<X> wide(const X& x) const {
    using W = Wide<X>;
    return layer_norm(widen(x), use<W>(weight), use<W>(bias), eps);
  }
  /// (x + y, its norm), one operation; x and y are wide, the norm in T.
  template <Value W>
  std::pair<W, Like<W, T>> after_add(const W& x, const W& y) const {
    return add_norm_as<Like<W, T>>(x, y, use<W>(weight), use<W>(bias), eps);
  }
};

/// Inverted dropout; the identity in evaluation. Each call in a step needs its own `site`.
struct Dropout {
  double probability = 0;
  bool drops(const Mode& mode) const { return mode.dropout && probability > 0; }
  template <Value V>
  V operator()(const V& x, const Mode& mode, std::uint64_t site) const {
    if (!drops(mode)) return x;
    tensor_of<Wide<V>> mask(value(x).shape());
    draw(mask, mode, site);
    return narrow<scalar_of<V>>(multiply(widen(x), mask));
  }

 private:
  template <class A, class B>
  void draw(Tensor<A, B>& mask, const Mode& mode, std::uint64_t site) const {
    if constexpr (BackendReplay<B, A>)
      if (mode.random_in_backend)
        return B::dropout_mask(mask.size(), mode.random_in_backend, site, probability, mask.data());
    B::dropout_mask(mask.size(), mode.random.fork(site), probability, mask.data());
  }
};

/// BatchNorm over all rows; running averages with momentum 0.1 and unbiased variance.
template <class T, class B>
struct BatchNorm {
  using A = accumulator_of<T>;
  Parameter<T, B> weight, bias;
  Buffer<T, B> running_mean, running_var;
  double eps = 1e-5, momentum = 0.1;

  BatchNorm() = default;
  explicit BatchNorm(Index channels)
      : weight({channels}, init::ones()),
        bias({channels}, init::zeros()),
        running_mean({channels}, A(0)),
        running_var({channels}, A(1)) {}
  template <class F>
  void visit(F&& f) {
    f("weight", weight);
    f("bias", bias);
    f("running_mean", running_mean);
    f("running_var", running_var);
  }
  /// wide_x (rows, channels), in T or wider -> the same shape in T
  template <Value X>
  Like<X, T> operator()(const X& wide_x, const Mode& mode) const {
    using V = Like<X, T>;
    const V x = narrow<T>(wide_x);
    const Index rows = value(x).rows(), n = value(x).cols();
    const bool batch = mode.statistics != Mode::Statistics::running;
    Tensor<A, B> mean = running_mean.value, rstd({n});
    if (batch) {
      Tensor<A, B> var({n});
      mean = Tensor<A, B>({n});
      B::column_moments(rows, n, value(x).data(), mean.data(), var.data());
      if (mode.statistics == Mode::Statistics::batch_and_move) {
        if (rows < 2)
          fail("nn", "BatchNorm", "batch statistics of one row", "use a larger batch or image");
        if (!Tape::again()) {
          const double unbiased = static_cast<double>(rows) / static_cast<double>(rows - 1);
          move(running_mean, mean, momentum);
          move(running_var, var, momentum, unbiased);
        }
      }
      B::reciprocal_sqrt(n, var.data(), static_cast<A>(eps), rstd.data());
    } else {
      B::reciprocal_sqrt(n, running_var.value.data(), static_cast<A>(eps), rstd.data());
    }
    return batch_norm(x, use<Wide<V>>(weight), use<Wide<V>>(bias), mean, rstd, batch);
  }

 private:
  static void move(const Buffer<T, B>& running, const Tensor<A, B>& now, double momentum,
                   double factor = 1) {
    B::scale(now.size(), static_cast<A>(1 - momentum), running.value.data(), running.value.data());
    B::axpy(now.size(), static_cast<A>(momentum * factor), now.data(), running.value.data());
  }
};

/// Convolution without bias on channels-last rows; weight (out, in, k, k), padding k / 2; its
/// outputs keep the variance of a ReLU network (He et al., ICCV 2015, by fan-out).
template <class T, class B>
struct Convolution {
  Parameter<T, B> weight;
  Index stride = 1;

  Convolution() = default;
  Convolution(Index in, Index out, Index kernel, Index stride_ = 1)
      : weight({out, in, kernel, kernel},
               init::normal(std::sqrt(2.0 / static_cast<double>(out * kernel * kernel)))),
        stride(stride_) {}
  template <class F>
  void visit(F&& f) {
    f("weight", weight);
  }
  ConvShape shape(Index batch, Index side) const {
    const Shape& w = weight.value.shape();
    return {batch, side, side, w[1], w[0], w[2], stride, w[2] / 2};
  }
  /// x (batch * side * side, in) -> (batch * out_side * out_side, out)
  template <Value X>
  Like<X, T> operator()(const X& x, Index batch, Index side) const {
    return conv2d(narrow<T>(x), use<Like<X, T>>(weight), shape(batch, side));
  }
};

}  // namespace hybridmed::nn
