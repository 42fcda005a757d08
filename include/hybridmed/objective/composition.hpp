#pragma once
// Objectives are values that scale and add: 0.5f * InfoNce{} + Captioning{} is again an objective.
#include <limits>
#include <tuple>
#include <type_traits>

#include "hybridmed/objective/objective.hpp"

namespace hybridmed::objective {

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
struct WeightedSum;

/// The parameters of every term of a sum that has some. Each term's names are its own: two terms
/// whose parameters have one name cannot stand in one sum.
template <class T, class B, class Sum>
struct States;
template <class T, class B, class Sum>
struct States<T, B, const Sum> : States<T, B, Sum> {
  using States<T, B, Sum>::States;
};
template <class T, class B, Objective... O>
struct States<T, B, WeightedSum<O...>> {
  std::tuple<state_of<O, T, B>...> each;

  explicit States(const WeightedSum<O...>& sum)
      : each(std::apply(
            [](const auto&... term) {
              return std::tuple<state_of<O, T, B>...>(state_of<O, T, B>(term.objective)...);
            },
            sum.terms)) {}
  template <class F>
  void visit(F&& f) {
    std::apply([&](auto&... state) { (state.visit(f), ...); }, each);
  }
};

template <Objective... O>
struct WeightedSum {
  static constexpr std::string_view name = "total";
  static constexpr auto needs = (Needs<>{} | ... | O::needs);
  using Set = std::remove_cvref_t<decltype(needs)>;
  static constexpr std::size_t size = sizeof...(O);
  static_assert(size <= 16, "hybridmed: a weighted sum has at most 16 terms");
  std::tuple<Weighted<O>...> terms;

  /// Calls f(term) for each Weighted term.
  template <class F>
  void each(F&& f) const {
    std::apply([&](const auto&... term) { (f(term), ...); }, terms);
  }

  /// Empty representations that want what the terms read that are not left out.
  template <Value V>
  Representations<V, Set> wanted() const {
    Representations<V, Set> r;
    each([&]<class X>(const Weighted<X>& term) {
      if (term.active()) want(r, X::needs);
    });
    return r;
  }
  /// Does a term that is not left out read X?
  template <class X>
  bool reads() const {
    bool any = false;
    each([&]<class P>(const Weighted<P>& term) {
      any = any || (term.active() && needs_of<P>::template has<X>);
    });
    return any;
  }

  /// The weighted sum; each term's own value goes to `losses`.
  /// @throws Error where no term has a weight.
  template <Value V, class N>
  V operator()(const Representations<V, N>& r,
               const States<scalar_of<V>, backend_of<V>, WeightedSum>& states,
               Losses<scalar_of<V>, backend_of<V>>& losses) const {
    V total;
    losses.clear();
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      (accumulate(std::get<i>(terms), r, std::get<i>(states.each), losses, total), ...);
    }
    (std::make_index_sequence<size>());
    if (!value(total).defined())
      fail("objective", "total", "every term has weight 0: there is nothing to compute",
           "give at least one term a weight");
    return total;
  }

  /// Brings the parameters of the terms back to where they may be, after an update.
  template <class T, class B>
  void constrain(States<T, B, WeightedSum>& states) const {
    with_states(states, []<class X, class S>(const X& objective, S& state) {
      if constexpr (requires { objective.constrain(state); })
        objective.constrain(state);
      else
        static_assert(
            !requires { &X::constrain; } && !requires { &X::template constrain<S>; },
            "hybridmed: constrain of an objective is const and takes its State&; see "
            "docs/policies/objective.md");
    });
  }
  /// Tells the terms which epoch of the stage, from 0, begins.
  template <class T, class B>
  void begin_epoch(States<T, B, WeightedSum>& states, Index epoch) const {
    with_states(states, [&]<class X, class S>(const X& objective, S& state) {
      if constexpr (requires { objective.begin_epoch(state, epoch); })
        objective.begin_epoch(state, epoch);
      else
        static_assert(
            !requires { &X::begin_epoch; } && !requires { &X::template begin_epoch<S>; },
            "hybridmed: begin_epoch of an objective is const and takes its State& and an "
            "Index; see docs/policies/objective.md");
    });
  }

 private:
  template <class R, class... X>
  static void want(R& r, Needs<X...>) {
    (r.template want<X>(), ...);
  }
  template <class S, class F>
  void with_states(S& states, F&& f) const {
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      (f(std::get<i>(terms).objective, std::get<i>(states.each)), ...);
    }
    (std::make_index_sequence<size>());
  }
  template <Value V, class R, class X, class S>
  static V loss_of(const X& objective, const R& r, const S& state) {
    if constexpr (has_state<X, scalar_of<V>, backend_of<V>>) {
      static_assert(std::is_invocable_r_v<V, const X&, const R&, const S&>,
                    "hybridmed: an objective with a State needs template <Value V, class N> V "
                    "operator()(const Representations<V, N>&, const State<T, B>&) const; see "
                    "docs/policies/objective.md");
      return objective(r, state);
    } else {
      static_assert(std::is_invocable_r_v<V, const X&, const R&>,
                    "hybridmed: an objective needs template <Value V, class N> V "
                    "operator()(const Representations<V, N>&) const; see "
                    "docs/policies/objective.md");
      return objective(r);
    }
  }
  /// @throws Error where it is not one number.
  template <Value V, class X, class R, class S>
  static V number_of(const X& objective, const R& r, const S& state) {
    V loss = loss_of<V>(objective, r, state);
    if (!value(loss).defined() || value(loss).size() != 1)
      fail("objective", X::name,
           "expected a loss of one element, got " + (value(loss).defined()
                                                         ? "shape " + value(loss).shape().str()
                                                         : std::string("an undefined value")),
           "sum() or mean() of it; no_loss<V>() where no sample has one");
    return loss;
  }
  template <Value V, class Term, class R, class S>
  static void accumulate(const Term& term, const R& r, const S& state,
                         Losses<scalar_of<V>, backend_of<V>>& losses, V& total) {
    if (term.weight == 0) {
      NoGrad off;
      losses.add(term.objective.name,
                 term.observed
                     ? value(number_of<V>(term.objective, r, state))
                     : tensor_of<V>::full(Shape{}, std::numeric_limits<scalar_of<V>>::quiet_NaN()));
      return;
    }
    const V loss = number_of<V>(term.objective, r, state);
    losses.add(term.objective.name, value(loss));
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
requires(!Objective<O> && requires { O::name; }) void operator*(double, O) {
  static_assert(Objective<O>,
                "hybridmed: an objective needs static constexpr members name (a string view) and "
                "needs (a value of representation::Needs<...>); see docs/policies/objective.md");
}
template <Objective... A>
WeightedSum<A...> operator*(double weight, WeightedSum<A...> sum) {
  std::apply([&](auto&... term) { ((term.weight *= weight), ...); }, sum.terms);
  return sum;
}
/// On either side.
template <Objective O>
WeightedSum<O> operator*(O objective, double weight) {
  return weight * std::move(objective);
}
template <Objective... A>
WeightedSum<A...> operator*(WeightedSum<A...> sum, double weight) {
  return weight * std::move(sum);
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
