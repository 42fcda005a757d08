#pragma once
// Attention layers over packed rows.
#include "hybridmed/autograd/index_pattern.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/nn/layers.hpp"

namespace hybridmed::nn {

/// The stack of residual blocks that a layer stands in. The more branches add to the stream, the
/// smaller each begins: outputs N(0, (width * 2 * depth)^-.5), two branches a block (method 2.6).
struct Stack {
  Index depth = 1;
  /// Of a projection onto a stream of that width.
  Initial output(Index width) const {
    return init::normal(1 / std::sqrt(static_cast<double>(width)) /
                        std::sqrt(2 * static_cast<double>(depth)));
  }
  /// Of queries, keys and values made from `width` features.
  static Initial input(Index width) {
    return init::normal(1 / std::sqrt(static_cast<double>(width)));
  }
};

/// Multi-head self-attention. qkv rows: all q, all k, all v, head-major within each.
template <class T, class B>
struct SelfAttention {
  Index heads = 1;
  Linear<T, B> qkv, proj;

  SelfAttention() = default;
  SelfAttention(Index width, Index heads_, Stack stack = {})
      : heads(heads_),
        qkv(width, 3 * width, true, Stack::input(width)),
        proj(width, width, true, stack.output(width)) {
    if (heads < 1 || width % heads != 0)
      fail("nn", "SelfAttention",
           "expected a number of heads that divides the width " + std::to_string(width) + ", got " +
               std::to_string(heads));
  }
  template <class F>
  void visit(F&& f) {
    f("qkv", qkv);
    f("proj", proj);
  }
  /// x (rows, width), packed by `segments` -> (rows, width), wide
  template <Value V>
  Wide<V> operator()(const V& x, const Segments<B>& segments, bool causal) const {
    return proj.wide(attended(x, segments, causal));
  }
  /// residual + the same
  template <Value V>
  Wide<V> onto(const Wide<V>& residual, const V& x, const Segments<B>& segments,
               bool causal) const {
    return proj.onto(residual, attended(x, segments, causal));
  }

 private:
  template <Value V>
  V attended(const V& x, const Segments<B>& segments, bool causal) const {
    return self_attention(qkv(x), segments, AttentionOptions<V>{heads, causal, nullptr, {}});
  }
};

/// Multi-head attention to a memory, with the norms of both sides: queries through ln2, memory
/// through lnkv.
template <class T, class B>
struct CrossAttention {
  Index heads = 1;
  LayerNorm<T, B> ln2, lnkv;
  Linear<T, B> q, kv, proj;

  CrossAttention() = default;
  CrossAttention(Index width, Index heads_, double eps, Stack stack = {})
      : heads(heads_),
        ln2(width, eps),
        lnkv(width, eps),
        q(width, width, true, Stack::input(width)),
        kv(width, 2 * width, true, Stack::input(width)),
        proj(width, width, true, stack.output(width)) {}
  template <class F>
  void visit(F&& f) {
    f("ln2", ln2);
    f("lnkv", lnkv);
    f("q", q);
    f("kv", kv);
    f("proj", proj);
  }
  /// Keys and values of a memory: (rows, width) -> (rows, 2 width).
  template <Value X>
  Like<X, T> keys_values(const X& memory) const {
    return kv(lnkv(memory));
  }
  /// x (rows, width) attends to the given keys and values -> (rows, width), wide
  template <Value X>
  Wide<X> operator()(const X& x, const Segments<B>& x_segments, const Like<X, T>& keys,
                     const Segments<B>& key_segments) const {
    return proj.wide(cross_attention(q(ln2(x)), keys, x_segments, key_segments, heads));
  }
  /// residual + the same
  template <Value X>
  Wide<X> onto(const Wide<X>& residual, const X& x, const Segments<B>& x_segments,
               const Like<X, T>& keys, const Segments<B>& key_segments) const {
    return proj.onto(residual, cross_attention(q(ln2(x)), keys, x_segments, key_segments, heads));
  }
};

/// Windowed self-attention with relative position bias and, where shifted, a mask between regions
/// that the cyclic shift made neighbours (Liu et al., Swin, ICCV 2021). Rows come and go in map
/// order.
template <class T, class B>
struct WindowAttention {
  using A = accumulator_of<T>;
  Index heads = 1, window = 7, shift = 0, side = 0;
  Linear<T, B> qkv, proj;
  Parameter<T, B> rel_bias;  // ((2 window - 1)^2, heads)

  WindowAttention() = default;
  WindowAttention(Index width, Index heads_, Index window_, Index shift_, Index side_,
                  Stack stack = {})
      : heads(heads_),
        window(window_),
        shift(shift_),
        side(side_),
        qkv(width, 3 * width, true, Stack::input(width)),
        proj(width, width, true, stack.output(width)),
        rel_bias({(2 * window_ - 1) * (2 * window_ - 1), heads_}, init::normal(0.02), no_decay) {
    if (window < 1 || side < 1 || side % window != 0 || shift < 0 || shift >= window)
      fail("nn", "WindowAttention",
           "expected a map of whole windows, got side " + std::to_string(side) + ", window " +
               std::to_string(window) + " and shift " + std::to_string(shift));
    const Index area = window * window, n = side / window, windows = n * n;
    std::vector<std::int32_t> index;
    for (Index i = 0; i < area; ++i)
      for (Index j = 0; j < area; ++j)
        index.push_back(
            static_cast<std::int32_t>((i / window - j / window + window - 1) * (2 * window - 1) +
                                      i % window - j % window + window - 1));
    relative_ = IndexTensor<B>::from_host(index, {area * area});
    if (shift > 0) {
      const auto region = [&](Index y) { return y < side - window ? 0 : y < side - shift ? 1 : 2; };
      std::vector<A> mask;
      for (Index w = 0; w < windows; ++w)
        for (Index i = 0; i < area; ++i)
          for (Index j = 0; j < area; ++j) {
            const auto id = [&](Index k) {
              return 3 * region(w / n * window + k / window) + region(w % n * window + k % window);
            };
            mask.push_back(id(i) == id(j) ? A(0) : A(-100));
          }
      mask_ = Tensor<A, B>::from_host(mask, {windows, area, area});
    }
    const Index image = side * side;
    ArenaVector<std::int32_t> to(static_cast<std::size_t>(image)), from(to.size());  // of one image
    for (Index k = 0; k < image; ++k) {
      const Index w = k / area, i = k % area, y = (w / n * window + i / window + shift) % side,
                  x = (w % n * window + i % window + shift) % side;
      to[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(y * side + x);
      from[static_cast<std::size_t>(y * side + x)] = static_cast<std::int32_t>(k);
    }
    to_windows_ = IndexPattern<B>(to, image);
    from_windows_ = IndexPattern<B>(from, image);
    windows_ = EqualSegments<B>(area);
  }
  template <class F>
  void visit(F&& f) {
    f("qkv", qkv);
    f("proj", proj);
    f("rel_bias", rel_bias);
  }
  /// x (batch * side * side, width) -> the same shape, wide
  template <Value V>
  Wide<V> operator()(const V& x, Index batch) const {
    const Index area = window * window;
    if (batch < 0 || value(x).rows() != batch * side * side)
      fail("nn", "WindowAttention",
           "expected rows of " + std::to_string(batch) + " maps of side " + std::to_string(side) +
               ", got " + value(x).shape().str());
    const Index windows = batch * (side / window) * (side / window);
    const Wide<V> table = gather_rows(use<Wide<V>>(rel_bias), relative_);  // (area * area, heads)
    const Wide<V> bias = reshape(transpose_rows(table), {heads * area, area});
    AttentionOptions<V> options{heads, false, &bias, mask_};
    const Wide<V> y = proj.wide(self_attention(qkv(gather_rows(x, to_windows_.times(batch))),
                                               windows_.times(windows), options));
    return gather_rows(y, from_windows_.times(batch));
  }

 private:
  template <Value V>
  static V transpose_rows(const V& x) {
    const Index rows = value(x).rows(), cols = value(x).cols();
    tensor_of<V> y({cols, rows});
    B::transpose(1, rows, cols, value(x).data(), y.data());
    if constexpr (is_recorded<V>)
      if (recording(x))
        return recorded(std::move(y), [s = x.slot, rows, cols](tensor_of<V> dy) {
          tensor_of<V> dx({rows, cols});
          B::transpose(1, cols, rows, dy.data(), dx.data());
          s->add(std::move(dx));
        });
    return y;
  }
  // Row permutations of an image, and its windows as segments.
  IndexPattern<B> to_windows_, from_windows_;
  EqualSegments<B> windows_;
  IndexTensor<B> relative_;
  Tensor<A, B> mask_;
};

}  // namespace hybridmed::nn
