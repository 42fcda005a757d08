#pragma once
// Reference kernel of attention-pooled local alignment (GLoRIA, Huang et al., ICCV 2021;
// method 4.2a): one pair at a time, in the textbook order. Z (images, texts) without gamma3.
#include <cmath>
#include <vector>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::reference {

struct LocalAlignment {
  template <class T>
  static void local_scores(const LocalArgs<T>& a, T* z) {
    for (Index j = 0; j < a.images; ++j)
      for (Index i = 0; i < a.texts; ++i) z[j * a.texts + i] = static_cast<T>(Pair<T>(a, j, i).z);
  }

  /// dp and dw are accumulated; either may be null.
  template <class T>
  static void local_scores_backward(const LocalArgs<T>& a, const T* dz, T* dp, T* dw) {
    for (Index j = 0; j < a.images; ++j)
      for (Index i = 0; i < a.texts; ++i) {
        const Pair<T> f(a, j, i);
        const std::size_t n = f.n, m = f.m, d = f.d;
        std::vector<double> da2(n * m), ds(n * m), dc(m * d), gw(m * d), gp(n * d);
        for (std::size_t t = 0; t < m; ++t) {
          const double drho = static_cast<double>(dz[j * a.texts + i]) * f.share[t];
          const double product = f.nc[t] * f.nw[t], den = product > 1e-8 ? product : 1e-8;
          const double ddot = static_cast<double>(a.gamma2) * drho / den;
          const double dden = product > 1e-8 ? -ddot * f.dot[t] / den : 0;
          for (std::size_t c = 0; c < d; ++c) {
            dc[t * d + c] =
                ddot * f.w(t, c) + (f.nc[t] > 0 ? dden * f.nw[t] * f.c[t * d + c] / f.nc[t] : 0);
            gw[t * d + c] =
                ddot * f.c[t * d + c] + (f.nw[t] > 0 ? dden * f.nc[t] * f.w(t, c) / f.nw[t] : 0);
          }
          double mean = 0;
          for (std::size_t r = 0; r < n; ++r) {
            double x = 0;
            for (std::size_t c = 0; c < d; ++c) {
              x += dc[t * d + c] * f.p(r, c);
              gp[r * d + c] += f.a2[r * m + t] * dc[t * d + c];
            }
            da2[r * m + t] = x;
            mean += x * f.a2[r * m + t];
          }
          for (std::size_t r = 0; r < n; ++r)
            ds[r * m + t] =
                static_cast<double>(a.gamma1) * f.a2[r * m + t] * (da2[r * m + t] - mean);  // d a1
        }
        for (std::size_t r = 0; r < n; ++r) {
          double mean = 0;
          for (std::size_t t = 0; t < m; ++t) mean += f.a1[r * m + t] * ds[r * m + t];
          for (std::size_t t = 0; t < m; ++t) {
            const double g = f.a1[r * m + t] * (ds[r * m + t] - mean);
            for (std::size_t c = 0; c < d; ++c) {
              gp[r * d + c] += g * f.w(t, c);
              gw[t * d + c] += g * f.p(r, c);
            }
          }
        }
        for (std::size_t k = 0; k < n * d && dp; ++k)
          dp[static_cast<std::size_t>(j * a.regions * a.dim) + k] += static_cast<T>(gp[k]);
        for (std::size_t k = 0; k < m * d && dw; ++k)
          dw[static_cast<std::size_t>(a.offsets[i] * a.dim) + k] += static_cast<T>(gw[k]);
      }
  }

 private:
  template <class T>
  struct Pair {
    Pair(const LocalArgs<T>& a, Index image, Index text)
        : n(static_cast<std::size_t>(a.regions)),
          m(static_cast<std::size_t>(a.offsets[text + 1] - a.offsets[text])),
          d(static_cast<std::size_t>(a.dim)),
          pp(a.p + image * a.regions * a.dim),
          ww(a.w + a.offsets[text] * a.dim),
          a1(n * m),
          a2(n * m),
          c(m * d),
          dot(m),
          nc(m),
          nw(m),
          share(m) {
      for (std::size_t r = 0; r < n; ++r) {
        double top = -1e300, sum = 0;
        for (std::size_t t = 0; t < m; ++t) {
          double s = 0;
          for (std::size_t k = 0; k < d; ++k) s += p(r, k) * w(t, k);
          a1[r * m + t] = s;
          top = std::fmax(top, s);
        }
        for (std::size_t t = 0; t < m; ++t) sum += a1[r * m + t] = std::exp(a1[r * m + t] - top);
        for (std::size_t t = 0; t < m; ++t) a1[r * m + t] /= sum;
      }
      std::vector<double> rho(m);
      double top = -1e300, sum = 0;
      std::size_t best = 0;
      for (std::size_t t = 0; t < m; ++t) {
        double total = 0;
        for (std::size_t r = 0; r < n; ++r)
          total += a2[r * m + t] = std::exp(static_cast<double>(a.gamma1) * a1[r * m + t]);
        for (std::size_t r = 0; r < n; ++r) {
          a2[r * m + t] /= total;
          for (std::size_t k = 0; k < d; ++k) c[t * d + k] += a2[r * m + t] * p(r, k);
        }
        for (std::size_t k = 0; k < d; ++k) {
          dot[t] += c[t * d + k] * w(t, k);
          nc[t] += c[t * d + k] * c[t * d + k];
          nw[t] += w(t, k) * w(t, k);
        }
        nc[t] = std::sqrt(nc[t]);
        nw[t] = std::sqrt(nw[t]);
        rho[t] = static_cast<double>(a.gamma2) * dot[t] / std::fmax(nc[t] * nw[t], 1e-8);
        if (rho[t] > top) {
          top = rho[t];
          best = t;
        }
      }
      for (std::size_t t = 0; t < m; ++t) sum += share[t] = std::exp(rho[t] - top);
      for (double& s : share) s /= sum;
      if (a.aggregation == LocalAggregation::max) {
        for (std::size_t t = 0; t < m; ++t) share[t] = t == best;
        z = std::isnan(sum) ? sum : top;
      } else {
        z = top + std::log(sum) -
            (a.aggregation == LocalAggregation::mean ? std::log(static_cast<double>(m)) : 0.0);
      }
    }
    double p(std::size_t r, std::size_t k) const { return static_cast<double>(pp[r * d + k]); }
    double w(std::size_t t, std::size_t k) const { return static_cast<double>(ww[t * d + k]); }

    std::size_t n, m, d;  // regions, words, width
    const T *pp, *ww;
    std::vector<double> a1, a2, c, dot, nc, nw, share;  // share: d Z / d rho
    double z = 0;
  };
};

}  // namespace hybridmed::reference
