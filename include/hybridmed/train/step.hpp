#pragma once
// One training step, whole.
#include "hybridmed/optim/adamw.hpp"
#include "hybridmed/system/composed.hpp"

namespace hybridmed::train {

/// What one step reports. Losses are unweighted, in the order of the objective's terms.
template <class T, class B>
struct StepReport {
  objective::Losses<T, B> losses;
  double total = 0;
  double gradient_norm = 0;  ///< before clipping
  bool finite = true;  ///< false: the loss or a gradient was not a number and no parameter was
                       ///< changed (running statistics of BatchNorm have moved)
};

/// Forward, backward, clipped AdamW update, and what the objectives do after one. `system`: a
/// system::Composed, or one stage of a system::System.
template <class S, class T, class B>
StepReport<T, B> train_step(S& system, const typename S::Batch& batch,
                            optim::AdamW<T, B>& optimizer, double learning_rate, Tape& tape,
                            const nn::Mode& mode) {
  StepReport<T, B> report;
  RecordOn recording(tape);
  const Variable<T, B> total = system.template total<Variable<T, B>>(batch, mode, report.losses);
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
  if (report.finite) system.constrain();
  return report;
}

/// The losses without gradient, tape or update.
template <class S>
auto evaluate_step(const S& system, const typename S::Batch& batch, const nn::Mode& mode) {
  using X = std::remove_cvref_t<decltype(std::declval<typename S::Losses>()[0].value)>;
  StepReport<scalar_of<X>, backend_of<X>> report;
  report.total = static_cast<double>(system.template total<X>(batch, mode, report.losses).item());
  report.finite = std::isfinite(report.total);
  return report;
}

}  // namespace hybridmed::train
