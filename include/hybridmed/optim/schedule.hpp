#pragma once
// Learning-rate schedules as pure functions of the step: resuming needs no state.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace hybridmed::optim {

/// Linear warm-up over a share of the steps, times cosine decay to `floor`.
struct WarmupCosine {
  double peak = 3e-4, warmup = 0.05, floor = 1e-8;
  std::int64_t steps = 1;

  /// Rate of step t, counted from 0.
  double operator()(std::int64_t t) const {
    const double n = static_cast<double>(steps), x = static_cast<double>(t);
    const double rise = warmup * n >= 1 ? (std::min)(1.0, (x + 1) / (warmup * n)) : 1.0;
    const double fall = 0.5 + 0.5 * std::cos(std::numbers::pi * (std::min)(1.0, x / n));
    return (std::max)(floor, peak * rise * fall);
  }
};

}  // namespace hybridmed::optim
