#pragma once
// What flows through a model: a Variable (recorded) or a plain Tensor (no tape at all). Forward code is generic over both.
#include <concepts>
#include <type_traits>

#include "hybridmed/autograd/tape.hpp"

namespace hybridmed {

/// A tensor with a place for its gradient; a null slot is a constant.
template <class T, class B>
struct Variable {
  Tensor<T, B> tensor;
  GradientSlot<T, B>* slot = nullptr;

  Variable() = default;
  Variable(Tensor<T, B> t, GradientSlot<T, B>* s = nullptr) : tensor(std::move(t)), slot(s) {}
  const Shape& shape() const { return tensor.shape(); }
  Index rows() const { return tensor.rows(); }
  Index cols() const { return tensor.cols(); }
  bool defined() const { return tensor.defined(); }
};

/// A named weight of a model: its value, the slot of its gradient, and whether the current stage trains it.
template <class T, class B>
struct Parameter {
  Tensor<T, B> value;
  mutable GradientSlot<T, B> slot;
  bool trainable = true;

  Parameter() = default;
  explicit Parameter(const Shape& shape) : value(Tensor<T, B>::zeros(shape)) {}
};

/// State that moves with training but has no gradient (running statistics).
template <class T, class B>
struct Buffer {
  mutable Tensor<T, B> value;
  Buffer() = default;
  Buffer(const Shape& shape, T fill) : value(Tensor<T, B>::full(shape, fill)) {}
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
/// Row indices in backend memory.
template <class B>
using IndexTensor = Tensor<std::int32_t, B>;

template <class T, class B>
const Tensor<T, B>& value(const Tensor<T, B>& t) { return t; }
template <class T, class B>
const Tensor<T, B>& value(const Variable<T, B>& v) { return v.tensor; }

/// The slot to send a gradient to, or null when none is wanted.
template <class T, class B>
GradientSlot<T, B>* slot(const Variable<T, B>& v) { return v.slot; }

/// The parameter as a value of kind V.
template <Value V>
V use(const Parameter<scalar_of<V>, backend_of<V>>& p) {
  if constexpr (is_recorded<V>)
    return V(p.value, p.trainable && Tape::current() ? &p.slot : nullptr);
  else
    return p.value;
}

/// Cuts the tape: the same tensor as a constant.
template <Value V>
V detach(const V& v) { return V(value(v)); }

/// True when a tape is active and at least one of the inputs wants a gradient.
template <class... V>
bool recording(const V&... inputs) {
  return Tape::current() && (... || (inputs.slot != nullptr));
}

/// Wraps y as the output of a recorded operation with the given backward function.
template <class T, class B, class F>
Variable<T, B> recorded(Tensor<T, B> y, F&& backward) {
  auto* s = Tape::current()->template record<T, B>(std::forward<F>(backward));
  return {std::move(y), s};
}

/// Fills the gradient of every trained leaf that `loss` (one element) depends on, and empties the tape.
template <class T, class B>
void backward(const Variable<T, B>& loss) {
  if (!Tape::current()) fail("autograd", "backward", "no tape is recording", "create a Tape and a RecordOn scope first");
  if (value(loss).size() != 1) fail("autograd", "backward", "expected one element, got shape " + loss.shape().str());
  if (loss.slot) loss.slot->add(Tensor<T, B>::full(loss.shape(), T(1)));
  Tape::current()->backward();
}

}  // namespace hybridmed
