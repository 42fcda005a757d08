#pragma once
// Reference kernels of the objectives. Losses are single elements in device memory; index sets may
// be empty. What has probability 0, or for a teacher below exp(-87), adds 0, also where a logit is
// -inf.
#include <cmath>
#include <limits>
#include <vector>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::reference {

struct Losses {
  /// Mean over rows of cross-entropy with targets (1 - smoothing) onehot + smoothing / classes.
  /// lse: (rows), the log-sum-exp of a row above its largest logit: a number of the size of
  /// ln(classes) keeps its digits in T, whatever the logits have in common.
  template <class T>
  static void cross_entropy(Index rows, Index classes, const T* z, const std::int32_t* target,
                            double smoothing, T* loss, T* lse) {
    double total = 0;
    for (Index r = 0; r < rows; ++r) {
      const T* zr = z + r * classes;
      const double top = largest(classes, 1.0, zr), l = log_sum_exp(classes, 1.0, zr, top);
      lse[r] = static_cast<T>(l);
      if (smoothing < 1) total += (1 - smoothing) * (l + top - static_cast<double>(zr[target[r]]));
      for (Index v = 0; v < classes && smoothing > 0; ++v)
        total += smoothing / static_cast<double>(classes) * (l + top - static_cast<double>(zr[v]));
    }
    *loss = rows ? static_cast<T>(total / static_cast<double>(rows)) : T(0);
  }
  /// dz (+)= *upstream / rows (softmax(z) - q); overwritten unless `accumulate`.
  template <class T>
  static void cross_entropy_backward(Index rows, Index classes, const T* z,
                                     const std::int32_t* target, double smoothing, const T* lse,
                                     const T* upstream, bool accumulate, T* dz) {
    for (Index r = 0; r < rows; ++r) {
      const double top = largest(classes, 1.0, z + r * classes);
      for (Index v = 0; v < classes; ++v) {
        const double log_p =
            static_cast<double>(z[r * classes + v]) - top - static_cast<double>(lse[r]);
        // p - 1 of the target by expm1: where p is nearly 1, the difference keeps its digits
        double g = (v == target[r] ? std::expm1(log_p) + smoothing : std::exp(log_p)) -
                   smoothing / static_cast<double>(classes);
        g *= static_cast<double>(*upstream) / static_cast<double>(rows);
        dz[r * classes + v] =
            static_cast<T>(g + (accumulate ? static_cast<double>(dz[r * classes + v]) : 0.0));
      }
    }
  }

  /// tau^2 KL(softmax(teacher / tau) || softmax(student / tau)), mean over rows; lse_s, lse_t:
  /// (rows), log-sum-exp at temperature tau above the largest logit.
  template <class T>
  static void distillation(Index rows, Index classes, const T* student, const T* teacher,
                           double tau, T* loss, T* lse_s, T* lse_t) {
    double total = 0;
    for (Index r = 0; r < rows; ++r) {
      const T *s = student + r * classes, *t = teacher + r * classes;
      const double top_s = largest(classes, 1 / tau, s), top_t = largest(classes, 1 / tau, t);
      const double ls = log_sum_exp(classes, 1 / tau, s, top_s),
                   lt = log_sum_exp(classes, 1 / tau, t, top_t);
      lse_s[r] = static_cast<T>(ls);
      lse_t[r] = static_cast<T>(lt);
      for (Index v = 0; v < classes; ++v) {
        const double log_t = static_cast<double>(t[v]) / tau - top_t - lt,
                     log_s = static_cast<double>(s[v]) / tau - top_s - ls, p = std::exp(log_t);
        if (!(log_t < -87)) total += p * (log_t - log_s);
      }
    }
    *loss = rows ? static_cast<T>(tau * tau * total / static_cast<double>(rows)) : T(0);
  }
  /// dstudent (+)= *upstream tau / rows (p_student - p_teacher).
  template <class T>
  static void distillation_backward(Index rows, Index classes, const T* student, const T* teacher,
                                    double tau, const T* lse_s, const T* lse_t, const T* upstream,
                                    bool accumulate, T* dstudent) {
    for (Index r = 0; r < rows; ++r) {
      const double top_s = largest(classes, 1 / tau, student + r * classes),
                   top_t = largest(classes, 1 / tau, teacher + r * classes);
      for (Index v = 0; v < classes; ++v) {
        const Index i = r * classes + v;
        const double ps =
            std::exp(static_cast<double>(student[i]) / tau - top_s - static_cast<double>(lse_s[r]));
        const double pt =
            std::exp(static_cast<double>(teacher[i]) / tau - top_t - static_cast<double>(lse_t[r]));
        const double g =
            static_cast<double>(*upstream) * tau / static_cast<double>(rows) * (ps - pt);
        dstudent[i] = static_cast<T>(g + (accumulate ? static_cast<double>(dstudent[i]) : 0.0));
      }
    }
  }

  /// -sum_j target_ij log softmax_j(z_i / tau), mean over rows; the rows of the target need not sum
  /// to 1. lse: (rows), log-sum-exp at temperature tau above the largest logit.
  template <class T>
  static void soft_cross_entropy(Index rows, Index classes, const T* z, const T* target, double tau,
                                 T* loss, T* lse) {
    double total = 0;
    for (Index r = 0; r < rows; ++r) {
      const T *zr = z + r * classes, *q = target + r * classes;
      const double top = largest(classes, 1 / tau, zr), l = log_sum_exp(classes, 1 / tau, zr, top);
      lse[r] = static_cast<T>(l);
      for (Index v = 0; v < classes; ++v)
        if (q[v] != T(0))
          total += static_cast<double>(q[v]) * (l + top - static_cast<double>(zr[v]) / tau);
    }
    *loss = rows ? static_cast<T>(total / static_cast<double>(rows)) : T(0);
  }
  /// dz (+)= *upstream / (rows tau) (softmax(z / tau) sum_j target_j - target).
  template <class T>
  static void soft_cross_entropy_backward(Index rows, Index classes, const T* z, const T* target,
                                          double tau, const T* lse, const T* upstream,
                                          bool accumulate, T* dz) {
    const double k = static_cast<double>(*upstream) / (static_cast<double>(rows) * tau);
    for (Index r = 0; r < rows; ++r) {
      const double top = largest(classes, 1 / tau, z + r * classes);
      double mass = 0;
      for (Index v = 0; v < classes; ++v) mass += static_cast<double>(target[r * classes + v]);
      for (Index v = 0; v < classes; ++v) {
        const Index i = r * classes + v;
        const double p =
            std::exp(static_cast<double>(z[i]) / tau - top - static_cast<double>(lse[r]));
        const double g = k * (p * mass - static_cast<double>(target[i]));
        dz[i] = static_cast<T>(g + (accumulate ? static_cast<double>(dz[i]) : 0.0));
      }
    }
  }

  /// The assignment of Sinkhorn and Knopp: q = exp(scores / eps), `iterations` times columns and
  /// then rows divided by their sums, at last the rows. Kept as s + u_r + v_c, the logarithm of q:
  /// no score is too large, and a factor that all of q has in common falls out.
  template <class T>
  static void sinkhorn(Index rows, Index cols, const T* scores, double eps, Index iterations,
                       T* q) {
    std::vector<double> s(static_cast<std::size_t>(rows * cols)), u(static_cast<std::size_t>(rows)),
        v(static_cast<std::size_t>(cols));
    for (std::size_t i = 0; i < s.size(); ++i) s[i] = static_cast<double>(scores[i]) / eps;
    const auto each_row = [&] {
      for (std::size_t r = 0; r < u.size(); ++r)
        u[r] = -log_sum(v.size(), [&](std::size_t c) { return s[r * v.size() + c] + v[c]; });
    };
    for (Index k = 0; k < iterations; ++k) {
      if (k > 0) each_row();
      for (std::size_t c = 0; c < v.size(); ++c)
        v[c] = -log_sum(u.size(), [&](std::size_t r) { return s[r * v.size() + c] + u[r]; });
    }
    each_row();
    for (std::size_t r = 0; r < u.size(); ++r)
      for (std::size_t c = 0; c < v.size(); ++c)
        q[r * v.size() + c] = static_cast<T>(std::exp(s[r * v.size() + c] + u[r] + v[c]));
  }

  /// row_weight CE(S, Q) + column_weight CE(S^T, Q), Q = (1 - smoothing) P + smoothing / n, where P
  /// is the identity or, with keys, P_ij = [key_i = key_j] / count. Writes the loss and its
  /// gradient dS (n, n).
  template <class T>
  static void symmetric_cross_entropy(Index n, const T* s, const std::int32_t* keys,
                                      double smoothing, double row_weight, double column_weight,
                                      T* loss, T* ds) {
    double total = 0;
    for (Index i = 0; i < n * n; ++i) ds[i] = T(0);
    for (Index i = 0; i < n; ++i) {
      double row_top = -std::numeric_limits<double>::infinity(), col_top = row_top, row_sum = 0,
             col_sum = 0, same = 0;
      for (Index j = 0; j < n; ++j) {
        row_top = std::fmax(row_top, static_cast<double>(s[i * n + j]));
        col_top = std::fmax(col_top, static_cast<double>(s[j * n + i]));
        same += keys ? keys[i] == keys[j] : i == j;
      }
      for (Index j = 0; j < n; ++j) {
        row_sum += std::exp(static_cast<double>(s[i * n + j]) - row_top);
        col_sum += std::exp(static_cast<double>(s[j * n + i]) - col_top);
      }
      const double row_lse = row_top + std::log(row_sum), col_lse = col_top + std::log(col_sum),
                   m = 1 / static_cast<double>(n);
      for (Index j = 0; j < n; ++j) {
        const bool positive = keys ? keys[i] == keys[j] : i == j;
        const double q = (1 - smoothing) * (positive ? 1 / same : 0.0) + smoothing * m;
        const double r = static_cast<double>(s[i * n + j]) - row_lse,
                     c = static_cast<double>(s[j * n + i]) - col_lse;
        if (q != 0)
          total -= q * m *
                   ((row_weight != 0 ? row_weight * r : 0) +
                    (column_weight != 0 ? column_weight * c : 0));
        ds[i * n + j] += static_cast<T>(row_weight * m * (std::exp(r) - q));
        ds[j * n + i] += static_cast<T>(column_weight * m * (std::exp(c) - q));
      }
    }
    *loss = static_cast<T>(total);
  }

 private:
  /// log sum exp(f(i)) over [0, n)
  template <class F>
  static double log_sum(std::size_t n, F&& f) {
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::size_t i = 0; i < n; ++i) top = std::fmax(top, f(i));
    for (std::size_t i = 0; i < n; ++i) sum += std::exp(f(i) - top);
    return top + std::log(sum);
  }
  template <class T>
  static double largest(Index n, double factor, const T* x) {
    double top = -std::numeric_limits<double>::infinity();
    for (Index i = 0; i < n; ++i) top = std::fmax(top, factor * static_cast<double>(x[i]));
    return top;
  }
  /// log sum exp(factor x) - top
  template <class T>
  static double log_sum_exp(Index n, double factor, const T* x, double top) {
    double sum = 0;
    for (Index i = 0; i < n; ++i) sum += std::exp(factor * static_cast<double>(x[i]) - top);
    return std::log(sum);
  }
};

}  // namespace hybridmed::reference
