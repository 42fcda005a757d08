#pragma once
// Recomputation (Chen et al., Training deep nets with sublinear memory cost, 2016): a part of the
// forward pass keeps its inputs and nothing else, and is computed again when the backward pass
// arrives there. A stack of blocks then holds the activations of one block at a time.
#include <array>

#include "hybridmed/autograd/variable.hpp"

namespace hybridmed {

namespace detail {

/// What a function returns, as a tuple of references to its outputs.
template <class Y>
struct Outputs {
  static constexpr bool served = false, recorded = false;
};
template <Value V>
struct Outputs<V> {
  static constexpr bool served = true, recorded = is_recorded<V>;
  static auto of(V& y) { return std::tie(y); }
};
template <class Y, Value... V>
struct SeveralOutputs {
  static constexpr bool recorded = (... && is_recorded<V>),
                        served = recorded || !(... || is_recorded<V>);
  static auto of(Y& y) {
    return std::apply([](V&... v) { return std::tie(v...); }, y);
  }
};
template <Value A, Value B>
struct Outputs<std::pair<A, B>> : SeveralOutputs<std::pair<A, B>, A, B> {};
template <Value... V>
struct Outputs<std::tuple<V...>> : SeveralOutputs<std::tuple<V...>, V...> {};
template <Value V, std::size_t N>
struct Outputs<std::array<V, N>> {
  static constexpr bool served = true, recorded = is_recorded<V>;
  static auto of(std::array<V, N>& y) {
    return std::apply([](auto&... v) { return std::tie(v...); }, y);
  }
};

/// An output that a dry tape gave no place gets one on the tape itself.
template <class T, class B>
void now_of(Variable<T, B>& output, GradientSlot<T, B>* slot, const Tape& tape) {
  if (output.slot != &nowhere<T, B>) return;
  output.slot = slot;
  output.recording = tape.recording();
}

/// Marks what this thread computes as computed before.
class Again {
 public:
  Again() : previous_(std::exchange(Tape::again(), true)) {}
  ~Again() { Tape::again() = previous_; }
  Again(const Again&) = delete;
  Again& operator=(const Again&) = delete;

 private:
  bool previous_;
};

/// The gradient of an output goes to what the second computation of it recorded.
template <class T, class B>
void seed_again(const Variable<T, B>& output, GradientSlot<T, B>& gradient) {
  if (!gradient.defined()) return;
  if (!output.slot || output.tensor.size() != gradient.shape().size())
    fail("autograd", "recompute",
         "the function gave another output when it ran again: " +
             (output.slot ? output.shape().str() + " for " + gradient.shape().str()
                          : std::string("a constant")),
         "it must compute the same each time: parameters, captured values and Mode may not change "
         "until the backward pass");
  gradient.pour(*output.slot);
}

/// The backward pass of a recomputed function: runs it again, recording on the nested tape, whose
/// nodes add to the slots of inputs and parameters themselves.
template <class F, class Y, class... V>
struct RunAgain {
  Tape* tape;
  F f;
  std::tuple<V...> inputs;

  static constexpr bool takes_slots = true;  // whoever reads an output adds to the same sum
  template <class... Slot>
  void operator()(Slot&... gradients) {
    const Again again;
    Tape& nested = tape->nested();
    const RecordOn on(nested);
    {
      const std::tuple<V...> x = std::move(inputs);
      Y y = std::apply(f, x);
      std::apply([&](auto&... output) { (seed_again(output, gradients), ...); }, Outputs<Y>::of(y));
    }  // what the nodes do not need is freed before they run
    nested.backward();
  }
};

}  // namespace detail

/// f(inputs...), of which the tape keeps the inputs alone; the backward pass runs f again. Values
/// and gradients have the same bits as without it, dropout draws the same numbers, BatchNorm's
/// running statistics move in the forward pass only. Inputs: Variables or Tensors. Outputs: a
/// Variable, or a pair, tuple or array of them; one that depends on nothing trained is a constant,
/// and where all are, nothing is kept. f may use parameters, Variables that it captured, and
/// recompute itself. A copy of f lives until the backward pass: it captures modules by reference
/// and by value whatever does not live that long (Mode, Segments). No Variable may leave f but the
/// outputs.
template <class F, Value... V>
std::remove_cvref_t<std::invoke_result_t<F&, const V&...>> recompute(F f, const V&... inputs) {
  using Y = std::remove_cvref_t<std::invoke_result_t<F&, const V&...>>;
  static_assert(detail::Outputs<Y>::served,
                "hybridmed: recompute takes a function that returns Variables alone, or Tensors "
                "alone: one, or a pair, tuple or array of them");
  static_assert(
      !requires { f.visit([](const auto&, auto&) {}); },
      "hybridmed: recompute keeps a copy of its function: pass a lambda that refers to "
      "the module, not the module");
  detail::need_defined("recompute", inputs...);
  if constexpr (!detail::Outputs<Y>::recorded) {
    return f(inputs...);
  } else {
    Tape* const tape = Tape::current();
    if (!tape || tape->dry()) return f(inputs...);
    Y y = [&]() -> Y {
      Tape dry(Tape::Dry{*tape});
      const RecordOn on(dry);
      return f(inputs...);
    }();
    std::apply(
        [&]<class... T, class B>(Variable<T, B>&... output) {
          if (!(... || (output.slot == &detail::nowhere<T, B>))) return;
          const auto slots = tape->template record_many<B, T...>(
              detail::RunAgain<F, Y, V...>{tape, std::move(f), {inputs...}});
          std::apply([&](auto*... slot) { (detail::now_of(output, slot, *tape), ...); }, slots);
        },
        detail::Outputs<Y>::of(y));
    return y;
  }
}

}  // namespace hybridmed
