#pragma once
// Models that call their parts plainly or under recompute, and what two steps of them give.
#include "hybridmed/autograd/recompute.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "hybridmed/model/resnet.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/nn/transformer.hpp"

namespace hybridmed::test {

/// How a model calls its parts.
enum class Use { plain, again, nested };

template <class F, Value V>
V through(Use use, F f, const V& x) {
  if (use == Use::plain) return f(x);
  if (use == Use::again) return recompute(f, x);
  return recompute([f](const V& h) { return recompute(f, h); }, x);
}

/// Three transformer blocks with dropout; the last has post-norm. In and out is a residual stream.
template <class T, class B>
struct Blocks {
  using Input = accumulator_of<T>;
  using Pre = nn::TransformerBlock<T, B>;
  using Post = nn::TransformerBlock<T, B, nn::SelfAttention<T, B>, nn::FeedForward<T, B>,
                                    nn::LayerNorm<T, B>, nn::PostNorm>;
  Pre one, two;
  Post three;
  EqualSegments<B> sequence{6};

  Blocks()
      : one(8, 16, 1e-5, nn::SelfAttention<T, B>(8, 2)),
        two(8, 16, 1e-5, nn::SelfAttention<T, B>(8, 2)),
        three(8, 16, 1e-5, nn::SelfAttention<T, B>(8, 2)) {
    one.dropout.probability = two.dropout.probability = three.dropout.probability = 0.3;
  }
  static Shape input() { return {12, 8}; }
  template <class F>
  void visit(F&& f) {
    f("one", one);
    f("two", two);
    f("three", three);
  }
  template <Value W>
  W operator()(const W& x, const nn::Mode& mode, Use use) const {
    const Segments<B> segments = sequence.times(2);
    const auto call = [&](const auto& block, std::uint64_t site) {
      return [&block, mode, site, segments](const auto& h) {
        return block.train(h, mode, site, segments, true);
      };
    };
    const W y = through(use, call(two, 1), through(use, call(one, 0), x));
    return cast<W>(through(use, call(three, 2), narrow<T>(y)));
  }
};

/// Two residual blocks of a ResNet, the second with a projection.
template <class T, class B>
struct Residual {
  using Input = T;
  model::ResidualBlock<T, B> one{4, 4, 4, 1, false}, two{4, 4, 8, 2, true};

  static Shape input() { return {2 * 6 * 6, 4}; }
  template <class F>
  void visit(F&& f) {
    f("one", one);
    f("two", two);
  }
  template <Value V>
  V operator()(const V& x, const nn::Mode& mode, Use use) const {
    const auto call = [&](const auto& block) {
      return [&block, mode](const V& h) {
        Index side = 6;
        return block(h, 2, side, mode);
      };
    };
    return through(use, call(two), through(use, call(one), x));
  }
};

using Numbers = std::vector<std::vector<double>>;

template <class T, class B>
std::vector<double> numbers(const Tensor<T, B>& t) {
  const std::vector<T> x = t.to_host();
  return std::vector<double>(x.begin(), x.end());
}

/// Output, gradients of the input and of every parameter, and state, after two steps.
template <class B, class M>
Numbers steps(M& m, Use use, Tape& tape, bool input_wanted = true) {
  using X = typename M::Input;
  Numbers all;
  Tensor<X, B> x(M::input());
  B::fill_normal(x.size(), Philox(3), 1, x.data());
  for (std::uint64_t step = 0; step < 2; ++step) {
    GradientSlot<X, B> dx;
    const RecordOn on(tape);
    const Variable<X, B> in(x, input_wanted ? &dx : nullptr);
    const Variable<X, B> y = m(in, nn::Mode::training(Philox(7, step)), use);
    Tensor<X, B> dy(y.shape());
    B::fill_normal(dy.size(), Philox(5), 1, dy.data());
    all.push_back(numbers(y.tensor));
    backward({{y, dy}});
    CHECK(tape.size() == 0);
    CHECK(dx.defined() == input_wanted);
    if (input_wanted) all.push_back(numbers(dx.gradient()));
  }
  nn::for_each_state(
      m,
      [&](const std::string&, auto& p) {
        all.push_back(p.slot.grad.defined() ? numbers(p.slot.grad) : std::vector<double>());
        p.slot.grad = {};
      },
      [&](const std::string&, auto& b) { all.push_back(numbers(b.value)); });
  return all;
}

}  // namespace hybridmed::test
