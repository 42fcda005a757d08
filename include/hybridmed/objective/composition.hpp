#pragma once
// Objectives are values that scale and add: 0.5f * InfoNce{} + Captioning{} is again an objective.
#include <array>
#include <limits>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/objective/representations.hpp"

namespace hybridmed::objective {

/// An objective has `static constexpr std::string_view name`, `static constexpr unsigned needs`
/// (bits of Needs) and `template <Value V> V operator()(const Representations<V>&) const` returning
/// one element. See docs/policies/objective.md.
template <class O>
concept Objective = requires {
  { O::name } -> std::convertible_to<std::string_view>;
  { O::needs } -> std::convertible_to<unsigned>;
};

/// One loss of a weighted sum, unweighted; NaN where its term is left out.
template <class T, class B>
struct NamedLoss {
  std::string_view name;
  Tensor<T, B> value;
};

/// A term of weight 0 is left out: nothing that only it needs is computed, and its value is NaN.
/// With `observed` it is computed without gradient, to be looked at.
template <Objective O>
struct Weighted {
  double weight;
  O objective;
  bool observed = false;

  bool active() const { return weight != 0 || observed; }
};

template <Objective... O>
struct WeightedSum {
  static constexpr std::string_view name = "total";
  static constexpr unsigned needs = (0u | ... | O::needs);
  static constexpr std::size_t size = sizeof...(O);
  std::tuple<Weighted<O>...> terms;

  /// Bits of what the terms read that are not left out.
  unsigned active_needs() const {
    return std::apply(
        [](const auto&... term) {
          return (0u | ... |
                  (term.active() ? std::remove_cvref_t<decltype(term.objective)>::needs : 0u));
        },
        terms);
  }

  /// The weighted sum; each term's own value goes to `losses`.
  /// @throws Error where no term has a weight.
  template <Value V>
  V operator()(const Representations<V>& r,
               std::array<NamedLoss<scalar_of<V>, backend_of<V>>, size>& losses) const {
    V total;
    std::size_t i = 0;
    std::apply([&](const auto&... term) { (accumulate(term, r, losses[i++], total), ...); }, terms);
    if (!value(total).defined())
      fail("objective", "total", "every term has weight 0: there is nothing to compute",
           "give at least one term a weight");
    return total;
  }
  template <Value V>
  V operator()(const Representations<V>& r) const {
    std::array<NamedLoss<scalar_of<V>, backend_of<V>>, size> losses;
    return (*this)(r, losses);
  }

 private:
  template <Value V, class Term>
  static void accumulate(const Term& term, const Representations<V>& r,
                         NamedLoss<scalar_of<V>, backend_of<V>>& out, V& total) {
    static_assert(
        std::is_invocable_r_v<V, const decltype(term.objective)&, const Representations<V>&>,
        "hybridmed: an objective needs template <Value V> V operator()(const Representations<V>&) "
        "const; see docs/policies/objective.md");
    out.name = term.objective.name;
    if (term.weight == 0) {
      NoGrad off;
      out.value = term.observed
                      ? value(term.objective(r))
                      : tensor_of<V>::full(Shape{}, std::numeric_limits<scalar_of<V>>::quiet_NaN());
      return;
    }
    const V loss = term.objective(r);
    out.value = value(loss);
    const V weighted = term.weight == 1 ? loss : scale(loss, term.weight);
    total = value(total).defined() ? add(total, weighted) : weighted;
  }
};

template <Objective O>
WeightedSum<O> operator*(double weight, O objective) {
  return {{Weighted<O>{weight, std::move(objective)}}};
}
/// A term that is computed and reported, and not trained.
template <Objective O>
WeightedSum<O> observe(O objective) {
  return {{Weighted<O>{0, std::move(objective), true}}};
}
/// Never chosen for an objective: says what an almost-objective lacks.
template <class O>
requires(!Objective<O> &&
         std::is_invocable_v<const O&, const Representations<Tensor<float, Reference>>&>) void
operator*(double, O) {
  static_assert(Objective<O>,
                "hybridmed: an objective needs static constexpr members name (a string view) and "
                "needs (bits of objective::Needs); see docs/policies/objective.md");
}
template <Objective... A>
WeightedSum<A...> operator*(double weight, WeightedSum<A...> sum) {
  std::apply([&](auto&... term) { ((term.weight *= weight), ...); }, sum.terms);
  return sum;
}
template <Objective... A, Objective... C>
WeightedSum<A..., C...> operator+(const WeightedSum<A...>& a, const WeightedSum<C...>& c) {
  return {std::tuple_cat(a.terms, c.terms)};
}
template <Objective... A, Objective O>
WeightedSum<A..., O> operator+(const WeightedSum<A...>& a, O o) {
  return a + 1.0 * std::move(o);
}
template <Objective O, Objective... A>
WeightedSum<O, A...> operator+(O o, const WeightedSum<A...>& a) {
  return 1.0 * std::move(o) + a;
}
template <Objective O, Objective P>
requires(
    !requires { O::size; } && !requires { P::size; }) WeightedSum<O, P>
operator+(O o, P p) { return 1.0 * std::move(o) + 1.0 * std::move(p); }

}  // namespace hybridmed::objective

namespace hybridmed {
// For objectives outside hybridmed::objective, under `using namespace hybridmed`.
using objective::operator*;
using objective::operator+;
}  // namespace hybridmed
