#pragma once
// Cases of attention, and the data of one.
#include "backend/conformance.hpp"

namespace hybridmed::test {

struct AttentionCase {
  const char* name;
  std::vector<Index> queries, keys;  // of each segment
  Index heads, head_dim;
  bool causal;
  bool bias;
  Index windows;  // 0: no mask
  Index area;
};

inline std::vector<Index> repeat(Index length, Index count) {
  return std::vector<Index>(static_cast<std::size_t>(count), length);
}

inline const std::vector<AttentionCase> attention_cases{
    {"one row", {1}, {1}, 1, 1, false, false, 0, 0},
    {"ragged", {3, 17, 65, 1, 197}, {3, 17, 65, 1, 197}, 3, 17, false, false, 0, 0},
    {"ragged, other keys", {3, 17, 65, 1}, {197, 1, 3, 65}, 3, 5, false, false, 0, 0},
    {"causal", {3, 17, 65, 1, 197}, {3, 17, 65, 1, 197}, 3, 17, true, false, 0, 0},
    {"causal, fewer keys than queries", {70, 197, 3}, {5, 66, 1}, 2, 3, true, false, 0, 0},
    {"causal, more keys than queries", {5, 66, 1, 64}, {70, 197, 3, 65}, 2, 3, true, false, 0, 0},
    {"no segments", {}, {}, 2, 3, false, false, 0, 0},
    {"no segments, bias", {}, {}, 2, 3, false, true, 2, 5},
    {"segments without keys", {3, 17, 65}, {0, 17, 0}, 2, 3, false, false, 0, 0},
    {"segments without queries", {0, 3, 0}, {5, 3, 17}, 2, 3, false, false, 0, 0},
    {"nothing at all", {0, 0}, {0, 0}, 2, 3, false, false, 0, 0},
    {"causal segments without keys", {3, 0}, {0, 3}, 2, 3, true, false, 0, 0},
    {"bias", repeat(17, 6), repeat(17, 6), 3, 5, false, true, 0, 17},
    {"bias, segments of its group of eight and more", repeat(9, 19), repeat(9, 19), 2, 3, false,
     true, 0, 9},
    {"bias larger than the segments",
     {3, 65, 1, 0, 49},
     {65, 3, 1, 17, 49},
     2,
     3,
     false,
     true,
     0,
     65},
    {"bias over several blocks of rows", {131, 65}, {131, 65}, 2, 3, false, true, 0, 131},
    {"mask", repeat(9, 7), repeat(9, 7), 2, 3, false, false, 3, 9},
    {"bias and mask", repeat(49, 8), repeat(49, 8), 3, 5, false, true, 4, 49},
    {"bias and mask, causal", {17, 3, 17, 1, 9}, {17, 3, 17, 1, 9}, 2, 3, true, true, 2, 17},
};

/// The inputs of one case. Rows are packed with unused rows between segments and unused columns
/// beside the heads, which no kernel may touch.
template <class T>
struct AttentionData {
  explicit AttentionData(const AttentionCase& c) : width(c.heads * c.head_dim) {
    const auto ranges = [](const std::vector<Index>& lengths_, std::vector<std::int32_t>& out) {
      Index at = 1;
      for (Index n : lengths_) {
        out.push_back(static_cast<std::int32_t>(at));
        out.push_back(static_cast<std::int32_t>(at += n));
        ++at;
      }
      return at + 1;
    };
    q_rows = ranges(c.queries, q_ranges);
    k_rows = ranges(c.keys, k_ranges);
    a.segments = static_cast<Index>(c.queries.size());
    a.heads = c.heads;
    a.head_dim = c.head_dim;
    a.causal = c.causal;
    a.q_ranges = q_ranges.data();
    a.k_ranges = k_ranges.data();
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
