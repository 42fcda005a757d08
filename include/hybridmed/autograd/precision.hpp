#pragma once
// From one scalar to another. Both directions are the same value where the scalars are equal, so
// that code for bf16 costs nothing in float and double.
#include "hybridmed/autograd/variable.hpp"

namespace hybridmed {

/// A parameter rounded to the scalar T that a model computes in, whose gradient is collected in the
/// master scalar. Operations that multiply with a weight take it; as an activation it is a Variable
/// of its own: `Variable<T, B>(weight)`.
template <class T, class B>
struct RoundedWeight {
  Tensor<T, B> tensor;
  GradientSlot<master_of<T>, B>* slot = nullptr;
  std::uint64_t recording = 0;  ///< as a Variable's

  const Shape& shape() const { return tensor.shape(); }
  Index rows() const { return tensor.rows(); }
  Index cols() const { return tensor.cols(); }
  explicit operator Variable<T, B>() const;
};

template <class T, class B>
const Tensor<T, B>& value(const RoundedWeight<T, B>& w) {
  return w.tensor;
}

namespace detail {
/// Is X of the precision T: in T or in the scalar of its sums?
template <class X, class T>
inline constexpr bool of_precision =
    std::is_same_v<scalar_of<X>, T> || std::is_same_v<scalar_of<X>, accumulator_of<T>>;
/// Says that what computes in T takes no value of another precision.
template <bool ok>
constexpr void need_precision() {
  static_assert(ok,
                "hybridmed: a value of another precision: what computes in T takes values in T and "
                "in accumulator_of<T>; see docs/policies/precision.md");
}
template <class X>
inline constexpr bool is_rounded_weight = false;
template <class T, class B>
inline constexpr bool is_rounded_weight<RoundedWeight<T, B>> = true;
/// Is one of the two a rounded weight, or do their scalars differ?
template <class X, class Y>
inline constexpr bool of_two_kinds = [] {
  if constexpr (Value<X> && Value<Y>)
    return !std::is_same_v<scalar_of<X>, scalar_of<Y>>;
  else
    return is_rounded_weight<X> || is_rounded_weight<Y>;
}();
/// Says that an operation takes two values of one kind.
template <class X, class Y>
constexpr void need_one_kind() {
  static_assert(
      !of_two_kinds<X, Y>,
      "hybridmed: two values of different kinds: in bfloat16 a branch is widened before it "
      "is added, a parameter enters as use<Wide<V>>(p), or as V(use<V>(p)) where it is no "
      "factor of a product; see docs/policies/precision.md");
}
/// Says that a loss reads wide values.
template <Value V>
constexpr void need_loss_scalar() {
  static_assert(std::is_same_v<scalar_of<V>, master_of<scalar_of<V>>>,
                "hybridmed: a loss reads values in the master scalar of a precision: of values in "
                "bfloat16, widen(x); see docs/policies/precision.md");
}

/// y as what was made from a value with that slot, by conversion alone. A slot of a narrower scalar
/// takes a wide gradient as it is.
template <class T, class From, class B>
Variable<T, B> converted_from(Tensor<T, B> y, GradientSlot<From, B>* slot) {
  if (!slot || !Tape::current()) return y;
  return recorded(std::move(y),
                  [slot](Tensor<T, B> dy) { slot->add(converted<accumulator_of<From>>(dy)); });
}
}  // namespace detail

template <class T, class B>
RoundedWeight<T, B>::operator Variable<T, B>() const {
  return detail::converted_from(tensor, slot);
}

/// x as a value of kind To; its gradient is converted back.
template <Value To, Value From>
To cast(const From& x) {
  using T = scalar_of<To>;
  detail::need_precision<std::is_same_v<accumulator_of<T>, accumulator_of<scalar_of<From>>>>();
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else {
    detail::need_defined("conversion", x);
    if constexpr (is_recorded<To>)
      return detail::converted_from(detail::converted<T>(x.tensor),
                                    recording(x) ? x.slot : nullptr);
    else
      return detail::converted<T>(x);
  }
}

/// x in the scalar of sums.
template <Value V>
Wide<V> widen(const V& x) {
  return cast<Wide<V>>(x);
}

/// x rounded to the scalar T, or as it is where it has that scalar.
template <class T, Value V>
Like<V, T> narrow(const V& x) {
  detail::need_precision<detail::of_precision<V, T>>();
  return cast<Like<V, T>>(x);
}

}  // namespace hybridmed
