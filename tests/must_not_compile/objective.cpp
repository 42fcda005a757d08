// expects: hybridmed: an objective needs template <Value V, class N> V operator()(const
// Representations<V, N>&) const; see docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

struct Agreement {
  static constexpr std::string_view name = "agreement";
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
#ifdef HYBRIDMED_CONTROL
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    return get<representation::ImageGlobal>(r).projected;
  }
#else
  template <Value V, class N>
  double operator()(const objective::Representations<V, N>&) const {
    return 0;
  }
#endif
};

X f() {
  const auto sum = 0.5 * Agreement{};
  const objective::States<float, Reference, objective::WeightedSum<Agreement>> states(sum);
  objective::Losses<float, Reference> losses;
  return sum(sum.wanted<X>(), states, losses);
}
