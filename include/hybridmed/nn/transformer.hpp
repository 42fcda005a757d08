#pragma once
// Transformer blocks. What differs between architectures is a policy: the attention, the
// feed-forward part, the norm, and where the norm sits.
#include "hybridmed/autograd/feed_forward.hpp"
#include "hybridmed/nn/attention.hpp"

namespace hybridmed::nn {

/// fc2(act(fc1(x))), one operation.
template <class T, class B, Activation act = Activation::gelu>
struct FeedForward {
  Linear<T, B> fc1, fc2;

  FeedForward() = default;
  /// A branch of a residual stream.
  FeedForward(Index width, Index hidden, Stack stack = {})
      : fc1(width, hidden, true, init::normal(1 / std::sqrt(2 * static_cast<double>(width)))),
        fc2(hidden, width, true, stack.output(width)) {}
  /// A perceptron of its own, from `in` to `out` features; both layers N(0, .02).
  FeedForward(Index in, Index hidden, Index out) : fc1(in, hidden), fc2(hidden, out) {}
  template <class F>
  void visit(F&& f) {
    f("fc1", fc1);
    f("fc2", fc2);
  }
  /// x (rows, in), in T or wider -> (rows, out), wide
  template <Value X>
  Wide<X> operator()(const X& x) const {
    return run(x, nullptr);
  }
  /// residual + the same
  template <Value X>
  Wide<X> onto(const Wide<X>& residual, const X& x) const {
    return run(x, &residual);
  }

 private:
  template <Value X>
  Wide<X> run(const X& x, const Wide<X>* residual) const {
    using V = Like<X, T>;
    return feed_forward<V>(narrow<T>(x), use<V>(fc1.weight), use<Wide<V>>(fc1.bias),
                           use<V>(fc2.weight), use<Wide<V>>(fc2.bias), act, residual);
  }
};

/// Where the norm of a residual branch sits, and what the residual stream between blocks is for
/// branches that compute in V: a sum of all of them, or the last norm.
struct PreNorm {
  template <Value V>
  using Stream = Wide<V>;
  /// x + f(norm(x))
  template <class X, class Norm, class F>
  static X residual(const X& x, const Norm& norm, F&& f) {
    return add(x, f(norm(x)));
  }
};
struct PostNorm {
  template <Value V>
  using Stream = V;
  /// norm(x + f(x))
  template <class X, class Norm, class F>
  static X residual(const X& x, const Norm& norm, F&& f) {
    return norm(add(widen(x), f(x)));
  }
};

namespace detail {
template <class Order, Value V>
struct StreamOf {
  using type = Wide<V>;
};
template <class Order, Value V>
requires requires { typename Order::template Stream<V>; }
struct StreamOf<Order, V> {
  using type = typename Order::template Stream<V>;
};

/// Does a part end in a product that takes the residual stream into its sum?
template <class Part, class X, class... Args>
concept EndsInProduct = requires(const Part& part, const Wide<X>& residual, const X& x,
                                 const Args&... args) {
  { part.onto(residual, x, args...) } -> std::same_as<Wide<X>>;
};
/// residual + part(x, args...), in the pass of the part's last product where that can be.
template <Value V, class Part, class... Args>
Wide<V> add_part(const Wide<V>& residual, const Part& part, const V& x, const Args&... args) {
  if constexpr (EndsInProduct<Part, V, Args...>)
    return part.onto(residual, x, args...);
  else
    return add(residual, widen(part(x, args...)));
}
}  // namespace detail

/// The residual stream of an order: `Order::Stream<V>`, or wide where it does not say.
template <class Order, Value V>
using stream_of = typename detail::StreamOf<Order, V>::type;

/// Attention and feed-forward, each in a residual branch. `Attention` is any module called as
/// attn(x, args...).
template <class T, class B, class Attention = SelfAttention<T, B>, class Ffn = FeedForward<T, B>,
          class Norm = LayerNorm<T, B>, class Order = PreNorm>
struct TransformerBlock {
  static_assert(Module<Attention>,
                "hybridmed: the attention policy of TransformerBlock lacks visit(f); see "
                "docs/policies/transformer_block.md");
  static_assert(Module<Ffn>,
                "hybridmed: the feed-forward policy of TransformerBlock lacks visit(f); see "
                "docs/policies/transformer_block.md");
  static_assert(Module<Norm>,
                "hybridmed: the norm policy of TransformerBlock lacks visit(f); see "
                "docs/policies/transformer_block.md");
  Norm ln1;
  Attention attn;
  Norm ln2;
  Ffn mlp;
  Dropout dropout;  // on both branches; off by default, as in the reference

  TransformerBlock() = default;
  TransformerBlock(Index width, double eps, Attention attention, Ffn feed_forward)
      : ln1(width, eps),
        attn(std::move(attention)),
        ln2(width, eps),
        mlp(std::move(feed_forward)) {}
  TransformerBlock(Index width, Index hidden, double eps, Attention attention)
      : TransformerBlock(width, eps, std::move(attention), Ffn(width, hidden)) {}
  template <class F>
  void visit(F&& f) {
    f("ln1", ln1);
    f("attn", attn);
    f("ln2", ln2);
    f("mlp", mlp);
  }
  /// x (rows, width), the residual stream -> the same shape; `args` go to the attention (segments,
  /// causal or batch). The branches compute in T.
  template <Value X, class... Args>
  X operator()(const X& x, const Args&... args) const {
    using V = Like<X, T>;
    check<X, V, Args...>();
    if constexpr (pre_norm) {
      // The sums belong to the products, or else the first one to the norm that reads it.
      if constexpr (BackendLinear<B, T, accumulator_of<T>> &&
                    detail::EndsInProduct<Attention, V, Args...>) {
        const X y = attn.onto(x, ln1(x), args...);
        return detail::add_part<V>(y, mlp, ln2(y));
      } else {
        const auto [y, h] = ln2.after_add(x, widen(attn(ln1(x), args...)));
        return detail::add_part<V>(y, mlp, h);
      }
    } else {
      return in_order(
          x, [&](const auto& h) { return widen(attn(narrow<T>(h), args...)); },
          [&](const auto& h) { return widen(mlp(narrow<T>(h))); });
    }
  }
  /// The same with dropout; `site` numbers the block within the model.
  template <Value X, class... Args>
  X train(const X& x, const Mode& mode, std::uint64_t site, const Args&... args) const {
    using V = Like<X, T>;
    if (!dropout.drops(mode)) return (*this)(x, args...);
    check<X, V, Args...>();
    const auto attend = [&](const auto& h) {
      return dropout(widen(attn(narrow<T>(h), args...)), mode, 2 * site);
    };
    const auto feed = [&](const auto& h) {
      return dropout(widen(mlp(narrow<T>(h))), mode, 2 * site + 1);
    };
    if constexpr (pre_norm) {
      const auto [y, h] = ln2.after_add(x, attend(ln1(x)));
      return add(y, feed(h));
    } else {
      return in_order(x, attend, feed);
    }
  }

 private:
  /// Then a sum and its norm may be one operation, and a norm gives what a part takes.
  static constexpr bool pre_norm =
      std::is_same_v<Order, PreNorm> && std::is_same_v<Norm, LayerNorm<T, B>>;
  /// The two branches, which round what a norm or an order hands them wide.
  template <Value X, class Attend, class Feed>
  X in_order(const X& x, Attend&& attend, Feed&& feed) const {
    return Order::residual(Order::residual(x, ln1, attend), ln2, feed);
  }
  /// Does F give a V, or a wide one?
  template <class V, class F, class... Args>
  static constexpr bool gives =
      std::is_invocable_r_v<V, F, Args...> || std::is_invocable_r_v<Wide<V>, F, Args...>;
  template <class X, class V, class... Args>
  static constexpr void check() {
    hybridmed::detail::need_precision<hybridmed::detail::of_precision<X, T>>();
    static_assert(gives<V, const Attention&, const V&, const Args&...>,
                  "hybridmed: the attention policy of TransformerBlock must be callable as attn(x, "
                  "args...) and return x's type; see docs/policies/transformer_block.md");
    static_assert(gives<V, const Ffn&, const V&>,
                  "hybridmed: the feed-forward policy of TransformerBlock must be callable as "
                  "mlp(x) and return x's type; see docs/policies/transformer_block.md");
    static_assert(gives<V, const Norm&, const X&>,
                  "hybridmed: the norm policy of TransformerBlock must be callable as norm(x) and "
                  "return x's type; see docs/policies/transformer_block.md");
    static_assert(
        requires(const X& x, const Norm& norm, Wide<V> (&part)(const V&)) {
          { Order::residual(x, norm, part) } -> std::same_as<X>;
        },
        "hybridmed: the order policy of TransformerBlock must be callable as Order::residual(x, "
        "norm, part) and return x's type; see docs/policies/transformer_block.md");
  }
};

}  // namespace hybridmed::nn
