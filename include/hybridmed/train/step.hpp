#pragma once
// One training step, whole: issued without waiting for a device, and read when its numbers are
// wanted.
#include <string_view>
#include <utility>
#include <vector>

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

/// The same as numbers on the host.
struct StepNumbers {
  std::vector<std::pair<std::string_view, double>> losses;
  double total = 0, gradient_norm = 0;
  bool finite = true;
};

namespace detail {
template <class B>
struct DownloadOf {
  struct type {};
};
template <BackendDownload B>
struct DownloadOf<B> {
  using type = typename B::Download;
};
}  // namespace detail

/// A step that was issued: its losses and its norm are in the backend, and read() waits for them.
template <class T, class B>
struct IssuedStep {
  objective::Losses<T, B> losses;
  Tensor<T, B> total;
  typename optim::AdamW<T, B>::Norm norm;
  Tensor<T, B> together{};  ///< the losses, then the total, where they lie side by side
  std::vector<typename detail::DownloadOf<B>::type> sent{};

  /// Lets the numbers begin their way to the host, where the backend can: numbers() waits for this
  /// step alone then, however many were issued after it.
  void send() {
    if constexpr (BackendDownload<B>) {
      const auto begin = [&]<class X>(const Tensor<X, B>& t) {
        sent.emplace_back(t.data(), static_cast<std::size_t>(t.size()) * sizeof(X));
      };
      sent.clear();
      begin(norm.state);
      if (together.defined()) return begin(together);
      for (const auto& loss : losses) begin(loss.value);
      begin(total);
    }
  }
  /// Waits for the step; for that alone where its numbers were sent.
  StepNumbers numbers() const {
    const std::size_t n = losses.size() + 1;
    std::vector<T> values(n);
    StepState state;
    if constexpr (BackendDownload<B>) {
      if (!sent.empty()) {
        sent[0].read(&state);
        for (std::size_t i = 1; i < sent.size(); ++i) sent[i].read(values.data() + i - 1);
      }
    }
    if (sent.empty()) {
      state = norm.state.item();
      for (std::size_t i = 0; i + 1 < n; ++i) values[i] = losses[i].value.item();
      values.back() = total.item();
    }
    StepNumbers out;
    for (std::size_t i = 0; i + 1 < n; ++i)
      out.losses.emplace_back(losses[i].name, static_cast<double>(values[i]));
    out.total = static_cast<double>(values.back());
    out.gradient_norm = state.norm();
    out.finite = std::isfinite(out.total) && std::isfinite(out.gradient_norm);
    return out;
  }
  StepReport<T, B> read() const {
    StepReport<T, B> report{losses, static_cast<double>(total.item()), norm.read()};
    report.finite = std::isfinite(report.total) && std::isfinite(report.gradient_norm);
    return report;
  }
};

/// Forward, backward, clipped AdamW update, and what the objectives do after one; nothing is copied
/// to or from the backend, which has got the batch and `optimizer.begin_step(rate)` before. Where
/// loss or gradient is not finite, nothing is updated. `system`: a system::Composed, or one stage
/// of a system::System.
template <class S, class T, class B>
IssuedStep<T, B> issue_step(S& system, const typename S::Batch& batch,
                            optim::AdamW<T, B>& optimizer, Tape& tape, const nn::Mode& mode) {
  IssuedStep<T, B> issued;
  RecordOn recording(tape);
  const Variable<T, B> total = system.template total<Variable<T, B>>(batch, mode, issued.losses);
  issued.total = value(total);
  if (optimizer.is_new()) optimizer.need_held(tape);
  try {
    backward(total);
    optimizer.update(issued.total);
  } catch (...) {
    optimizer.discard();  // no half gradient is left for the next step
    throw;
  }
  issued.norm = optimizer.norm();
  system.constrain();
  return issued;
}

/// The same at that rate, waited for.
template <class S, class T, class B>
StepReport<T, B> train_step(S& system, const typename S::Batch& batch,
                            optim::AdamW<T, B>& optimizer, double learning_rate, Tape& tape,
                            const nn::Mode& mode) {
  optimizer.begin_step(learning_rate);
  const StepReport<T, B> report = issue_step(system, batch, optimizer, tape, mode).read();
  if (!report.finite) optimizer.take_back();
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
