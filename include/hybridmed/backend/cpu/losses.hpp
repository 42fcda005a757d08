#pragma once
// CPU kernels of the objectives over the vocabulary: one row is one tile; row losses are added in order.
#include "hybridmed/backend/cpu/norm.hpp"
#include "hybridmed/backend/cpu/math.hpp"
#include "hybridmed/backend/reference/losses.hpp"

namespace hybridmed::cpu {

template <class Executor>
struct Losses : reference::Losses {
  template <class T>
  static void cross_entropy(Index rows, Index classes, const T* z, const std::int32_t* target, double smoothing, T* loss, T* lse) {
    const Workspace<double> part(rows);
    Executor::for_each(rows, [&](Index r) {
      const T* zr = z + r * classes;
      const double l = log_sum_exp(classes, T(1), zr);
      const double sum = smoothing > 0 ? lane_sum(classes, [=](Index v) { return static_cast<double>(zr[v]); }) : 0;
      lse[r] = static_cast<T>(l);
      part[r] = l - (1 - smoothing) * static_cast<double>(zr[target[r]]) - smoothing / static_cast<double>(classes) * sum;
    });
    *loss = static_cast<T>(mean(rows, part.data(), 1));
  }
  template <class T>
  static void cross_entropy_backward(Index rows, Index classes, const T* z, const std::int32_t* target, double smoothing, const T* lse, const T* upstream, bool accumulate, T* dz) {
    const T k = static_cast<T>(static_cast<double>(*upstream) / static_cast<double>(rows)), spread = static_cast<T>(smoothing / static_cast<double>(classes));
    Executor::for_each(rows, [&](Index r) {
      const T* zr = z + r * classes;
      T* g = dz + r * classes;
      const T l = lse[r];
      if (accumulate)
        for (Index v = 0; v < classes; ++v) g[v] += k * (fast_exp(zr[v] - l) - spread);
      else
        for (Index v = 0; v < classes; ++v) g[v] = k * (fast_exp(zr[v] - l) - spread);
      g[target[r]] -= k * static_cast<T>(1 - smoothing);
    });
  }

  template <class T>
  static void distillation(Index rows, Index classes, const T* student, const T* teacher, double tau, T* loss, T* lse_s, T* lse_t) {
    const Workspace<double> part(rows);
    const T inverse = static_cast<T>(1 / tau);
    Executor::for_each(rows, [&](Index r) {
      const T *s = student + r * classes, *t = teacher + r * classes;
      const double ls = log_sum_exp(classes, inverse, s), lt = log_sum_exp(classes, inverse, t);
      lse_s[r] = static_cast<T>(ls), lse_t[r] = static_cast<T>(lt);
      const T ltf = lse_t[r];
      const double gap = ls - lt;
      part[r] = lane_sum(classes, [=](Index v) {
        const double p = static_cast<double>(fast_exp(t[v] * inverse - ltf));
        return p * (static_cast<double>((t[v] - s[v]) * inverse) + gap);
      });
    });
    *loss = static_cast<T>(mean(rows, part.data(), tau * tau));
  }
  template <class T>
  static void distillation_backward(Index rows, Index classes, const T* student, const T* teacher, double tau, const T* lse_s, const T* lse_t, const T* upstream, bool accumulate, T* dstudent) {
    const T k = static_cast<T>(static_cast<double>(*upstream) * tau / static_cast<double>(rows)), inverse = static_cast<T>(1 / tau);
    Executor::for_each(rows, [&](Index r) {
      const T *s = student + r * classes, *t = teacher + r * classes;
      T* g = dstudent + r * classes;
      const T ls = lse_s[r], lt = lse_t[r];
      if (accumulate)
        for (Index v = 0; v < classes; ++v) g[v] += k * (fast_exp(s[v] * inverse - ls) - fast_exp(t[v] * inverse - lt));
      else
        for (Index v = 0; v < classes; ++v) g[v] = k * (fast_exp(s[v] * inverse - ls) - fast_exp(t[v] * inverse - lt));
    });
  }

 private:
  template <class T>
  static double log_sum_exp(Index n, T factor, const T* x) {
    const T shift = factor * lane_max(n, x);
    return static_cast<double>(shift) + std::log(lane_sum(n, [=](Index i) { return static_cast<double>(fast_exp(factor * x[i] - shift)); }));
  }
  static double mean(Index rows, const double* part, double factor) {
    double s = 0;
    for (Index r = 0; r < rows; ++r) s += part[r];
    return rows ? factor * s / static_cast<double>(rows) : 0.0;
  }
};

}  // namespace hybridmed::cpu
