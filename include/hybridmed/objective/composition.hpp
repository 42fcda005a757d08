#pragma once
// Objectives are values that scale and add: 0.5f * InfoNce{} + Captioning{} is again an objective.
#include <array>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/objective/representations.hpp"

namespace hybridmed::objective {

/// An objective has `static constexpr std::string_view name`, `static constexpr unsigned needs` (bits of Needs) and
/// `template <Value V> V operator()(const Representations<V>&) const` returning one element. See docs/policies/objective.md.
template <class O>
concept Objective = requires {
  { O::name } -> std::convertible_to<std::string_view>;
  { O::needs } -> std::convertible_to<unsigned>;
};

/// One loss of a weighted sum, unweighted.
template <class T, class B>
struct NamedLoss {
  std::string_view name;
  Tensor<T, B> value;
};

template <Objective O>
struct Weighted {
  double weight;
  O objective;
};

template <Objective... O>
struct WeightedSum {
  static constexpr std::string_view name = "total";
  static constexpr unsigned needs = (0u | ... | O::needs);
  static constexpr std::size_t size = sizeof...(O);
  std::tuple<Weighted<O>...> terms;

  /// The weighted sum; each term's own value goes to `losses`. A term of weight 0 is evaluated without gradient.
  template <Value V>
  V operator()(const Representations<V>& r, std::array<NamedLoss<scalar_of<V>, backend_of<V>>, size>& losses) const {
    V total;
    std::size_t i = 0;
    std::apply([&](const auto&... term) { (accumulate(term, r, losses[i++], total), ...); }, terms);
    return total;
  }
  template <Value V>
  V operator()(const Representations<V>& r) const {
    std::array<NamedLoss<scalar_of<V>, backend_of<V>>, size> losses;
    return (*this)(r, losses);
  }

 private:
  template <Value V, class Term>
  static void accumulate(const Term& term, const Representations<V>& r, NamedLoss<scalar_of<V>, backend_of<V>>& out, V& total) {
    static_assert(std::is_invocable_r_v<V, const decltype(term.objective)&, const Representations<V>&>,
                  "hybridmed: an objective needs template <Value V> V operator()(const Representations<V>&) const; see docs/policies/objective.md");
    V weighted;
    out.name = term.objective.name;
    if (term.weight == 0) {
      NoGrad off;
      const V loss = term.objective(r);
      out.value = value(loss);
      weighted = V(value(scale(loss, 0)));
    } else {
      const V loss = term.objective(r);
      out.value = value(loss);
      weighted = term.weight == 1 ? loss : scale(loss, term.weight);
    }
    total = value(total).defined() ? add(total, weighted) : weighted;
  }
};

template <Objective O>
WeightedSum<O> operator*(double weight, O objective) {
  return {{Weighted<O>{weight, std::move(objective)}}};
}
/// Never chosen for an objective: says what an almost-objective lacks.
template <class O>
  requires(!Objective<O> && std::is_invocable_v<const O&, const Representations<Tensor<float, Reference>>&>)
void operator*(double, O) {
  static_assert(Objective<O>, "hybridmed: an objective needs static constexpr members name (a string view) and needs (bits of objective::Needs); see docs/policies/objective.md");
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
  requires(!requires { O::size; } && !requires { P::size; })
WeightedSum<O, P> operator+(O o, P p) {
  return 1.0 * std::move(o) + 1.0 * std::move(p);
}

}  // namespace hybridmed::objective

namespace hybridmed {
// For objectives outside hybridmed::objective, under `using namespace hybridmed`.
using objective::operator*;
using objective::operator+;
}  // namespace hybridmed
