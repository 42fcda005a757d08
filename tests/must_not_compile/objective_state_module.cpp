// expects: hybridmed: the State of an objective is a module that is made from the objective:
// State(const Objective&) and visit(f); see docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;

struct Scaled {
  static constexpr std::string_view name = "scaled";
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
  /// Holds a parameter that it names to nobody.
  template <class T, class B>
  struct State {
    Parameter<T, B> factor{Shape{}, init::ones()};

    explicit State(const Scaled&) {}
#ifdef HYBRIDMED_CONTROL
    template <class F>
    void visit(F&& f) {
      f("factor", factor);
    }
#endif
  };
};

using Sum = objective::WeightedSum<Scaled>;
constexpr auto bytes = sizeof(objective::States<float, Reference, Sum>);
