#pragma once
// One training step, whole.
#include "hybridmed/model/hybridmed.hpp"
#include "hybridmed/optim/adamw.hpp"

namespace hybridmed::train {

/// What one step reports. Losses are unweighted, in the order of the objective's terms.
template <class T, class B, std::size_t n>
struct StepReport {
  std::array<objective::NamedLoss<T, B>, n> losses;
  double total = 0;
  double gradient_norm = 0;  ///< before clipping
  bool finite = true;  ///< false: the loss or a gradient was not a number and no parameter was
                       ///< changed (running statistics of BatchNorm have moved)
};

namespace detail {
template <class O>
struct TermsOf {  // in the signature, so that its sentence comes before "no matching function"
  static_assert(
      sizeof(O) == 0,
      "hybridmed: a training step takes a weighted sum of objectives: write 1.0 * objective");
  static constexpr std::size_t count = 0;
};
template <class... O>
struct TermsOf<objective::WeightedSum<O...>> {
  static constexpr std::size_t count = sizeof...(O);
};
/// What a step asks of a model.
template <class M, class O, class T, class B>
concept TrainableModel = requires(M& m, const model::Batch<T, B>& batch,
                                  const model::Teacher<T, B>* teacher, const nn::Mode& mode) {
  {
    m.template represent<O::needs, Variable<T, B>>(batch, teacher, mode)
    } -> std::same_as<objective::Representations<Variable<T, B>>>;
  { m.log_scale.value } -> std::convertible_to<Tensor<T, B>>;
  { m.config.log_scale_max } -> std::convertible_to<double>;
};
/// What the terms with a weight read. A model that does not take the fourth argument computes what
/// all terms read.
template <class V, class M, class O, class T, class B>
objective::Representations<V> represent(const M& model, const O& objective,
                                        const model::Batch<T, B>& batch,
                                        const model::Teacher<T, B>* teacher, const nn::Mode& mode) {
  if constexpr (requires {
                  model.template represent<O::needs, V>(batch, teacher, mode,
                                                        objective.active_needs());
                })
    return model.template represent<O::needs, V>(batch, teacher, mode, objective.active_needs());
  else
    return model.template represent<O::needs, V>(batch, teacher, mode);
}
}  // namespace detail

/// Forward, backward, clipped AdamW update, clamp of the temperature. `teacher` may be null where
/// no term needs it.
template <class M, class O, class T, class B>
StepReport<T, B, detail::TermsOf<O>::count> train_step(
    M& model, const O& objective, const model::Batch<T, B>& batch,
    const std::type_identity_t<model::Teacher<T, B>>* teacher, optim::AdamW<T, B>& optimizer,
    double learning_rate, Tape& tape, const nn::Mode& mode) {
  static_assert(
      detail::TrainableModel<M, O, T, B>,
      "hybridmed: a model that train_step trains has represent<needs, V>(batch, teacher, mode), a "
      "parameter log_scale, and config.log_scale_max; see hybridmed/model/hybridmed.hpp");
  StepReport<T, B, O::size> report;
  RecordOn recording(tape);
  const Variable<T, B> total =
      [&] {  // the representations die here: the backward pass frees each as it is done with it
        return objective(detail::represent<Variable<T, B>>(model, objective, batch, teacher, mode),
                         report.losses);
      }();
  report.total = static_cast<double>(value(total).item());
  report.finite = std::isfinite(report.total);
  if (!report.finite) {
    tape.clear();
    return report;
  }
  try {
    backward(total);
    report.gradient_norm = optimizer.step(learning_rate);
  } catch (...) {
    optimizer.discard();  // no half gradient is left for the next step
    throw;
  }
  report.finite = std::isfinite(report.gradient_norm);
  auto& s = model.log_scale.value;
  B::clamp(s.size(), T(0), static_cast<T>(model.config.log_scale_max), s.data());
  return report;
}

/// The losses without gradient, tape or update.
template <class M, class O, class T, class B>
StepReport<T, B, detail::TermsOf<O>::count> evaluate_step(
    const M& model, const O& objective, const model::Batch<T, B>& batch,
    const std::type_identity_t<model::Teacher<T, B>>* teacher, const nn::Mode& mode) {
  StepReport<T, B, O::size> report;
  report.total = static_cast<double>(
      objective(detail::represent<Tensor<T, B>>(model, objective, batch, teacher, mode),
                report.losses)
          .item());
  report.finite = std::isfinite(report.total);
  return report;
}

}  // namespace hybridmed::train
