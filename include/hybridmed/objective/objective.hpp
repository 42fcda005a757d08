#pragma once
// What an objective is: a small value class that reads representations, and may own parameters.
#include <array>
#include <string_view>

#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/nn/module.hpp"
#include "hybridmed/representation/tags.hpp"

namespace hybridmed::objective {

using representation::Needs;
using representation::Representations;

namespace detail {
template <class X>
struct IsNeeds : std::false_type {};
template <class... R>
struct IsNeeds<Needs<R...>> : std::true_type {};
}  // namespace detail

/// An objective has `static constexpr std::string_view name`, `static constexpr Needs<...> needs`
/// and `template <Value V, class N> V operator()(const Representations<V, N>&) const` returning one
/// element. One with parameters of its own has `template <class T, class B> struct State`, a module
/// that is made from the objective, and takes it as a second argument. See
/// docs/policies/objective.md.
template <class O>
concept Objective = requires {
  { O::name } -> std::convertible_to<std::string_view>;
  requires detail::IsNeeds<std::remove_cvref_t<decltype(O::needs)>>::value;
};

/// The set of representations that O reads.
template <Objective O>
using needs_of = std::remove_cvref_t<decltype(O::needs)>;

/// Does the loss compare the samples of a batch with each other, so that one alone teaches nothing?
/// An objective says so with `static constexpr bool compares_samples = true`.
template <Objective O>
inline constexpr bool compares_samples = [] {
  if constexpr (requires { O::compares_samples; })
    return bool{O::compares_samples};
  else
    return false;
}();

/// Stands for the parameters of an objective without any.
template <class T, class B>
struct NoState {
  template <class O>
  explicit NoState(const O&) {}
  template <class F>
  void visit(F&&) {}
};

namespace detail {
template <class O, class T, class B>
struct StateOf {
  using type = NoState<T, B>;
  static constexpr bool any = false;
};
template <class O, class T, class B>
requires requires { typename O::template State<T, B>; }
struct StateOf<O, T, B> {
  using type = typename O::template State<T, B>;
  static constexpr bool any = true;
  static_assert(nn::Module<type> && std::is_constructible_v<type, const O&>,
                "hybridmed: the State of an objective is a module that is made from the objective: "
                "State(const Objective&) and visit(f); see docs/policies/objective.md");
};
}  // namespace detail

/// The parameters of one objective.
template <class O, class T, class B>
using state_of = typename detail::StateOf<O, T, B>::type;
template <class O, class T, class B>
inline constexpr bool has_state = detail::StateOf<O, T, B>::any;

/// One loss of a weighted sum, unweighted; NaN where its term is left out.
template <class T, class B>
struct NamedLoss {
  std::string_view name;
  Tensor<T, B> value;
};

/// The losses of a step, in the order of the terms. Takes no memory from the heap.
template <class T, class B>
class Losses {
 public:
  static constexpr std::size_t most = 16;

  void clear() { size_ = 0; }
  void add(std::string_view name, Tensor<T, B> value) {
    each_[size_] = {name, std::move(value)};
    ++size_;
  }
  std::size_t size() const { return size_; }
  const NamedLoss<T, B>& operator[](std::size_t i) const { return each_[i]; }
  const NamedLoss<T, B>* begin() const { return each_.data(); }
  const NamedLoss<T, B>* end() const { return each_.data() + size_; }

 private:
  std::array<NamedLoss<T, B>, most> each_;
  std::size_t size_ = 0;
};

}  // namespace hybridmed::objective
