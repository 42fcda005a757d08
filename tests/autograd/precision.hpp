#pragma once
// One operation in bf16 and in double, over the same numbers: values and gradients.
#include <doctest/doctest.h>

#include <deque>
#include <string>
#include <tuple>
#include <utility>

#include "../support.hpp"
#include "hybridmed/autograd/attention.hpp"

namespace hybridmed::test {

/// The numbers as bf16 has them, or as float has them.
inline Values rounded(Values x) {
  for (double& v : x) v = bfloat16(static_cast<float>(v));
  return x;
}
inline Values halves(Index n, std::uint64_t seed, double size = 1) {
  return rounded(normal(n, seed, size));
}
inline Values floats(Index n, std::uint64_t seed, double size = 1, double shift = 0) {
  Values x = normal(n, seed, size);
  for (double& v : x) v = static_cast<float>(v + shift);
  return x;
}

/// An input of an operation: an activation, a sum, a parameter that is multiplied with, or one that
/// is added. The number that a parameter holds is a float; where it is multiplied with, in double
/// too, it is what bf16 makes of it.
struct Given {
  enum class Kind { activation, sum, weight, vector };
  Kind kind;
  Shape shape;
  Values values;

  static Given activation(const Shape& s, std::uint64_t seed) {
    return {Kind::activation, s, halves(s.size(), seed)};
  }
  static Given sum(const Shape& s, std::uint64_t seed) {
    return {Kind::sum, s, floats(s.size(), seed)};
  }
  static Given weight(const Shape& s, std::uint64_t seed, double size = 0.5) {
    return {Kind::weight, s, floats(s.size(), seed, size)};
  }
  static Given vector(const Shape& s, std::uint64_t seed, double shift = 0) {
    return {Kind::vector, s, floats(s.size(), seed, 0.5, shift)};
  }
};

/// The inputs as values of kind V, and where their gradients are collected. `wanted`: one bit each.
template <Value V>
class Inputs {
 public:
  using T = scalar_of<V>;
  using B = backend_of<V>;

  Inputs(const std::vector<Given>& given, unsigned wanted) : given_(given), wanted_(wanted) {
    for (const Given& g : given) {
      const bool weight = g.kind == Given::Kind::weight;
      masters_.push_back(leaf<master_of<T>, B>(
          weight && std::is_same_v<T, double> ? rounded(g.values) : g.values, g.shape));
      masters_.back().trainable = wants(masters_.size() - 1);
      slots_.emplace_back();
      sums_.emplace_back();
    }
  }
  V x(std::size_t i) { return of<V>(i, slots_[i]); }
  Wide<V> wide(std::size_t i) { return of<Wide<V>>(i, sums_[i]); }
  Weight<V> weight(std::size_t i) { return use<V>(masters_[i]); }
  Wide<V> vector(std::size_t i) { return use<Wide<V>>(masters_[i]); }
  Parameter<T, B>& master(std::size_t i) { return masters_[i]; }

  bool has_gradient(std::size_t i) const {
    return slots_[i].defined() || sums_[i].defined() || masters_[i].slot.defined();
  }
  Values gradient_of(std::size_t i) const {
    if (slots_[i].defined()) return values(slots_[i].gradient());
    if (sums_[i].defined()) return values(sums_[i].gradient());
    return gradient(masters_[i]);
  }

 private:
  bool wants(std::size_t i) const { return (wanted_ >> i & 1u) != 0; }
  template <Value X, class Slot>
  X of(std::size_t i, Slot& slot) {
    auto t = tensor<scalar_of<X>, B>(given_[i].values, given_[i].shape);
    if constexpr (is_recorded<V>)
      return X(std::move(t), wants(i) ? &slot : nullptr);
    else
      return t;
  }
  const std::vector<Given>& given_;
  unsigned wanted_;
  std::deque<Parameter<T, B>> masters_;
  std::deque<GradientSlot<T, B>> slots_;
  std::deque<GradientSlot<accumulator_of<T>, B>> sums_;
};

/// The outputs of an operation, one or two.
template <Value Y>
auto outputs(const Y& y) {
  return std::tuple(y);
}
template <Value Y, Value Z>
auto outputs(const std::pair<Y, Z>& y) {
  return std::tuple(y.first, y.second);
}

struct Results {
  std::vector<Values> outputs, gradients;
  std::vector<bool> has;  // a gradient
  std::size_t nodes = 0;
  bool recorded = false;
};

/// Runs the operation and a backward pass from fixed gradients of its outputs.
template <class T, class B, class F>
Results run(const std::vector<Given>& given, F&& operation, unsigned wanted = ~0u) {
  using V = Variable<T, B>;
  Results r;
  Inputs<V> in(given, wanted);
  Tape tape;
  const RecordOn on(tape);
  std::apply(
      [&](const auto&... y) {
        r.nodes = tape.size();
        std::uint64_t seed = 90;
        const auto dy = [&]<class Y>(const Y& v) {  // what is wide has a gradient in float
          const Index n = v.shape().size();
          ++seed;
          return tensor<scalar_of<Y>, B>(std::is_same_v<Y, V> ? halves(n, seed) : floats(n, seed),
                                         v.shape());
        };
        (r.outputs.push_back(values(y.tensor)), ...);
        r.recorded = (... || (y.slot != nullptr));
        const std::tuple gradients{dy(y)...};
        std::apply([&](const auto&... g) { backward({{y, g}...}); }, gradients);
      },
      outputs(operation(in)));
  CHECK(tape.size() == 0);
  for (std::size_t i = 0; i < given.size(); ++i) {
    r.has.push_back(in.has_gradient(i));
    r.gradients.push_back(in.gradient_of(i));
  }
  return r;
}

/// Largest difference, relative to the largest entry.
inline double error(const Values& got, const Values& want) {
  const double e = difference(got, want), top = largest(want);
  return e == 0 ? 0 : e / top;
}

/// Checks everything about one operation in bf16, on one backend.
/// - Outputs and gradients are those in double, but for `bound` of the largest entry.
/// - Plain tensors, and Variables under NoGrad or without a slot, give the same bits and record
///   nothing.
/// - Any set of inputs may be frozen: these get no gradient, the others the same bits.
/// - No memory stays.
///
/// The bound: every stored number is off by 2^-9 of itself. A term of a sum has up to four of them
/// behind it (gradient of the output, hidden rows, their gradient, result), and terms that are off
/// independently add up to less than the sum of all is; hence 4 2^-9.
template <class B, class F>
void check_precision(const std::string& what, const std::vector<Given>& given, F&& operation,
                     double bound = 0x1p-7) {
  INFO(what << " on " << std::string(B::name));
  using T = bfloat16;
  const auto in_use = HostArena::instance().statistics().in_use;
  {
    const Results exact = run<double, B>(given, operation), mine = run<T, B>(given, operation);
    for (std::size_t i = 0; i < exact.outputs.size(); ++i) {
      INFO("output " << i << ": " << error(mine.outputs[i], exact.outputs[i]));
      CHECK(error(mine.outputs[i], exact.outputs[i]) <= bound);
    }
    for (std::size_t i = 0; i < given.size(); ++i) {
      INFO("gradient of input " << i << ": " << error(mine.gradients[i], exact.gradients[i]));
      CHECK(mine.has[i] == exact.has[i]);
      CHECK(error(mine.gradients[i], exact.gradients[i]) <= bound);
    }
    {
      Inputs<Tensor<T, B>> plain(given, ~0u);
      Tape tape;
      const RecordOn on(tape);
      std::vector<Values> y;
      std::apply([&](const auto&... t) { (y.push_back(values(t)), ...); },
                 outputs(operation(plain)));
      CHECK(y == mine.outputs);
      CHECK(tape.size() == 0);
      Inputs<Variable<T, B>> variables(given, ~0u);
      const NoGrad off;
      y.clear();
      std::apply(
          [&](const auto&... v) {
            (y.push_back(values(v.tensor)), ...);
            CHECK((... && (v.slot == nullptr)));
          },
          outputs(operation(variables)));
      CHECK(y == mine.outputs);
      CHECK(tape.size() == 0);
    }
    for (unsigned wanted = 0; wanted + 1 < 1u << given.size(); ++wanted) {
      INFO("wanted inputs " << wanted);
      const Results some = run<T, B>(given, operation, wanted);
      CHECK(some.outputs == mine.outputs);
      if (wanted == 0) CHECK((some.nodes == 0 && !some.recorded));
      for (std::size_t i = 0; i < given.size(); ++i) {
        INFO("input " << i);
        if (wanted >> i & 1u) {
          CHECK(some.has[i] == mine.has[i]);
          CHECK(some.gradients[i] == mine.gradients[i]);
        } else {
          CHECK_FALSE(some.has[i]);
        }
      }
    }
  }
  CHECK(HostArena::instance().statistics().in_use == in_use);
}

/// Segments of these lengths with `gap` rows before each.
template <class B>
Segments<B> packed(const std::vector<Index>& lengths, Index gap = 0) {
  std::vector<std::int32_t> ranges;
  Index at = 0;
  for (Index n : lengths) {
    at += gap;
    ranges.push_back(static_cast<std::int32_t>(at));
    ranges.push_back(static_cast<std::int32_t>(at += n));
  }
  return Segments<B>(ranges, at + gap);
}

}  // namespace hybridmed::test
