#pragma once
// The data of one case of attention.
#include "backend/attention_shapes.hpp"
#include "backend/conformance.hpp"

namespace hybridmed::test {

/// Appends the row ranges of segments of these lengths, with an unused row around each; returns the
/// number of rows.
inline Index spaced_ranges(const std::vector<Index>& segments, std::vector<std::int32_t>& out) {
  Index at = 1;
  for (Index n : segments) {
    out.push_back(static_cast<std::int32_t>(at));
    out.push_back(static_cast<std::int32_t>(at += n));
    ++at;
  }
  return at + 1;
}

/// The inputs of one case. Rows are packed with unused rows between segments and unused columns
/// beside the heads, which no kernel may touch.
template <class T>
struct AttentionData {
  explicit AttentionData(const AttentionCase& c) : width(c.heads * c.head_dim) {
    q_rows = spaced_ranges(c.queries, q_ranges);
    k_rows = spaced_ranges(c.keys, k_ranges);
    a.segments = static_cast<Index>(c.queries.size());
    a.heads = c.heads;
    a.head_dim = c.head_dim;
    a.causal = c.causal;
    a.q_ranges = q_ranges.data();
    a.k_ranges = k_ranges.data();
    a.query_rows = q_rows;
    a.scale = static_cast<T>(1 / std::sqrt(static_cast<double>(c.head_dim)));
    a.ldq = width + 3;
    a.ldk = 2 * width + 1;
    a.ldv = width + 2;
    a.ldo = width + 5;
    q = random<T>(q_rows * a.ldq, 1);
    k = random<T>(k_rows * a.ldk, 2);
    v = random<T>(k_rows * a.ldv, 3);
    dout = random<T>(q_rows * a.ldo, 4);
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.area = c.area;
    a.windows = std::max<Index>(c.windows, 1);
    if (c.bias) {
      bias = random<T>(c.heads * c.area * c.area, 5);
      a.bias = bias.data();
    }
    if (c.windows) {
      // Some pairs are shut out, as between the parts of a shifted window, and one row as a whole.
      mask = filled<T>(c.windows * c.area * c.area, 0);
      for (std::size_t i = 0; i < mask.size(); ++i)
        if (i % 3 == 1) mask[i] = T(-100);
      std::fill_n(mask.begin() + c.area, c.area, T(-100));
      a.mask = mask.data();
    }
    out = filled<T>(q_rows * a.ldo, 0);
    lse = filled<T>(q_rows * c.heads, 0);
    AttentionArgs<T> forward = a;
    forward.out = out.data();
    forward.lse = lse.data();
    Reference::attention(forward);
  }
  Index width, q_rows = 0, k_rows = 0;
  std::vector<std::int32_t> q_ranges, k_ranges;
  Values<T> q, k, v, dout, bias, mask, out, lse;
  AttentionArgs<T> a;
};

template <class B, class T>
void attention_forward(const AttentionData<T>& d, T* out, T* lse) {
  AttentionArgs<T> a = d.a;
  a.out = out;
  a.lse = lse;
  B::attention(a);
}
template <class B, class T>
void attention_backward(const AttentionData<T>& d, T* dq, T* dk, T* dv, T* dbias) {
  AttentionArgs<T> a = d.a;
  a.out = const_cast<T*>(d.out.data());
  a.lse = const_cast<T*>(d.lse.data());  // inputs here
  B::attention_backward(a, AttentionGradients<T>{d.dout.data(), dq, dk, dv, dbias});
}

}  // namespace hybridmed::test
