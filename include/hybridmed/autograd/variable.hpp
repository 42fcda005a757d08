#pragma once
// What flows through a model: a Variable (recorded) or a plain Tensor (no tape at all). Forward
// code is generic over both.
#include <concepts>
#include <limits>
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

/// What a parameter holds before training: a constant, normal numbers around 0, or rows of length
/// 1 in random directions.
struct Initial {
  enum class Kind { constant, normal, unit_rows };
  Kind kind = Kind::constant;
  double value = 0;  ///< the constant, or the standard deviation
};
namespace init {
constexpr Initial constant(double x) { return {Initial::Kind::constant, x}; }
constexpr Initial zeros() { return constant(0); }
constexpr Initial ones() { return constant(1); }
constexpr Initial normal(double stddev) { return {Initial::Kind::normal, stddev}; }
constexpr Initial unit_rows() { return {Initial::Kind::unit_rows, 1}; }
}  // namespace init

/// Marks a parameter that weight decay never shrinks. Vectors and scalars need no mark: only
/// matrices decay.
struct NoDecay {};
inline constexpr NoDecay no_decay{};

/// A named weight of a model: its value, the slot of its gradient, and whether the current stage
/// trains it; how it begins and whether it decays. A copy has memory of its own and no gradient, so
/// that a copied model is another model.
template <class T, class B>
struct Parameter {
  Tensor<T, B> value;
  mutable GradientSlot<T, B> slot;
  bool trainable = true;
  bool fixed = false;  ///< no stage trains it
  Initial initial;
  bool decays = false;

  Parameter() = default;
  /// Holds the constant, or zeros until nn::initialise draws the numbers or weights are loaded.
  Parameter(const Shape& shape, Initial how)
      : value(Tensor<T, B>::full(
            shape, static_cast<T>(how.kind == Initial::Kind::constant ? how.value : 0))),
        initial(how),
        decays(shape.rank() >= 2) {}
  Parameter(const Shape& shape, Initial how, NoDecay) : Parameter(shape, how) { decays = false; }
  Parameter(const Parameter& o)
      : value(o.value.clone()),
        trainable(o.trainable),
        fixed(o.fixed),
        initial(o.initial),
        decays(o.decays) {}
  Parameter(Parameter&&) noexcept = default;
  Parameter& operator=(const Parameter& o) {
    Parameter copy(o);
    return *this = std::move(copy);
  }
  Parameter& operator=(Parameter&&) noexcept = default;
};

/// State that moves with training but has no gradient (running statistics). A copy has memory of
/// its own.
template <class T, class B>
struct Buffer {
  mutable Tensor<T, B> value;
  Buffer() = default;
  Buffer(const Shape& shape, T fill) : value(Tensor<T, B>::full(shape, fill)) {}
  Buffer(const Buffer& o) : value(o.value.clone()) {}
  Buffer(Buffer&&) noexcept = default;
  Buffer& operator=(const Buffer& o) {
    value = o.value.clone();
    return *this;
  }
  Buffer& operator=(Buffer&&) noexcept = default;
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

/// The parameter as a value of kind V.
template <Value V>
V use(const Parameter<scalar_of<V>, backend_of<V>>& p) {
  if constexpr (is_recorded<V>) {
    if (!p.trainable || !Tape::current()) return V(p.value);
    Tape::current()->leaf(p.slot);
    return V(p.value, &p.slot);
  } else {
    return p.value;
  }
}

/// Cuts the tape: the same tensor as a constant.
template <Value V>
V detach(const V& v) {
  return V(value(v));
}

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

/// Fills the gradient of every trained leaf that `loss` (one element) depends on, and empties the
/// tape. Where a node throws, the tape is empty and the leaves have no gradient.
template <class T, class B>
void backward(const Variable<T, B>& loss) {
  if (!Tape::current())
    fail("autograd", "backward", "no tape is recording",
         "create a Tape and a RecordOn scope first");
  detail::need_defined("backward", loss);
  if (value(loss).size() != 1)
    fail("autograd", "backward", "expected one element, got shape " + loss.shape().str());
  if (loss.slot && Tape::current()->forgot(loss.slot))
    fail("autograd", "backward", "the tape does not hold this loss any more",
         "a tape is emptied by its backward pass: compute the loss again");
  if (loss.slot) loss.slot->add(Tensor<T, B>::full(loss.shape(), T(1)));
  Tape::current()->backward();
}

}  // namespace hybridmed
