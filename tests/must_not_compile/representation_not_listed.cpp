// expects: hybridmed: a representation is read that the objective does not list in its needs; see
// docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

struct Agreement {
  static constexpr std::string_view name = "agreement";
#ifdef HYBRIDMED_CONTROL
  static constexpr objective::Needs<representation::ImageGlobal, representation::ImpressionGlobal>
      needs{};
#else
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
#endif
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    return add(get<representation::ImageGlobal>(r).projected,
               get<representation::ImpressionGlobal>(r).projected);
  }
};

X f() {
  const auto sum = 0.5 * Agreement{};
  const objective::States<float, Reference, objective::WeightedSum<Agreement>> states(sum);
  objective::Losses<float, Reference> losses;
  return sum(sum.wanted<X>(), states, losses);
}
