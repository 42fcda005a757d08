#pragma once
// CPU kernel: ragged attention, one tile of work per segment and head. Scores live in scratch
// memory only, in blocks of query rows; the backward pass rebuilds them.
#include <algorithm>
#include <limits>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/backend/cpu/math.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed::cpu {

template <class Gemm, class Executor>
struct Attention {
  static constexpr Index block = 64;  // query rows at a time

  template <class T>
  static void attention(const AttentionArgs<T>& a) {
    const Index d = a.head_dim;
    Executor::for_each(a.segments * a.heads, [&](Index task) {
      const Tile t(a, task);
      const T *q = a.q + t.q0 * a.ldq + t.head * d, *k = a.k + t.k0 * a.ldk + t.head * d,
              *v = a.v + t.k0 * a.ldv + t.head * d;
      T* out = a.out + t.q0 * a.ldo + t.head * d;
      if (t.keys == 0) {
        for (Index i = 0; i < t.queries; ++i) {
          std::fill_n(out + i * a.ldo, d, T(0));
          a.lse[(t.q0 + i) * a.heads + t.head] = -std::numeric_limits<T>::infinity();
        }
        return;
      }
      const Workspace<T> scores((std::min)(block, t.queries) * t.keys);
      for (Index i = 0; i < t.queries; i += block) {
        const Index rows = (std::min)(block, t.queries - i),
                    keys = a.causal ? (std::min)(t.keys, i + rows) : t.keys;
        T* s = scores.data();
        score_block(a, t, q, k, i, rows, keys, s);
        for (Index r = 0; r < rows; ++r) {
          T* row = s + r * keys;
          const Index seen = a.causal ? (std::min)(keys, i + r + 1) : keys;
          const T top = lane_max(seen, row);
          const bool any = std::isfinite(top) ||
                           admits_any(a, t, i + r, seen);  // false: every key is masked out
          for (Index j = 0; j < seen; ++j) row[j] = any ? fast_exp(row[j] - top) : T(0);
          const double sum = lane_sum(seen, [=](Index j) { return wide(row[j]); });
          const T inverse = any ? static_cast<T>(1 / sum) : T(0);
          for (Index j = 0; j < seen; ++j) row[j] *= inverse;
          std::fill_n(row + seen, keys - seen, T(0));
          a.lse[(t.q0 + i + r) * a.heads + t.head] =
              any ? static_cast<T>(wide(top) + std::log(sum)) : -std::numeric_limits<T>::infinity();
        }
        Gemm::template serial<T>(false, false, rows, d, keys, T(1), s, keys, v, a.ldv, T(0),
                                 out + i * a.ldo, a.ldo);
      }
    });
  }

  template <class T>
  static void attention_backward(const AttentionArgs<T>& a, const AttentionGradients<T>& g) {
    const Index d = a.head_dim, plane = a.area * a.area;
    // Without bias every (segment, head) is a task of its own. The bias gradient sums over
    // segments: then a task is a head and a fixed group of segments, and the groups are added in
    // order.
    const Index groups = g.dbias ? std::min<Index>(8, a.segments) : a.segments;
    const Workspace<T> bias_parts(g.dbias ? groups * a.heads * plane : 0);
    if (g.dbias) std::fill_n(bias_parts.data(), groups * a.heads * plane, T(0));
    Executor::for_each(groups * a.heads, [&](Index task) {
      const Index group = task / a.heads, head = task % a.heads;
      T* dbias = g.dbias ? bias_parts.data() + task * plane : nullptr;
      for (Index seg = group * a.segments / groups; seg < (group + 1) * a.segments / groups;
           ++seg) {
        const Tile t(a, seg * a.heads + head);
        const T *q = a.q + t.q0 * a.ldq + head * d, *k = a.k + t.k0 * a.ldk + head * d,
                *v = a.v + t.k0 * a.ldv + head * d;
        const T *dout = g.dout + t.q0 * a.ldo + head * d, *out = a.out + t.q0 * a.ldo + head * d;
        T *dq = g.dq + t.q0 * a.ldq + head * d, *dk = g.dk + t.k0 * a.ldk + head * d,
          *dv = g.dv + t.k0 * a.ldv + head * d;
        if (t.keys == 0 || t.queries == 0) {
          for (Index i = 0; i < t.queries; ++i) std::fill_n(dq + i * a.ldq, d, T(0));
          for (Index j = 0; j < t.keys; ++j) {
            std::fill_n(dk + j * a.ldk, d, T(0));
            std::fill_n(dv + j * a.ldv, d, T(0));
          }
          continue;
        }
        // The gradient does not change when one vector is taken from all keys, or from all values
        // (rows of ds sum to zero). Without their means, near-equal keys and values lose no digits
        // to cancellation.
        const Workspace<T> centred_k(t.keys * d), centred_v(t.keys * d), mean_v(d);
        centre(k, a.ldk, t.keys, d, centred_k.data(), static_cast<T*>(nullptr));
        centre(v, a.ldv, t.keys, d, centred_v.data(), mean_v.data());
        const Workspace<T> probabilities((std::min)(block, t.queries) * t.keys),
            gradients((std::min)(block, t.queries) * t.keys);
        // The last block sees every key, so it comes first and may overwrite dk and dv.
        for (Index i = (t.queries - 1) / block * block, first = 1; i >= 0; i -= block, first = 0) {
          const Index rows = (std::min)(block, t.queries - i),
                      keys = a.causal ? (std::min)(t.keys, i + rows) : t.keys;
          if (first && keys < t.keys)
            for (Index j = keys; j < t.keys; ++j) {
              std::fill_n(dk + j * a.ldk, d, T(0));
              std::fill_n(dv + j * a.ldv, d, T(0));
            }
          T *p = probabilities.data(), *ds = gradients.data();
          const T beta = first ? T(0) : T(1);
          score_block(a, t, q, k, i, rows, keys, p);
          Gemm::template serial<T>(false, true, rows, keys, d, T(1), dout + i * a.ldo, a.ldo,
                                   centred_v.data(), d, T(0), ds, keys);
          for (Index r = 0; r < rows; ++r) {
            T *pr = p + r * keys, *dr = ds + r * keys;
            const Index seen = a.causal ? (std::min)(keys, i + r + 1) : keys;
            const T *row_dout = dout + (i + r) * a.ldo, *row_out = out + (i + r) * a.ldo,
                    *mean = mean_v.data();
            const T delta = static_cast<T>(lane_sum(d, [=](Index c) {
              return wide(row_dout[c]) * (wide(row_out[c]) - wide(mean[c]));
            }));
            // Normalised anew instead of by the stored log-sum-exp, which, rounded, would make a
            // common offset of the scores matter.
            const bool any =
                a.lse[(t.q0 + i + r) * a.heads + head] != -std::numeric_limits<T>::infinity();
            const T top = lane_max(seen, pr);
            for (Index j = 0; j < seen; ++j) pr[j] = any ? fast_exp(pr[j] - top) : T(0);
            const T inverse =
                any ? static_cast<T>(1 / lane_sum(seen, [=](Index j) { return wide(pr[j]); }))
                    : T(0);
            for (Index j = 0; j < seen; ++j) pr[j] *= inverse;
            for (Index j = 0; j < seen; ++j) dr[j] = any ? pr[j] * (dr[j] - delta) : T(0);
            std::fill_n(pr + seen, keys - seen, T(0));
            std::fill_n(dr + seen, keys - seen, T(0));
            if (dbias)
              for (Index j = 0; j < seen; ++j) dbias[(i + r) * a.area + j] += dr[j];
          }
          Gemm::template serial<T>(true, false, keys, d, rows, T(1), p, keys, dout + i * a.ldo,
                                   a.ldo, beta, dv, a.ldv);
          Gemm::template serial<T>(false, false, rows, d, keys, a.scale, ds, keys, centred_k.data(),
                                   d, T(0), dq + i * a.ldq, a.ldq);
          Gemm::template serial<T>(true, false, keys, d, rows, a.scale, ds, keys, q + i * a.ldq,
                                   a.ldq, beta, dk, a.ldk);
        }
      }
    });
    if (g.dbias)
      for (Index group = 0; group < groups; ++group)
        for (Index i = 0; i < a.heads * plane; ++i)
          g.dbias[i] += bias_parts[group * a.heads * plane + i];
  }

 private:
  struct Tile {
    Index head, segment, q0, queries, k0, keys;
    template <class T>
    Tile(const AttentionArgs<T>& a, Index task)
        : head(task % a.heads),
          segment(task / a.heads),
          q0(a.q_ranges[2 * segment]),
          queries(a.q_ranges[2 * segment + 1] - q0),
          k0(a.k_ranges[2 * segment]),
          keys(a.k_ranges[2 * segment + 1] - k0) {}
  };

  template <class T>
  static bool admits_any(const AttentionArgs<T>& a, const Tile& t, Index i, Index keys) {
    for (Index j = 0; j < keys; ++j)
      if (a.admits(t.segment, t.head, i, j)) return true;
    return false;
  }

  /// y (rows, d) = x minus its column means, in the columns whose values lie nearer to their mean
  /// than the mean to zero. Elsewhere nothing cancels, and one large value, which a row may not
  /// even see, would take the digits of all others.
  template <class T>
  static void centre(const T* x, Index ldx, Index rows, Index d, T* y, T* mean) {
    const Workspace<double> sum(d);
    std::fill_n(sum.data(), d, 0.0);
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < d; ++c) sum[c] += wide(x[r * ldx + c]);
    const Workspace<double> spread(d);
    for (Index c = 0; c < d; ++c) {
      sum[c] /= static_cast<double>(rows);
      spread[c] = 0;
    }
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < d; ++c)
        spread[c] = (std::max)(std::abs(wide(x[r * ldx + c]) - sum[c]), spread[c]);
    for (Index c = 0; c < d; ++c)
      if (!(spread[c] < std::abs(sum[c]))) sum[c] = 0;  // also where it is NaN
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < d; ++c) y[r * d + c] = x[r * ldx + c] - static_cast<T>(sum[c]);
    if (mean)
      for (Index c = 0; c < d; ++c) mean[c] = static_cast<T>(sum[c]);
  }
  /// s (rows, keys) = scale q k^T + bias + mask for query rows [i, i + rows).
  template <class T>
  static void score_block(const AttentionArgs<T>& a, const Tile& t, const T* q, const T* k, Index i,
                          Index rows, Index keys, T* s) {
    Gemm::template serial<T>(false, true, rows, keys, a.head_dim, a.scale, q + i * a.ldq, a.ldq, k,
                             a.ldk, T(0), s, keys);
    const T* bias = a.bias ? a.bias + (t.head * a.area + i) * a.area : nullptr;
    const T* mask = a.mask ? a.mask + (t.segment % a.windows * a.area + i) * a.area : nullptr;
    if (!bias && !mask) return;
    for (Index r = 0; r < rows; ++r)
      for (Index j = 0; j < keys; ++j)
        s[r * keys + j] +=
            (bias ? bias[r * a.area + j] : T(0)) + (mask ? mask[r * a.area + j] : T(0));
  }
};

}  // namespace hybridmed::cpu
