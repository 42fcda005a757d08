// expects: hybridmed: an objective needs static constexpr members name (a string view) and needs
// (a value of representation::Needs<...>); see docs/policies/objective.md

#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;

/// Names its representations by a type, not by a value.
struct Agreement {
  static constexpr std::string_view name = "agreement";
#ifdef HYBRIDMED_CONTROL
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
#else
  using needs = objective::Needs<representation::ImageGlobal>;
#endif
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    return get<representation::ImageGlobal>(r).projected;
  }
};

void f() { static_cast<void>(0.5 * Agreement{}); }
