#pragma once
// Reference kernel of the token-wise contrast within samples (MGCA, Wang et al., NeurIPS 2022;
// method 4.2b): one sample and one direction at a time, in the textbook order.
#include <cmath>
#include <vector>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::reference {

struct TokenAlignment {
  /// L_words + L_regions, mean over samples; 0 for none.
  template <class T>
  static void token_alignment(const TokenArgs<T>& a, T* loss) {
    double total = 0;
    for (Index s = 0; s < a.samples; ++s) {
      total += Contrast<T>(a, a.from_words(s)).loss();
      total += Contrast<T>(a, a.from_regions(s)).loss();
    }
    *loss = a.samples ? static_cast<T>(total / static_cast<double>(a.samples)) : T(0);
  }

  /// dp and dw are accumulated; either may be null.
  template <class T>
  static void token_alignment_backward(const TokenArgs<T>& a, const T* upstream, T* dp, T* dw) {
    for (Index s = 0; s < a.samples; ++s) {
      const double k = static_cast<double>(*upstream) / static_cast<double>(a.samples);
      std::vector<double> gp(static_cast<std::size_t>(a.regions * a.dim)),
          gw(static_cast<std::size_t>(a.words(s) * a.dim));
      Contrast<T>(a, a.from_words(s)).backward(k, gw, gp);
      Contrast<T>(a, a.from_regions(s)).backward(k, gp, gw);
      for (std::size_t i = 0; i < gp.size() && dp; ++i)
        dp[static_cast<std::size_t>(s * a.regions * a.dim) + i] += static_cast<T>(gp[i]);
      for (std::size_t i = 0; i < gw.size() && dw; ++i)
        dw[static_cast<std::size_t>(a.offsets[s] * a.dim) + i] += static_cast<T>(gw[i]);
    }
  }

 private:
  /// a attends to b, c_i is the unit vector of what a_i attends to; a_i must find c_i among all c,
  /// and c_i must find a_i among all a.
  template <class T>
  struct Contrast {
    Contrast(const TokenArgs<T>& args, const TokenSide<T>& side)
        : n(static_cast<std::size_t>(side.n)),
          m(static_cast<std::size_t>(side.m)),
          d(static_cast<std::size_t>(args.dim)),
          tau(args.temperature),
          aa(side.anchors),
          bb(side.others),
          weight(n, 1.0),
          alpha(n * m),
          c(n * d),
          length(n),
          logits(n * n),
          row(n),
          column(n) {
      double total = 0;
      for (std::size_t i = 0; i < n; ++i) {
        if (side.weights) weight[i] = static_cast<double>(side.weights[i]);
        total += weight[i];
        for (std::size_t j = 0; j < m; ++j) {
          for (std::size_t k = 0; k < d; ++k) alpha[i * m + j] += a(i, k) * b(j, k);
          alpha[i * m + j] /= tau;
        }
        const double lse = log_sum_exp(m, [&](std::size_t j) { return alpha[i * m + j]; });
        double square = 0;
        for (std::size_t j = 0; j < m; ++j) {
          alpha[i * m + j] = std::exp(alpha[i * m + j] - lse);
          for (std::size_t k = 0; k < d; ++k) c[i * d + k] += alpha[i * m + j] * b(j, k);
        }
        for (std::size_t k = 0; k < d; ++k) square += c[i * d + k] * c[i * d + k];
        length[i] = std::sqrt(square) > 1e-12 ? std::sqrt(square) : 1e-12;
        for (std::size_t k = 0; k < d; ++k) c[i * d + k] /= length[i];
      }
      for (std::size_t i = 0; i < n; ++i) {
        weight[i] /= total;
        for (std::size_t t = 0; t < n; ++t) {
          for (std::size_t k = 0; k < d; ++k) logits[i * n + t] += a(i, k) * c[t * d + k];
          logits[i * n + t] /= tau;
        }
      }
      for (std::size_t i = 0; i < n; ++i) {
        row[i] = log_sum_exp(n, [&](std::size_t t) { return logits[i * n + t]; });
        column[i] = log_sum_exp(n, [&](std::size_t t) { return logits[t * n + i]; });
      }
    }

    double loss() const {
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i)
        sum += weight[i] * ((row[i] - logits[i * n + i]) + (column[i] - logits[i * n + i]));
      return 0.5 * sum;
    }

    /// Adds the gradients of scale times the loss to da (n, d) and db (m, d).
    void backward(double scale, std::vector<double>& da, std::vector<double>& db) const {
      std::vector<double> dc(n * d), ds(m);
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t t = 0; t < n; ++t) {
          const double own = i == t ? 1 : 0, x = logits[i * n + t];
          const double g = 0.5 * scale / tau *
                           (weight[i] * (std::exp(x - row[i]) - own) +
                            weight[t] * (std::exp(x - column[t]) - own));
          for (std::size_t k = 0; k < d; ++k) {
            da[i * d + k] += g * c[t * d + k];
            dc[t * d + k] += g * a(i, k);
          }
        }
      for (std::size_t i = 0; i < n; ++i) {
        double along = 0, mean = 0;
        for (std::size_t k = 0; k < d && length[i] > 1e-12; ++k)  // below it a constant divides
          along += c[i * d + k] * dc[i * d + k];
        for (std::size_t k = 0; k < d; ++k)
          dc[i * d + k] = (dc[i * d + k] - c[i * d + k] * along) / length[i];
        for (std::size_t j = 0; j < m; ++j) {
          ds[j] = 0;
          for (std::size_t k = 0; k < d; ++k) ds[j] += dc[i * d + k] * b(j, k);
          mean += alpha[i * m + j] * ds[j];
        }
        for (std::size_t j = 0; j < m; ++j) {
          const double g = alpha[i * m + j] * (ds[j] - mean) / tau;
          for (std::size_t k = 0; k < d; ++k) {
            da[i * d + k] += g * b(j, k);
            db[j * d + k] += g * a(i, k) + alpha[i * m + j] * dc[i * d + k];
          }
        }
      }
    }

   private:
    double a(std::size_t i, std::size_t k) const { return static_cast<double>(aa[i * d + k]); }
    double b(std::size_t j, std::size_t k) const { return static_cast<double>(bb[j * d + k]); }
    template <class F>
    static double log_sum_exp(std::size_t count, F&& f) {
      double top = -1e300, sum = 0;
      for (std::size_t i = 0; i < count; ++i) top = std::fmax(top, f(i));
      for (std::size_t i = 0; i < count; ++i) sum += std::exp(f(i) - top);
      return top + std::log(sum);
    }

    std::size_t n, m, d;  // anchors, others, width
    double tau;
    const T *aa, *bb;
    std::vector<double> weight, alpha, c, length, logits, row, column;
  };
};

}  // namespace hybridmed::reference
