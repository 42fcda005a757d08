#pragma once
// A model and the objective that trains it, with the objective's own parameters: what an optimizer
// and a training step take.
#include <set>

#include "hybridmed/objective/composition.hpp"

namespace hybridmed::system {

/// What is asked of a model: it sets the representations that an objective wants.
template <class M, class Set>
concept Represents = nn::Module<M> && requires {
  typename M::Scalar;
  typename M::Backend;
  typename M::Batch;
} && requires(const M& m, const typename M::Batch& batch, const nn::Mode& mode,
              representation::Representations<
                  Variable<master_of<typename M::Scalar>, typename M::Backend>, Set>& r) {
  m.represent(batch, mode, r);
};

/// @throws Error where two parameters of a module have one name.
template <class T, class B, class M>
void need_distinct_names(M& module, std::string_view who) {
  std::set<std::string> names;
  nn::for_each_parameter(
      module, nn::ParameterVisitor<T, B>([&](const std::string& name, Parameter<T, B>&) {
        if (!names.insert(name).second)
          fail("system", who, "two parameters are called '" + name + "'",
               "two terms of the objective, or a term and the model, or the objectives of two "
               "stages, name their parameters alike: visit() of a State chooses the names");
      }));
}

template <class M, class Objective>
class Composed {
  static_assert(sizeof(M) == 0,
                "hybridmed: a training step takes a weighted sum of objectives: write 1.0 * "
                "objective");
};

/// A module: first the parameters of the objective, then the model. The model must outlive it,
/// where it is; several objectives, one a stage, may share it.
template <class M, class... O>
class Composed<M, objective::WeightedSum<O...>> {
 public:
  using Objective = objective::WeightedSum<O...>;
  using Set = typename Objective::Set;
  static_assert(Represents<M, Set>,
                "hybridmed: a model that is trained is a module with types Scalar, Backend and "
                "Batch, and template <Value V, class N> void represent(const Batch&, const "
                "nn::Mode&, Representations<V, N>&) const; see docs/policies/system.md");
  using T = master_of<typename M::Scalar>;  ///< of parameters and losses
  using B = typename M::Backend;
  using Batch = typename M::Batch;
  using States = objective::States<T, B, Objective>;
  using Losses = objective::Losses<T, B>;

  /// @throws Error where two parameters have one name.
  Composed(M& model, Objective objective)
      : model_(&model), objective_(std::move(objective)), states_(objective_) {
    if constexpr (requires { M::computes; })
      static_assert(within(Set{}, M::computes),
                    "hybridmed: an objective needs a representation that this model does not "
                    "compute; see docs/policies/representation.md");
    need_distinct_names<T, B>(*this, "Composed");
  }

  template <class F>
  void visit(F&& f) {
    states_.visit(f);
    model_->visit(f);
  }

  /// The weighted sum; each loss goes to `losses`. V: Variable with a tape, or Tensor without.
  template <Value V>
  V total(const Batch& batch, const nn::Mode& mode, Losses& losses) const {
    auto r = objective_.template wanted<V>();
    model_->represent(batch, mode, r);
    r.need_all();
    return objective_(r, states_, losses);
  }
  /// Brings the objective's parameters back to where they may be, after an update.
  /// @throws Error where the optimizer was made of the model alone, and left them out.
  void constrain() {
    nn::for_each_parameter(states_, [](const std::string& name, const Parameter<T, B>& p) {
      if (p.trainable && p.slot.grad.defined())
        fail("system", "Composed",
             "the objective's parameter '" + name + "' has a gradient that no update used",
             "make the optimizer of the Composed, not of the model alone");
    });
    objective_.constrain(states_);
  }
  /// Which epoch, from 0, begins.
  void begin_epoch(Index epoch) { objective_.begin_epoch(states_, epoch); }

  M& model() { return *model_; }
  const Objective& objective() const { return objective_; }
  States& states() { return states_; }
  const States& states() const { return states_; }

 private:
  M* model_;
  Objective objective_;
  States states_;
};

template <class M, class Objective>
Composed(M&, Objective) -> Composed<M, Objective>;

}  // namespace hybridmed::system
