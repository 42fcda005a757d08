#pragma once
// CPU kernels of the objectives over the vocabulary: one row is one tile; row losses are added in
// order.
#include <algorithm>
#include <cmath>
#include <limits>

#include "hybridmed/backend/cpu/math.hpp"
#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed::cpu {

template <class Executor>
struct Losses {
  template <class T>
  static void cross_entropy(Index rows, Index classes, const T* z, const std::int32_t* target,
                            double smoothing, T* loss, T* lse) {
    const Workspace<double> part(rows);
    Executor::for_each(rows, [&](Index r) {
      const T* zr = z + r * classes;
      const T top = lane_max(classes, zr);
      const double l = log_sum_exp(classes, T(1), zr, top);
      lse[r] = static_cast<T>(l);
      part[r] = smoothing < 1 ? (1 - smoothing) * (l + (wide(top) - wide(zr[target[r]]))) : 0;
      if (smoothing > 0)
        part[r] += smoothing / static_cast<double>(classes) *
                   lane_sum(classes, [=](Index v) { return l + (wide(top) - wide(zr[v])); });
    });
    *loss = static_cast<T>(mean(rows, part.data(), 1));
  }
  template <class T>
  static void cross_entropy_backward(Index rows, Index classes, const T* z,
                                     const std::int32_t* target, double smoothing, const T* lse,
                                     const T* upstream, bool accumulate, T* dz) {
    const T k = static_cast<T>(static_cast<double>(*upstream) / static_cast<double>(rows)),
            spread = static_cast<T>(smoothing / static_cast<double>(classes));
    Executor::for_each(rows, [&](Index r) {
      const T* zr = z + r * classes;
      T* g = dz + r * classes;
      const T top = lane_max(classes, zr), l = lse[r], before = accumulate ? g[target[r]] : T(0);
      if (accumulate)
        for (Index v = 0; v < classes; ++v) g[v] += k * (fast_exp(zr[v] - top - l) - spread);
      else
        for (Index v = 0; v < classes; ++v) g[v] = k * (fast_exp(zr[v] - top - l) - spread);
      // p - 1 of the target by expm1: where p is nearly 1, the difference keeps its digits
      const double of_target = std::expm1(wide(zr[target[r]]) - wide(top) - wide(l)) +
                               (smoothing - smoothing / static_cast<double>(classes));
      g[target[r]] = before + static_cast<T>(wide(k) * of_target);
    });
  }

  template <class T>
  static void distillation(Index rows, Index classes, const T* student, const T* teacher,
                           double tau, T* loss, T* lse_s, T* lse_t) {
    const Workspace<double> part(rows);
    const T inverse = static_cast<T>(1 / tau);
    Executor::for_each(rows, [&](Index r) {
      const T *s = student + r * classes, *t = teacher + r * classes;
      const T top_s = lane_max(classes, s), top_t = lane_max(classes, t);
      const double ls = log_sum_exp(classes, inverse, s, top_s),
                   lt = log_sum_exp(classes, inverse, t, top_t);
      lse_s[r] = static_cast<T>(ls);
      lse_t[r] = static_cast<T>(lt);
      const T ltf = lse_t[r];
      const double gap = ls - lt;
      part[r] = lane_sum(classes, [=](Index v) {
        const T above_t = (t[v] - top_t) * inverse, above_s = (s[v] - top_s) * inverse;
        const double p = wide(fast_exp(above_t - ltf));
        return above_t - ltf < T(-87)
                   ? 0.0
                   : p * (wide(above_t - above_s) +
                          gap);  // what the teacher all but excludes adds nothing
      });
    });
    *loss = static_cast<T>(mean(rows, part.data(), tau * tau));
  }
  template <class T>
  static void distillation_backward(Index rows, Index classes, const T* student, const T* teacher,
                                    double tau, const T* lse_s, const T* lse_t, const T* upstream,
                                    bool accumulate, T* dstudent) {
    const T k = static_cast<T>(static_cast<double>(*upstream) * tau / static_cast<double>(rows)),
            inverse = static_cast<T>(1 / tau);
    Executor::for_each(rows, [&](Index r) {
      const T *s = student + r * classes, *t = teacher + r * classes;
      T* g = dstudent + r * classes;
      const T top_s = lane_max(classes, s), top_t = lane_max(classes, t), ls = lse_s[r],
              lt = lse_t[r];
      if (accumulate)
        for (Index v = 0; v < classes; ++v)
          g[v] += k * (fast_exp((s[v] - top_s) * inverse - ls) -
                       fast_exp((t[v] - top_t) * inverse - lt));
      else
        for (Index v = 0; v < classes; ++v)
          g[v] = k * (fast_exp((s[v] - top_s) * inverse - ls) -
                      fast_exp((t[v] - top_t) * inverse - lt));
    });
  }

  template <class T>
  static void soft_cross_entropy(Index rows, Index classes, const T* z, const T* target, double tau,
                                 T* loss, T* lse) {
    const Workspace<double> part(rows);
    const T inverse = static_cast<T>(1 / tau);
    Executor::for_each(rows, [&](Index r) {
      const T *zr = z + r * classes, *q = target + r * classes;
      const T top = lane_max(classes, zr);
      const double l = log_sum_exp(classes, inverse, zr, top);
      lse[r] = static_cast<T>(l);
      part[r] = lane_sum(classes, [=](Index v) {
        return q[v] == T(0) ? 0.0 : wide(q[v]) * (l + (wide(top) - wide(zr[v])) / tau);
      });
    });
    *loss = static_cast<T>(mean(rows, part.data(), 1));
  }
  template <class T>
  static void soft_cross_entropy_backward(Index rows, Index classes, const T* z, const T* target,
                                          double tau, const T* lse, const T* upstream,
                                          bool accumulate, T* dz) {
    const T k = static_cast<T>(wide(*upstream) / (static_cast<double>(rows) * tau)),
            inverse = static_cast<T>(1 / tau);
    Executor::for_each(rows, [&](Index r) {
      const T *zr = z + r * classes, *q = target + r * classes;
      T* g = dz + r * classes;
      const T top = lane_max(classes, zr), l = lse[r],
              mass = static_cast<T>(lane_sum(classes, [=](Index v) { return wide(q[v]); }));
      if (accumulate)
        for (Index v = 0; v < classes; ++v)
          g[v] += k * (mass * fast_exp((zr[v] - top) * inverse - l) - q[v]);
      else
        for (Index v = 0; v < classes; ++v)
          g[v] = k * (mass * fast_exp((zr[v] - top) * inverse - l) - q[v]);
    });
  }

  template <class T>
  static void sinkhorn(Index rows, Index cols, const T* scores, double eps, Index iterations,
                       T* q) {
    const Workspace<double> s(rows * cols), u(rows), v(cols);
    Executor::for_each(rows, [&](Index r) {
      for (Index c = 0; c < cols; ++c) s[r * cols + c] = wide(scores[r * cols + c]) / eps;
    });
    std::fill_n(u.data(), rows, 0.0);
    std::fill_n(v.data(), cols, 0.0);
    const auto each_row = [&] {
      Executor::for_each(rows, [&](Index r) {
        const double* x = s.data() + r * cols;
        const double* y = v.data();
        double top = -std::numeric_limits<double>::infinity();
        for (Index c = 0; c < cols; ++c) top = x[c] + y[c] > top ? x[c] + y[c] : top;
        u[r] =
            -top - std::log(lane_sum(cols, [=](Index c) { return std::exp(x[c] + y[c] - top); }));
      });
    };
    for (Index k = 0; k < iterations; ++k) {
      if (k > 0) each_row();
      executor::for_tiles<Executor>(cols, 64, [&](Index from, Index to) {
        double top[64], sum[64];
        std::fill_n(top, 64, -std::numeric_limits<double>::infinity());
        std::fill_n(sum, 64, 0.0);
        for (Index r = 0; r < rows; ++r)
          for (Index c = from; c < to; ++c) {
            const double x = s[r * cols + c] + u[r];
            top[c - from] = x > top[c - from] ? x : top[c - from];
          }
        for (Index r = 0; r < rows; ++r)
          for (Index c = from; c < to; ++c)
            sum[c - from] += std::exp(s[r * cols + c] + u[r] - top[c - from]);
        for (Index c = from; c < to; ++c) v[c] = -top[c - from] - std::log(sum[c - from]);
      });
    }
    each_row();
    Executor::for_each(rows, [&](Index r) {
      for (Index c = 0; c < cols; ++c)
        q[r * cols + c] = static_cast<T>(std::exp(s[r * cols + c] + u[r] + v[c]));
    });
  }

 private:
  /// log sum exp(factor (x - top)); top: the largest of x
  template <class T>
  static double log_sum_exp(Index n, T factor, const T* x, T top) {
    return std::log(lane_sum(n, [=](Index i) { return wide(fast_exp(factor * (x[i] - top))); }));
  }
  static double mean(Index rows, const double* part, double factor) {
    double s = 0;
    for (Index r = 0; r < rows; ++r) s += part[r];
    return rows ? factor * s / static_cast<double>(rows) : 0.0;
  }
};

}  // namespace hybridmed::cpu
