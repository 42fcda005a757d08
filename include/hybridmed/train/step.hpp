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
  bool finite = true;        ///< false: the loss or a gradient was not a number and no parameter was changed
};

namespace detail {
template <class O>
inline constexpr bool is_weighted_sum = false;
template <class... O>
inline constexpr bool is_weighted_sum<objective::WeightedSum<O...>> = true;
}  // namespace detail

/// Forward, backward, clipped AdamW update, clamp of the temperature. `teacher` may be null where no term needs it.
template <class M, class O, class T, class B>
StepReport<T, B, O::size> train_step(M& model, const O& objective, const model::Batch<T, B>& batch, const model::Teacher<T, B>* teacher, optim::AdamW<T, B>& optimizer,
                                     double learning_rate, Tape& tape, const nn::Mode& mode) {
  StepReport<T, B, O::size> report;
  RecordOn recording(tape);
  const Variable<T, B> total = [&] {  // the representations die here: the backward pass frees each as it is done with it
    return objective(model.template represent<O::needs, Variable<T, B>>(batch, teacher, mode), report.losses);
  }();
  report.total = static_cast<double>(value(total).item());
  report.finite = std::isfinite(report.total);
  if (!report.finite) {
    tape.clear();
    return report;
  }
  backward(total);
  report.gradient_norm = optimizer.step(learning_rate);
  report.finite = std::isfinite(report.gradient_norm);
  auto& s = model.log_scale.value;
  B::clamp(s.size(), T(0), static_cast<T>(model.config.log_scale_max), s.data());
  return report;
}

/// The losses without gradient, tape or update.
template <class M, class O, class T, class B>
StepReport<T, B, O::size> evaluate_step(const M& model, const O& objective, const model::Batch<T, B>& batch, const model::Teacher<T, B>* teacher, const nn::Mode& mode) {
  StepReport<T, B, O::size> report;
  report.total = static_cast<double>(objective(model.template represent<O::needs, Tensor<T, B>>(batch, teacher, mode), report.losses).item());
  report.finite = std::isfinite(report.total);
  return report;
}

}  // namespace hybridmed::train
