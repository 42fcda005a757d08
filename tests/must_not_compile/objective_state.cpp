// expects: hybridmed: the State of an objective is a module that is made from the objective:
// State(const Objective&) and visit(f); see docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;

struct Scaled {
  static constexpr std::string_view name = "scaled";
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
  /// Begins as it pleases, whatever the objective says.
  template <class T, class B>
  struct State {
    Parameter<T, B> factor{Shape{}, init::ones()};
#ifdef HYBRIDMED_CONTROL
    explicit State(const Scaled&) {}
#endif
    template <class F>
    void visit(F&& f) {
      f("factor", factor);
    }
  };
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r,
               const State<scalar_of<V>, backend_of<V>>& state) const {
    return scale(use<V>(state.factor), get<representation::ImageGlobal>(r).projected.size());
  }
};

using Sum = objective::WeightedSum<Scaled>;
constexpr auto bytes = sizeof(objective::States<float, Reference, Sum>);
