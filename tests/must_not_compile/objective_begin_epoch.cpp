// expects: hybridmed: begin_epoch of an objective is const and takes its State& and an
// Index; see docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

struct Plain {
  static constexpr std::string_view name = "plain";
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    return get<representation::ImageGlobal>(r).projected;
  }
#ifdef HYBRIDMED_CONTROL
  template <class S>
  void begin_epoch(S&, Index) const {}
#else
  void begin_epoch(std::string_view) const {}
#endif
};

void f() {
  const auto sum = 0.5 * Plain{};
  objective::States<float, Reference, objective::WeightedSum<Plain>> states(sum);
  sum.begin_epoch(states, 0);
}
