#pragma once
// Reference kernel: ragged multi-head attention, forward and backward, element by element.
#include <cmath>
#include <limits>
#include <vector>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::reference {

struct Attention {
  template <class T>
  static void attention(const AttentionArgs<T>& a) {
    std::vector<double> s;
    each_row(a, [&](Index seg, Index h, Index row, Index i, Index k0, Index keys) {
      scores(a, seg, h, row, i, k0, keys, s);
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      for (double x : s) top = x > top ? x : top;
      const bool any = admits_any(a, seg, h, i, keys);  // false: no key, or every key masked out
      for (double& x : s) sum += x = any ? std::exp(x - top) : 0;
      a.lse[row * a.heads + h] =
          any ? static_cast<T>(top + std::log(sum)) : -std::numeric_limits<T>::infinity();
      if (!any) sum = 1;
      for (Index c = 0; c < a.head_dim; ++c) {
        double o = 0;
        for (Index j = 0; j < keys; ++j)
          o += s[static_cast<std::size_t>(j)] / sum *
               static_cast<double>(a.v[(k0 + j) * a.ldv + h * a.head_dim + c]);
        a.out[row * a.ldo + h * a.head_dim + c] = static_cast<T>(o);
      }
    });
  }

  template <class T>
  static void attention_backward(const AttentionArgs<T>& a, const AttentionGradients<T>& g) {
    const Index d = a.head_dim;
    for (Index seg = 0; seg < a.segments; ++seg) {
      clear(g.dq, a.ldq, a.q_ranges + 2 * seg, a.heads * d);
      clear(g.dk, a.ldk, a.k_ranges + 2 * seg, a.heads * d);
      clear(g.dv, a.ldv, a.k_ranges + 2 * seg, a.heads * d);
    }
    std::vector<double> s;
    each_row(a, [&](Index seg, Index h, Index row, Index i, Index k0, Index keys) {
      scores(a, seg, h, row, i, k0, keys, s);
      double top = -std::numeric_limits<double>::infinity(), sum = 0;
      for (double x : s) top = x > top ? x : top;
      const bool any = a.lse[row * a.heads + h] != -std::numeric_limits<T>::infinity();
      for (double& x : s) sum += x = any ? std::exp(x - top) : 0;
      if (!any) sum = 1;
      const T* dout = g.dout + row * a.ldo + h * d;
      double delta = 0;
      for (Index c = 0; c < d; ++c)
        delta += static_cast<double>(dout[c]) * static_cast<double>(a.out[row * a.ldo + h * d + c]);
      for (Index j = 0; j < keys; ++j) {
        const double p = s[static_cast<std::size_t>(j)] / sum;
        double dp = 0;
        for (Index c = 0; c < d; ++c)
          dp +=
              static_cast<double>(dout[c]) * static_cast<double>(a.v[(k0 + j) * a.ldv + h * d + c]);
        const double ds = p * (dp - delta);
        for (Index c = 0; c < d; ++c) {
          const Index kc = (k0 + j) * a.ldk + h * d + c, qc = row * a.ldq + h * d + c;
          g.dv[(k0 + j) * a.ldv + h * d + c] += static_cast<T>(p * static_cast<double>(dout[c]));
          g.dq[qc] +=
              static_cast<T>(ds * static_cast<double>(a.scale) * static_cast<double>(a.k[kc]));
          g.dk[kc] +=
              static_cast<T>(ds * static_cast<double>(a.scale) * static_cast<double>(a.q[qc]));
        }
        if (g.dbias) g.dbias[(h * a.area + i) * a.area + j] += static_cast<T>(ds);
      }
    });
  }

 private:
  template <class T>
  static bool admits_any(const AttentionArgs<T>& a, Index seg, Index h, Index i, Index keys) {
    for (Index j = 0; j < keys; ++j)
      if (a.admits(seg, h, i, j)) return true;
    return false;
  }
  /// f(segment, head, query row, its place in the segment, first key row, number of keys it sees).
  template <class T, class F>
  static void each_row(const AttentionArgs<T>& a, F&& f) {
    for (Index seg = 0; seg < a.segments; ++seg) {
      const Index q0 = a.q_ranges[2 * seg], q1 = a.q_ranges[2 * seg + 1];
      const Index k0 = a.k_ranges[2 * seg], k1 = a.k_ranges[2 * seg + 1];
      for (Index h = 0; h < a.heads; ++h)
        for (Index r = q0; r < q1; ++r)
          f(seg, h, r, r - q0, k0, a.causal && r - q0 + 1 < k1 - k0 ? r - q0 + 1 : k1 - k0);
    }
  }
  template <class T>
  static void scores(const AttentionArgs<T>& a, Index seg, Index h, Index row, Index i, Index k0,
                     Index keys, std::vector<double>& s) {
    s.assign(static_cast<std::size_t>(keys), 0.0);
    for (Index j = 0; j < keys; ++j) {
      double x = 0;
      for (Index c = 0; c < a.head_dim; ++c)
        x += static_cast<double>(a.q[row * a.ldq + h * a.head_dim + c]) *
             static_cast<double>(a.k[(k0 + j) * a.ldk + h * a.head_dim + c]);
      x *= static_cast<double>(a.scale);
      if (a.bias) x += static_cast<double>(a.bias[(h * a.area + i) * a.area + j]);
      if (a.mask) x += static_cast<double>(a.mask[(seg % a.windows * a.area + i) * a.area + j]);
      s[static_cast<std::size_t>(j)] = x;
    }
  }
  template <class T>
  static void clear(T* p, Index ld, const std::int32_t* range, Index cols) {
    for (Index r = range[0]; r < range[1]; ++r)
      for (Index c = 0; c < cols; ++c) p[r * ld + c] = T(0);
  }
};

}  // namespace hybridmed::reference
