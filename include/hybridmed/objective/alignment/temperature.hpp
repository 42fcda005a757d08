#pragma once
// The inverse temperature of a contrastive loss, as the logarithm of a scale: a parameter that an
// objective owns.
#include "hybridmed/objective/objective.hpp"

namespace hybridmed::objective {

/// ln(1 / 0.07) at first and at most ln 100, learned (Radford et al., CLIP, ICML 2021); or fixed.
struct Temperature {
  double log_scale = 2.6592600369327779, log_scale_max = 4.6051701859880918;
  bool learned = true;

  /// A temperature that is never trained.
  /// @throws Error unless it is above 0.
  static Temperature fixed(double temperature) {
    if (!(temperature > 0) || !std::isfinite(temperature))
      fail("objective", "Temperature",
           "expected a temperature above 0, got " + std::to_string(temperature));
    return {-std::log(temperature), std::numeric_limits<double>::infinity(), false};
  }
  bool operator==(const Temperature&) const = default;
};

/// `log_scale`, one element.
/// @throws Error for a temperature whose inverse is no number of single precision.
template <class T, class B>
struct TemperatureState {
  Parameter<T, B> log_scale;

  explicit TemperatureState(const Temperature& t)
      : log_scale(Shape{}, init::constant(t.log_scale)) {
    if (!(std::abs(t.log_scale) <= 80))
      fail("objective", "Temperature",
           "expected a temperature from 1e-34 to 1e34, got exp(" + std::to_string(-t.log_scale) +
               ")");
    log_scale.fixed = !t.learned;
    log_scale.trainable = t.learned;
  }
  template <class F>
  void visit(F&& f) {
    f("log_scale", log_scale);
  }
  void constrain(const Temperature& t) {
    if (t.learned)
      B::clamp(log_scale.value.size(), T(0), static_cast<T>(t.log_scale_max),
               log_scale.value.data());
  }
};

}  // namespace hybridmed::objective
