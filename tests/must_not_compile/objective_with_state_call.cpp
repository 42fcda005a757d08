// expects: hybridmed: an objective with a State needs template <Value V, class N> V
// operator()(const Representations<V, N>&, const State<T, B>&) const; see
// docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

struct Scaled {
  static constexpr std::string_view name = "scaled";
  static constexpr objective::Needs<representation::ImageGlobal> needs{};
  template <class T, class B>
  struct State {
    Parameter<T, B> factor{Shape{}, init::ones()};

    explicit State(const Scaled&) {}
    template <class F>
    void visit(F&& f) {
      f("factor", factor);
    }
  };
#ifdef HYBRIDMED_CONTROL
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r,
               const State<scalar_of<V>, backend_of<V>>& state) const {
    return multiply(get<representation::ImageGlobal>(r).projected, use<V>(state.factor));
  }
#else
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    return get<representation::ImageGlobal>(r).projected;
  }
#endif
};

X f() {
  const auto sum = 0.5 * Scaled{};
  const objective::States<float, Reference, objective::WeightedSum<Scaled>> states(sum);
  objective::Losses<float, Reference> losses;
  return sum(sum.wanted<X>(), states, losses);
}
