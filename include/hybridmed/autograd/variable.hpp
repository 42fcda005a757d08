#pragma once
// What flows through a model: a Variable (recorded) or a plain Tensor (no tape at all). Forward
// code is generic over both.
#include <concepts>
#include <initializer_list>
#include <limits>
#include <span>
#include <tuple>
#include <type_traits>

#include "hybridmed/autograd/tape.hpp"
#include "hybridmed/core/scalars.hpp"

namespace hybridmed {

/// A tensor with a place for its gradient; a null slot is a constant. `recording`: the one
/// (Tape::recording) whose node the slot is of; 0: a leaf, whose slot stays.
template <class T, class B>
struct Variable {
  Tensor<T, B> tensor;
  GradientSlot<T, B>* slot = nullptr;
  std::uint64_t recording = 0;

  Variable() = default;
  Variable(Tensor<T, B> t, GradientSlot<T, B>* s = nullptr, std::uint64_t of = 0)
      : tensor(std::move(t)), slot(s), recording(of) {}
  const Shape& shape() const { return tensor.shape(); }
  Index rows() const { return tensor.rows(); }
  Index cols() const { return tensor.cols(); }
  bool defined() const { return tensor.defined(); }
};

namespace detail {
template <class V>
struct ValueTraits : std::false_type {};
template <class T, class B>
struct ValueTraits<Tensor<T, B>> : std::true_type {
  using scalar = T;
  using backend = B;
  static constexpr bool recorded = false;
};
template <class T, class B>
struct ValueTraits<Variable<T, B>> : std::true_type {
  using scalar = T;
  using backend = B;
  static constexpr bool recorded = true;
};
}  // namespace detail

/// Variable or Tensor.
template <class V>
concept Value = detail::ValueTraits<V>::value;

template <Value V>
using scalar_of = typename detail::ValueTraits<V>::scalar;
template <Value V>
using backend_of = typename detail::ValueTraits<V>::backend;
template <Value V>
using tensor_of = Tensor<scalar_of<V>, backend_of<V>>;
template <class V>
inline constexpr bool is_recorded = detail::ValueTraits<V>::recorded;
/// V's kind of value, Variable or Tensor, with the scalar T.
template <Value V, class T>
using Like =
    std::conditional_t<is_recorded<V>, Variable<T, backend_of<V>>, Tensor<T, backend_of<V>>>;
/// What a sum of such values is: V itself, or in float where V is bf16. Residual streams are wide.
template <Value V>
using Wide = Like<V, accumulator_of<scalar_of<V>>>;
/// Row indices in backend memory.
template <class B>
using IndexTensor = Tensor<std::int32_t, B>;
/// Host numbers as row indices.
template <class B>
IndexTensor<B> row_indices(const ArenaVector<std::int32_t>& v) {
  return IndexTensor<B>::from_host(std::span<const std::int32_t>(v.data(), v.size()),
                                   {static_cast<Index>(v.size())});
}
/// A backend whose memory the host reads and writes: its indices are checked before they are used.
/// On a device a bad index gives NaN instead.
template <class B>
concept HostMemory = requires {
  requires B::host_memory;
};

template <class T, class B>
const Tensor<T, B>& value(const Tensor<T, B>& t) {
  return t;
}
template <class T, class B>
const Tensor<T, B>& value(const Variable<T, B>& v) {
  return v.tensor;
}

/// The slot to send a gradient to, or null when none is wanted.
template <class T, class B>
GradientSlot<T, B>* slot(const Variable<T, B>& v) {
  return v.slot;
}

/// Cuts the tape: the same tensor as a constant.
template <Value V>
V detach(const V& v) {
  return V(value(v));
}

namespace detail {
/// @throws Error where the value's gradient has no place in what is recorded now.
template <class V>
void need_same_recording(const Tape& tape, const V& input) {
  if constexpr (requires { input.recording; })
    if (input.slot && input.recording != 0 && !tape.holds(input.recording))
      fail("autograd", "record",
           "an input of shape " + input.shape().str() +
               " was computed before the last backward pass, in a function under recompute, or on "
               "another tape",
           "its gradient would be lost: compute it again, call backward once over all that reads "
           "it, or detach(x)");
}
}  // namespace detail

/// True when a tape is active and at least one of the inputs wants a gradient.
/// @throws Error where an input was recorded on a tape that is not active, or is empty since.
template <class... V>
bool recording(const V&... inputs) {
  const Tape* tape = Tape::current();
  if (!tape) return false;
  (detail::need_same_recording(*tape, inputs), ...);
  return (... || (inputs.slot != nullptr));
}

/// Wraps y as the output of a recorded operation with the given backward function.
template <class T, class B, class F>
Variable<T, B> recorded(Tensor<T, B> y, F&& backward) {
  Tape& tape = *Tape::current();
  auto* s = tape.template record<T, B>(std::forward<F>(backward));
  return {std::move(y), s, tape.recording()};
}

/// The same for an operation with several outputs, whose gradients arrive together: backward(dy...)
/// has one tensor for each, undefined where an output received no gradient, and runs where at least
/// one did.
template <class... T, class B, class F>
std::tuple<Variable<T, B>...> recorded_many(std::tuple<Tensor<T, B>...> outputs, F&& backward) {
  Tape& tape = *Tape::current();
  const auto slots = tape.template record_many<B, T...>(std::forward<F>(backward));
  return std::apply(
      [&](auto&... y) {
        return std::apply(
            [&](auto*... s) {
              return std::tuple<Variable<T, B>...>(
                  Variable<T, B>(std::move(y), s, tape.recording())...);
            },
            slots);
      },
      outputs);
}

namespace detail {
/// @throws Error where one of the values is an undefined tensor.
template <class... V>
void need_defined(std::string_view operation, const V&... values) {
  if ((... || !value(values).defined()))
    fail("autograd", operation, "an input is an undefined tensor",
         "a tensor needs a shape and values; an objective lists every representation that it reads "
         "in its `needs`, and a model holds only the parts that it was built with");
}
}  // namespace detail

namespace detail {
/// @throws Error where the host can read an index that is not below `end`, or, unless `negative`
/// has a meaning, is below 0.
template <class B>
void need_indices(std::string_view operation, std::string_view what, const IndexTensor<B>& index,
                  Index end, bool negative, std::string_view hint = {}) {
  if (!index.defined())
    fail("autograd", operation, std::string("the ").append(what).append(" is an undefined tensor"),
         hint);
  if constexpr (HostMemory<B>) {
    const std::int32_t* i = index.data();
    for (Index k = 0; k < index.size(); ++k)
      if (i[k] >= end || (i[k] < 0 && !negative))
        fail("autograd", operation,
             std::string(what) + " " + std::to_string(k) + ": expected " +
                 (negative ? "below " : "0 to ") + std::to_string(negative ? end : end - 1) +
                 ", got " + std::to_string(i[k]),
             hint);
  }
}
}  // namespace detail

namespace detail {
/// The tape that a backward pass runs on.
inline Tape& tape_to_run() {
  if (!Tape::current())
    fail("autograd", "backward", "no tape is recording",
         "create a Tape and a RecordOn scope first");
  if (Tape::current()->dry())
    fail("autograd", "backward", "a function under recompute runs no backward pass",
         "call backward outside of it, or record on a Tape of its own inside");
  return *Tape::current();
}
/// @throws Error where the slot's node is not on the tape. `recording`: the variable's.
template <class T, class B>
void need_held(const Tape& tape, const GradientSlot<T, B>* slot, std::uint64_t recording) {
  if (slot == &nowhere<T, B>)
    fail("autograd", "backward", "this variable was computed by a function under recompute",
         "what the function returns has a gradient; nothing else may leave it");
  if (slot && recording != 0 && !tape.holds(recording))
    fail("autograd", "backward", "the tape does not hold this loss (any more)",
         "a tape is emptied by its backward pass, and holds what was recorded on it alone: compute "
         "the loss again, under the RecordOn in which backward is called");
}
}  // namespace detail

/// Where a backward pass begins: a variable and its gradient. It refers to both, so it lives no
/// longer than the call that it is an argument of.
class Root {
 public:
  /// @throws Error unless both are defined and of one shape.
  template <class T, class B>
  Root(const Variable<T, B>& variable, const Tensor<T, B>& gradient)
      : slot_(variable.slot),
        recording_(variable.recording),
        gradient_(&gradient),
        check_([](const Tape& tape, const void* s, std::uint64_t recording) {
          detail::need_held(tape, static_cast<const GradientSlot<T, B>*>(s), recording);
        }),
        add_([](void* s, const void* g) {
          static_cast<GradientSlot<T, B>*>(s)->add(*static_cast<const Tensor<T, B>*>(g));
        }) {
    detail::need_defined("backward", variable, gradient);
    if (!(variable.shape() == gradient.shape()))
      fail("autograd", "backward",
           "expected a gradient of shape " + variable.shape().str() + ", got " +
               gradient.shape().str());
  }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  void check(const Tape& tape) const { check_(tape, slot_, recording_); }
  void seed() const {
    if (slot_) add_(slot_, gradient_);
  }

 private:
  void* slot_;
  std::uint64_t recording_;
  const void* gradient_;
  void (*check_)(const Tape&, const void*, std::uint64_t);
  void (*add_)(void*, const void*);
};

/// Fills the gradient of every trained leaf that the roots depend on, each root beginning with the
/// gradient that is given for it, and empties the tape: `backward({{a, ga}, {b, gb}})`. The
/// gradients are not changed. A root that is a constant takes none; one that is named twice, the
/// sum. Where a node throws, the tape is empty and the leaves have no gradient; where a root is
/// refused, nothing has happened.
inline void backward(std::initializer_list<Root> roots) {
  Tape& tape = detail::tape_to_run();
  for (const Root& r : roots) r.check(tape);
  tape.backward([&] {
    for (const Root& r : roots) r.seed();
  });
}

/// The same for a number of roots that is known at run time.
template <class T, class B>
void backward(std::span<const std::pair<Variable<T, B>, Tensor<T, B>>> roots) {
  Tape& tape = detail::tape_to_run();
  for (const auto& [variable, gradient] : roots) Root(variable, gradient).check(tape);
  tape.backward([&] {
    for (const auto& [variable, gradient] : roots) Root(variable, gradient).seed();
  });
}

/// The same from `loss` (one element) with the gradient 1.
template <class T, class B>
void backward(const Variable<T, B>& loss) {
  Tape& tape = detail::tape_to_run();
  detail::need_defined("backward", loss);
  if (value(loss).size() != 1)
    fail("autograd", "backward", "expected one element, got shape " + loss.shape().str(),
         "for another gradient than 1: backward({{variable, gradient}})");
  detail::need_held(tape, loss.slot, loss.recording);
  tape.backward([&] {
    if (loss.slot) loss.slot->add(Tensor<T, B>::full(loss.shape(), T(1)));
  });
}

}  // namespace hybridmed
