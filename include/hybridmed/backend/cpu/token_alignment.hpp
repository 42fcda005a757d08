#pragma once
// CPU kernel of the token-wise contrast within samples (method 4.2b). One sample is one tile, with
// all of its sums; its attended vectors are made for a block of anchors at a time and made again in
// the backward pass, so that scratch memory is (n, m), (n, n) and a few rows.
#include <algorithm>
#include <cmath>
#include <limits>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/backend/cpu/math.hpp"
#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed::cpu {

template <class Gemm, class Executor>
struct TokenAlignment {
  static constexpr Index block_anchors = 64;

  template <class T>
  static void token_alignment(const TokenArgs<T>& a, T* loss) {
    const Workspace<double> part(a.samples);
    Executor::for_each(a.samples, [&](Index s) {
      const double of_words = Contrast<T>(a, a.from_words(s)).loss();
      part[s] = of_words + Contrast<T>(a, a.from_regions(s)).loss();
    });
    double total = 0;
    for (Index s = 0; s < a.samples; ++s) total += part[s];
    *loss = a.samples ? static_cast<T>(total / static_cast<double>(a.samples)) : T(0);
  }

  /// dp and dw are accumulated; either may be null.
  template <class T>
  static void token_alignment_backward(const TokenArgs<T>& a, const T* upstream, T* dp, T* dw) {
    const double k = wide(*upstream) / static_cast<double>(a.samples);
    Executor::for_each(a.samples, [&](Index s) {
      T* regions = dp ? dp + s * a.regions * a.dim : nullptr;
      T* words = dw ? dw + a.offsets[s] * a.dim : nullptr;
      Contrast<T>(a, a.from_words(s)).backward(k, words, regions);
      Contrast<T>(a, a.from_regions(s)).backward(k, regions, words);
    });
  }

 private:
  /// One direction of one sample: n anchors a that attend to m others b.
  template <class T>
  struct Contrast {
    Index n, m, d;
    T inverse;  // of the temperature
    const T *a, *b;
    Workspace<T> alpha;                // (n, m): attention, softmax over the others
    Workspace<T> logits;               // (n, n): anchor against attended vector
    Workspace<T> row_top, column_top;  // (n): largest logit
    Workspace<double> row_log, column_log, length, weight;  // (n): log-sum-exp above the largest

    Contrast(const TokenArgs<T>& args, const TokenSide<T>& side)
        : n(side.n),
          m(side.m),
          d(args.dim),
          inverse(static_cast<T>(1 / args.temperature)),
          a(side.anchors),
          b(side.others),
          alpha(n * m),
          logits(n * n),
          row_top(n),
          column_top(n),
          row_log(n),
          column_log(n),
          length(n),
          weight(n) {
      attend();
      const Workspace<T> c((std::min)(n, block_anchors) * d);
      each_block([&](Index first, Index rows) {
        attended(first, rows, c.data());
        for (Index r = 0; r < rows; ++r) {
          const T* x = c.data() + r * d;
          length[first + r] = (std::max)(
              std::sqrt(lane_sum(d, [=](Index k) { return wide(x[k]) * wide(x[k]); })), 1e-12);
        }
        to_unit(first, rows, c.data());
        Gemm::template serial<T>(false, true, n, rows, d, inverse, a, d, c.data(), d, T(0),
                                 logits.data() + first, n);
      });
      sum_logits();
      const T* w = side.weights;
      const double total = w ? lane_sum(n, [=](Index i) { return wide(w[i]); }) : wide(n);
      for (Index i = 0; i < n; ++i) weight[i] = (w ? wide(w[i]) : 1.0) / total;
    }

    double loss() const {
      return 0.5 * lane_sum(n, [this](Index i) {
               const double x = wide(logits[i * n + i]);
               return weight[i] * ((row_log[i] + (wide(row_top[i]) - x)) +
                                   (column_log[i] + (wide(column_top[i]) - x)));
             });
    }

    /// Adds the gradients of scale times the loss to da (n, d) and db (m, d); either may be null.
    void backward(double scale, T* da, T* db) {
      logits_gradient(scale);
      const Index most = (std::min)(n, block_anchors);
      const Workspace<T> c(most * d), dc(most * d), ds(most * m);
      each_block([&](Index first, Index rows) {
        const T *dlogits = logits.data() + first, *attention = alpha.data() + first * m;
        attended(first, rows, c.data());
        to_unit(first, rows, c.data());
        if (da)
          Gemm::template serial<T>(false, false, n, d, rows, inverse, dlogits, n, c.data(), d, T(1),
                                   da, d);
        Gemm::template serial<T>(true, false, rows, d, n, inverse, dlogits, n, a, d, T(0),
                                 dc.data(), d);
        through_length(first, rows, c.data(), dc.data());
        Gemm::template serial<T>(false, true, rows, m, d, T(1), dc.data(), d, b, d, T(0), ds.data(),
                                 m);
        through_softmax(rows, attention, ds.data());
        if (da)
          Gemm::template serial<T>(false, false, rows, d, m, inverse, ds.data(), m, b, d, T(1),
                                   da + first * d, d);
        if (db) {
          Gemm::template serial<T>(true, false, m, d, rows, inverse, ds.data(), m, a + first * d, d,
                                   T(1), db, d);
          Gemm::template serial<T>(true, false, m, d, rows, T(1), attention, m, dc.data(), d, T(1),
                                   db, d);
        }
      });
    }

   private:
    /// Calls f(first anchor, number of anchors) for blocks of at most block_anchors.
    template <class F>
    void each_block(F&& f) const {
      for (Index first = 0; first < n; first += block_anchors)
        f(first, (std::min)(block_anchors, n - first));
    }
    void attend() {
      Gemm::template serial<T>(false, true, n, m, d, inverse, a, d, b, d, T(0), alpha.data(), m);
      for (Index i = 0; i < n; ++i) {
        T* x = alpha.data() + i * m;
        const T top = lane_max(m, x);
        for (Index j = 0; j < m; ++j) x[j] = fast_exp(x[j] - top);
        const T share = static_cast<T>(1 / lane_sum(m, [=](Index j) { return wide(x[j]); }));
        for (Index j = 0; j < m; ++j) x[j] *= share;
      }
    }
    /// c (rows, d): what the anchors from `first` on attend to, before it has length 1.
    void attended(Index first, Index rows, T* c) const {
      Gemm::template serial<T>(false, false, rows, d, m, T(1), alpha.data() + first * m, m, b, d,
                               T(0), c, d);
    }
    void to_unit(Index first, Index rows, T* c) const {
      for (Index r = 0; r < rows; ++r) {
        const T share = static_cast<T>(1 / length[first + r]);
        for (Index k = 0; k < d; ++k) c[r * d + k] *= share;
      }
    }
    void sum_logits() {
      std::fill_n(column_top.data(), n, -std::numeric_limits<T>::infinity());
      std::fill_n(column_log.data(), n, 0.0);
      for (Index i = 0; i < n; ++i) {
        const T* x = logits.data() + i * n;
        const T top = lane_max(n, x);
        row_top[i] = top;
        row_log[i] = std::log(lane_sum(n, [=](Index t) { return wide(fast_exp(x[t] - top)); }));
        for (Index t = 0; t < n; ++t) column_top[t] = x[t] > column_top[t] ? x[t] : column_top[t];
      }
      for (Index i = 0; i < n; ++i) {
        const T* x = logits.data() + i * n;
        for (Index t = 0; t < n; ++t) column_log[t] += wide(fast_exp(x[t] - column_top[t]));
      }
      for (Index t = 0; t < n; ++t) column_log[t] = std::log(column_log[t]);
    }
    /// The logits become the gradient of scale times the loss with respect to them.
    void logits_gradient(double scale) {
      const Workspace<T> column_lse(n), share(n);
      for (Index t = 0; t < n; ++t) {
        column_lse[t] = static_cast<T>(column_log[t]);
        share[t] = static_cast<T>(0.5 * scale * weight[t]);
      }
      for (Index i = 0; i < n; ++i) {
        T* x = logits.data() + i * n;
        const T top = row_top[i], lse = static_cast<T>(row_log[i]), own = share[i];
        // p - 1 of the pair itself by expm1: where p is nearly 1, the difference keeps its digits
        const double of_pair = std::expm1(wide(x[i]) - wide(top) - row_log[i]) +
                               std::expm1(wide(x[i]) - wide(column_top[i]) - column_log[i]);
        for (Index t = 0; t < n; ++t)
          x[t] = own * fast_exp(x[t] - top - lse) +
                 share[t] * fast_exp(x[t] - column_top[t] - column_lse[t]);
        x[i] = static_cast<T>(0.5 * scale * weight[i] * of_pair);
      }
    }
    /// dc of the unit vectors c becomes that of the vectors before they had length 1.
    void through_length(Index first, Index rows, const T* c, T* dc) const {
      for (Index r = 0; r < rows; ++r) {
        const T* x = c + r * d;
        T* g = dc + r * d;
        const double size = length[first + r];
        const T along = size > 1e-12  // below it a constant divides
                            ? static_cast<T>(
                                  lane_sum(d, [=](Index k) { return wide(x[k]) * wide(g[k]); }))
                            : T(0),
                share = static_cast<T>(1 / size);
        for (Index k = 0; k < d; ++k) g[k] = share * (g[k] - along * x[k]);
      }
    }
    /// ds of the attention becomes that of its scores.
    void through_softmax(Index rows, const T* attention, T* ds) const {
      for (Index r = 0; r < rows; ++r) {
        const T* x = attention + r * m;
        T* g = ds + r * m;
        const T centre =
            static_cast<T>(lane_sum(m, [=](Index j) { return wide(x[j]) * wide(g[j]); }));
        for (Index j = 0; j < m; ++j) g[j] = x[j] * (g[j] - centre);
      }
    }
  };
};

}  // namespace hybridmed::cpu
