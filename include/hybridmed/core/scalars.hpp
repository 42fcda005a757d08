#pragma once
// A precision is three scalars. T computes: activations and the copies of weights that they are
// multiplied with. The master holds what must not lose small changes: parameters, their gradients
// and moments, losses. The accumulator holds sums of many terms: residual streams, means,
// log-sum-exps.
#include <string_view>
#include <type_traits>

#include "hybridmed/core/bfloat16.hpp"

namespace hybridmed {

namespace detail {
/// The scalar itself, and float for bf16.
template <class T>
using AtLeastFloat = std::conditional_t<std::is_same_v<T, bfloat16>, float, T>;
}  // namespace detail

/// What parameters, their gradients, moments and losses are held in where a model computes in T.
template <class T>
using master_of = detail::AtLeastFloat<T>;
/// What sums of values in T are held in.
template <class T>
using accumulator_of = detail::AtLeastFloat<T>;

/// What a configuration calls the precision whose models compute in T.
template <class T>
constexpr std::string_view precision_name() {
  return std::is_same_v<T, double> ? "double" : std::is_same_v<T, float> ? "float" : "bf16";
}

}  // namespace hybridmed
