#pragma once
// The representations of one batch: objectives say which they want, a model sets them, objectives
// read them.
#include <algorithm>
#include <array>
#include <string>
#include <tuple>

#include "hybridmed/representation/needs.hpp"

namespace hybridmed::representation {

template <Value V, class Needs>
class Representations;

template <Value V, class... R>
class Representations<V, Needs<R...>> {
 public:
  using Set = Needs<R...>;
  /// Is X of the set? What is not, need not be compiled.
  template <class X>
  static constexpr bool has = Set::template has<X>;

  template <class X>
  void want() {
    static_assert(has<X>,
                  "hybridmed: a representation is wanted that is not in the set of needs; "
                  "see docs/policies/representation.md");
    wanted_[place<X>] = true;
  }
  /// Does an objective with a weight read X?
  template <class X>
  bool wants() const {
    if constexpr (has<X>)
      return wanted_[place<X>];
    else
      return false;
  }
  /// Bits of the Inputs of what is wanted.
  unsigned reads() const { return (0u | ... | (wants<R>() ? unsigned{R::reads} : 0u)); }

  template <class X>
  void set(typename X::template Of<V> values) {
    static_assert(has<X>,
                  "hybridmed: a model sets a representation that is not in the set of "
                  "needs: ask has<X> first; see docs/policies/representation.md");
    std::get<place<X>>(values_) = std::move(values);
    set_[place<X>] = true;
  }
  /// @throws Error where no model has set it.
  template <class X>
  const typename X::template Of<V>& get() const {
    static_assert(has<X>,
                  "hybridmed: a representation is read that the objective does not list in its "
                  "needs; see docs/policies/objective.md");
    if constexpr (has<X>) {
      if (!set_[place<X>])
        fail("objective", "representations",
             "an objective reads '" + std::string(X::name) + "', but the model has not computed it",
             "list it in the objective's `needs`, and build the model with the needs of all its "
             "objectives");
      return std::get<place<X>>(values_);
    }
  }

  /// @throws Error that names a representation which is wanted and not set.
  void need_all() const { (need_one<R>(), ...); }

  /// Calls f(member) for every value of every representation that is set: V, tensors of the
  /// backend, index tensors, tensors of the host, numbers.
  template <class F>
  void visit(F&& f) {
    const auto one = [&]<class X>(X*) {
      if (set_[place<X>]) std::get<place<X>>(values_).visit(f);
    };
    (one(static_cast<R*>(nullptr)), ...);
  }

 private:
  template <class X>
  static constexpr std::size_t place = [] {
    constexpr std::array<bool, sizeof...(R)> same{std::is_same_v<X, R>...};
    return static_cast<std::size_t>(std::find(same.begin(), same.end(), true) - same.begin());
  }();
  template <class X>
  void need_one() const {
    if (wanted_[place<X>] && !set_[place<X>])
      fail("objective", "representations",
           "an objective needs '" + std::string(X::name) + "', which this model does not compute",
           "a model of your own sets it in represent()");
  }
  std::tuple<typename R::template Of<V>...> values_;
  std::array<bool, sizeof...(R)> wanted_{}, set_{};
};

/// The values of representation X: get<ImageGlobal>(r).projected.
template <class X, Value V, class N>
const typename X::template Of<V>& get(const Representations<V, N>& r) {
  return r.template get<X>();
}

/// Cuts the tape: the same values as constants.
template <Value V, class N>
void detach(Representations<V, N>& r) {
  r.visit([](auto& member) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(member)>, V>)
      member = hybridmed::detach(member);
  });
}

}  // namespace hybridmed::representation
