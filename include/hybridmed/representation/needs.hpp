#pragma once
// Which representations an objective reads, as a type: a model computes those and no others. The
// set is open: a representation is any tag type, a user's own too.
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "hybridmed/autograd/variable.hpp"
#include "hybridmed/core/host.hpp"

namespace hybridmed::representation {

/// What a representation is computed from: bits of a study.
enum Inputs : unsigned { no_input = 0, an_image = 1, findings = 2, impression = 4 };

/// A representation is a tag with a `name`, the `Inputs` that it `reads`, and `Of<V>`, its values:
/// a small struct whose `visit(f)` calls f(member) for each of them.
/// See docs/policies/representation.md.
template <class R>
concept Representation = requires {
  { R::name } -> std::convertible_to<std::string_view>;
  { R::reads } -> std::convertible_to<unsigned>;
  typename R::template Of<Tensor<float, Host>>;
};

/// A set of representations.
template <class... R>
struct Needs {
  static_assert((Representation<R> && ...),
                "hybridmed: a representation is a tag type with static constexpr members name and "
                "reads, and template <Value V> struct Of; see docs/policies/representation.md");
  static constexpr std::size_t size = sizeof...(R);
  /// Bits of Inputs.
  static constexpr unsigned reads = (0u | ... | unsigned{R::reads});
  template <class X>
  static constexpr bool has = (std::is_same_v<X, R> || ...);
};

namespace detail {
template <class A, class C>
struct Union {
  using type = A;
};
template <class... A, class First, class... Rest>
struct Union<Needs<A...>, Needs<First, Rest...>> {
  using With =
      std::conditional_t<Needs<A...>::template has<First>, Needs<A...>, Needs<A..., First>>;
  using type = typename Union<With, Needs<Rest...>>::type;
};
}  // namespace detail

/// The representations of either set.
template <class... A, class... C>
constexpr auto operator|(Needs<A...>, Needs<C...>) {
  return typename detail::Union<Needs<A...>, Needs<C...>>::type{};
}

/// Is every representation of the first set in the second?
template <class... A, class Set>
constexpr bool within(Needs<A...>, Set) {
  return (Set::template has<A> && ...);
}

}  // namespace hybridmed::representation
