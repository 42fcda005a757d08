#pragma once
// CPU kernel of attention-pooled local alignment (method 4.2a) without the pooled vectors: rho
// needs c_t only through <w_t, c_t> = sum_n a2[n,t] s[n,t] and |c_t|^2 = a2_t^T (P P^T) a2_t, so
// one Gram matrix per image replaces T x d tensors. Words are taken in blocks of whole texts;
// within a block images are independent tiles, then words are.
#include <algorithm>
#include <cmath>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/backend/cpu/math.hpp"
#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed::cpu {

template <class Gemm, class Executor>
struct LocalAlignment {
  static constexpr Index block_words = 512;

  template <class T>
  static void local_scores(const LocalArgs<T>& a, T* z) {
    Executor::for_each(a.images, [&](Index image) {
      const Workspace<T> gram(a.regions * a.regions);
      gram_matrix(a, image, gram.data());
      each_block(a, [&](Index first, Index last) {
        Attended<T> s(a, image, gram.data(), first, last);
        for (Index i = first; i < last; ++i)
          z[image * a.texts + i] = static_cast<T>(s.score(a, i, nullptr));
      });
    });
  }

  /// dp and dw are accumulated; either may be null.
  template <class T>
  static void local_scores_backward(const LocalArgs<T>& a, const T* dz, T* dp, T* dw) {
    const Index n = a.regions, d = a.dim;
    const Workspace<T> grams(a.images * n * n), dgrams(dp ? a.images * n * n : 0);
    Executor::for_each(a.images, [&](Index image) {
      gram_matrix(a, image, grams.data() + image * n * n);
      if (dp) std::fill_n(dgrams.data() + image * n * n, n * n, T(0));
    });
    each_block(a, [&](Index first, Index last) {
      const Index w0 = a.offsets[first], words = a.offsets[last] - w0;
      const Workspace<T> all_ds(a.images * n * words);
      const Workspace<double> all_dnorm(a.images * words);  // d|w_t| / |w_t|
      Executor::for_each(a.images, [&](Index image) {
        Attended<T> s(a, image, grams.data() + image * n * n, first, last);
        T* ds = all_ds.data() + image * n * words;
        const Workspace<T> scaled(n * words);
        s.backward(a, dz + image * a.texts, first, last, ds, scaled.data(),
                   all_dnorm.data() + image * words);
        if (dp) {
          Gemm::template serial<T>(false, false, n, d, words, T(1), ds, words, a.w + w0 * d, d,
                                   T(1), dp + image * n * d, d);
          Gemm::template serial<T>(false, true, n, n, words, T(1), scaled.data(), words,
                                   s.a2.data(), words, T(1), dgrams.data() + image * n * n, n);
        }
      });
      if (dw)
        executor::for_tiles<Executor>(words, 64, [&](Index from, Index to) {
          for (Index image = 0; image < a.images; ++image) {
            Gemm::template serial<T>(true, false, to - from, d, n, T(1),
                                     all_ds.data() + image * n * words + from, words,
                                     a.p + image * n * d, d, T(1), dw + (w0 + from) * d, d);
            for (Index t = from; t < to; ++t) {
              const T k = static_cast<T>(all_dnorm[image * words + t]);
              for (Index c = 0; c < d; ++c) dw[(w0 + t) * d + c] += k * a.w[(w0 + t) * d + c];
            }
          }
        });
    });
    if (dp)
      Executor::for_each(a.images, [&](Index image) {
        Gemm::template serial<T>(false, false, n, d, n, T(2), dgrams.data() + image * n * n, n,
                                 a.p + image * n * d, d, T(1), dp + image * n * d, d);
      });
  }

 private:
  /// Calls f(first text, last text) for runs of texts of at most block_words words, or one text.
  template <class T, class F>
  static void each_block(const LocalArgs<T>& a, F&& f) {
    for (Index first = 0; first < a.texts;) {
      Index last = first + 1;
      while (last < a.texts && a.offsets[last + 1] - a.offsets[first] <= block_words) ++last;
      f(first, last);
      first = last;
    }
  }
  template <class T>
  static void gram_matrix(const LocalArgs<T>& a, Index image, T* gram) {
    const T* p = a.p + image * a.regions * a.dim;
    Gemm::template serial<T>(false, true, a.regions, a.regions, a.dim, T(1), p, a.dim, p, a.dim,
                             T(0), gram, a.regions);
  }

  /// One image against the words of a block of texts: (regions, words) matrices and per-word sums.
  template <class T>
  struct Attended {
    Index n, w0, words;
    Workspace<T> s, a1, a2, ga;                // scores; softmax over words; over regions; gram a2
    Workspace<double> dot, square, word_norm;  // <w, c>, |c|^2, |w|
    Workspace<double> rho, share;

    Attended(const LocalArgs<T>& a, Index image, const T* gram, Index first, Index last)
        : n(a.regions),
          w0(a.offsets[first]),
          words(a.offsets[last] - w0),
          s(n * words),
          a1(n * words),
          a2(n * words),
          ga(n * words),
          dot(words),
          square(words),
          word_norm(words),
          rho(words),
          share(words) {
      Gemm::template serial<T>(false, true, n, words, a.dim, T(1), a.p + image * n * a.dim, a.dim,
                               a.w + w0 * a.dim, a.dim, T(0), s.data(), words);
      const Workspace<T> top(words);
      const Workspace<double> sum(words);
      std::fill_n(top.data(), words, T(0));
      std::fill_n(sum.data(), words, 0.0);
      std::fill_n(dot.data(), words, 0.0);
      std::fill_n(square.data(), words, 0.0);
      for (Index r = 0; r < n; ++r) {
        T* row = a1.data() + r * words;
        std::copy_n(s.data() + r * words, words, row);
        for (Index i = first; i < last; ++i) {
          T* x = row + a.offsets[i] - w0;
          const Index m = a.offsets[i + 1] - a.offsets[i];
          const T max = lane_max(m, x);
          for (Index t = 0; t < m; ++t) x[t] = fast_exp(x[t] - max);
          const T inverse = static_cast<T>(1 / lane_sum(m, [=](Index t) { return wide(x[t]); }));
          for (Index t = 0; t < m; ++t) x[t] *= inverse;
        }
        for (Index t = 0; t < words; ++t) top[t] = row[t] > top[t] ? row[t] : top[t];
      }
      for (Index r = 0; r < n; ++r) {
        const T* x = a1.data() + r * words;
        T* y = a2.data() + r * words;
        for (Index t = 0; t < words; ++t) y[t] = fast_exp(a.gamma1 * (x[t] - top[t]));
        for (Index t = 0; t < words; ++t) sum[t] += static_cast<double>(y[t]);
      }
      for (Index t = 0; t < words; ++t) top[t] = static_cast<T>(1 / sum[t]);
      for (Index r = 0; r < n; ++r) {
        T* y = a2.data() + r * words;
        for (Index t = 0; t < words; ++t) y[t] *= top[t];
      }
      Gemm::template serial<T>(false, false, n, words, n, T(1), gram, n, a2.data(), words, T(0),
                               ga.data(), words);
      for (Index r = 0; r < n; ++r) {
        const T *x = s.data() + r * words, *y = a2.data() + r * words, *g = ga.data() + r * words;
        for (Index t = 0; t < words; ++t) {
          dot[t] += static_cast<double>(x[t] * y[t]);
          square[t] += static_cast<double>(g[t] * y[t]);
        }
      }
      for (Index t = 0; t < words; ++t) {
        const T* w = a.w + (w0 + t) * a.dim;
        word_norm[t] = std::sqrt(lane_sum(
            a.dim, [=](Index c) { return static_cast<double>(w[c]) * static_cast<double>(w[c]); }));
        square[t] = std::isfinite(square[t]) ? (std::max)(square[t], 0.0)
                                             : std::nan("");  // an overflow is no length
        rho[t] = static_cast<double>(a.gamma2) * dot[t] /
                 (std::max)(std::sqrt(square[t]) * word_norm[t], 1e-8);
      }
    }

    /// Z of text i; with `out`, also d Z / d rho of its words.
    double score(const LocalArgs<T>& a, Index i, double* out) const {
      const Index from = a.offsets[i] - w0, m = a.offsets[i + 1] - a.offsets[i];
      const double* x = rho.data() + from;
      const Index best = std::max_element(x, x + m) - x;
      double sum = 0;
      for (Index t = 0; t < m; ++t) sum += std::exp(x[t] - x[best]);
      const bool max = a.aggregation == LocalAggregation::max;
      if (out)
        for (Index t = 0; t < m; ++t)
          out[t] = max ? (t == best ? 1.0 : 0.0) : std::exp(x[t] - x[best]) / sum;
      if (max && !std::isnan(sum)) return x[best];
      return x[best] + std::log(sum) -
             (a.aggregation == LocalAggregation::mean ? std::log(static_cast<double>(m)) : 0.0);
    }

    /// ds (n, words): gradient of the scores; scaled: a2 times d|c|^2; dnorm: d|w| / |w|.
    void backward(const LocalArgs<T>& a, const T* dz, Index first, Index last, T* ds, T* scaled,
                  double* dnorm) {
      const Workspace<T> ddot(words), dsquare(words);
      const Workspace<double> mean(words);
      for (Index i = first; i < last; ++i) {
        const Index from = a.offsets[i] - w0;
        score(a, i, share.data() + from);
        for (Index t = from; t < a.offsets[i + 1] - w0; ++t) {
          const double c = std::sqrt(square[t]), product = c * word_norm[t],
                       den = (std::max)(product, 1e-8);
          const double g =
              static_cast<double>(a.gamma2) * static_cast<double>(dz[i]) * share[t] / den;
          const double dden = product > 1e-8 ? -g * dot[t] / den : 0;
          ddot[t] = static_cast<T>(g);
          dsquare[t] = static_cast<T>(c > 0 ? dden * word_norm[t] / (2 * c) : 0);
          dnorm[t] = word_norm[t] > 0 ? dden * c / word_norm[t] : 0;
          mean[t] = 0;
        }
      }
      for (Index r = 0; r < n; ++r) {
        const T *x = s.data() + r * words, *y = a2.data() + r * words, *g = ga.data() + r * words;
        T *da = ds + r * words, *sc = scaled + r * words;
        for (Index t = 0; t < words; ++t) {
          da[t] = ddot[t] * x[t] + T(2) * dsquare[t] * g[t];
          sc[t] = dsquare[t] * y[t];
          mean[t] += static_cast<double>(da[t] * y[t]);
        }
      }
      const Workspace<T> centre(words);
      for (Index t = 0; t < words; ++t) centre[t] = static_cast<T>(mean[t]);
      for (Index r = 0; r < n; ++r) {
        const T *y = a2.data() + r * words, *x = a1.data() + r * words;
        T* da = ds + r * words;
        for (Index t = 0; t < words; ++t) da[t] = a.gamma1 * y[t] * (da[t] - centre[t]);
        for (Index i = first; i < last; ++i) {
          const Index from = a.offsets[i] - w0, m = a.offsets[i + 1] - a.offsets[i];
          const T *xi = x + from, *yi = y + from;
          T* di = da + from;
          const T row = static_cast<T>(
              lane_sum(m, [=](Index t) { return static_cast<double>(xi[t] * di[t]); }));
          for (Index t = 0; t < m; ++t) di[t] = ddot[from + t] * yi[t] + xi[t] * (di[t] - row);
        }
      }
    }
  };
};

}  // namespace hybridmed::cpu
