#pragma once
// Differentiable ragged multi-head attention. Probabilities are never stored: the backward pass
// rebuilds them by tile from q, k and one log-sum-exp per row and head.
#include <algorithm>
#include <cmath>
#include <span>

#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/autograd/index_stage.hpp"
#include "hybridmed/backend/concept.hpp"

namespace hybridmed {

/// Row ranges of the sequences packed in one matrix.
template <class B>
struct Segments {
  IndexTensor<B> ranges;  // (count, 2): first row, end row
  Index count = 0, rows = 0;
  Index longest = 0;     // rows of the longest segment
  bool covering = true;  // every row lies in a segment

  Segments() = default;
  /// Ranges that are in backend memory already.
  Segments(IndexTensor<B> ranges_, Index count_, Index rows_, Index longest_, bool covering_)
      : ranges(std::move(ranges_)),
        count(count_),
        rows(rows_),
        longest(longest_),
        covering(covering_) {}
  /// begin_end: count pairs, ascending, none reaching into the next; rows: of the packed matrix.
  Segments(std::span<const std::int32_t> begin_end, Index rows_) {
    IndexStage<B> stage;
    fill(begin_end, rows_, stage);
    stage.upload();
  }
  /// The same; `ranges` comes with the upload of the stage, until when this must stay where it is.
  void fill(std::span<const std::int32_t> begin_end, Index rows_, IndexStage<B>& stage) {
    rows = rows_;
    count = static_cast<Index>(begin_end.size()) / 2;
    longest = 0;
    Index covered = 0;
    if (begin_end.size() % 2 != 0)
      fail("autograd", "Segments",
           "expected pairs of first row and end row, got " + std::to_string(begin_end.size()) +
               " numbers");
    for (std::size_t i = 0; i + 1 < begin_end.size(); i += 2) {
      if (begin_end[i] < 0 || begin_end[i + 1] < begin_end[i] || begin_end[i + 1] > rows ||
          (i > 0 && begin_end[i] < begin_end[i - 1]))
        fail("autograd", "Segments",
             "rows [" + std::to_string(begin_end[i]) + ", " + std::to_string(begin_end[i + 1]) +
                 ") of " + std::to_string(rows));
      covered += begin_end[i + 1] - begin_end[i];
      longest = (std::max)(longest, static_cast<Index>(begin_end[i + 1] - begin_end[i]));
    }
    covering = covered == rows;
    stage.add(begin_end, {count, 2}, ranges);
  }
};

/// What kind of attention, beyond who attends to whom.
template <Value V>
struct AttentionOptions {
  Index heads = 1;
  bool causal = false;
  const Wide<V>* bias = nullptr;  // (heads * area, area) or null
  tensor_of<Wide<V>> mask;        // (windows, area, area) added to the scores, or undefined
};

namespace detail {
template <Value V>
AttentionArgs<scalar_of<V>> attention_args(const tensor_of<V>& q, Index q_col,
                                           const tensor_of<V>& kv, Index k_col, Index v_col,
                                           Index width, const Segments<backend_of<V>>& qs,
                                           const Segments<backend_of<V>>& ks,
                                           const AttentionOptions<V>& o) {
  if (o.heads < 1 || width % o.heads != 0)
    fail("autograd", "attention",
         "width " + std::to_string(width) + " is not a multiple of " + std::to_string(o.heads) +
             " heads");
  if (qs.count != ks.count)
    fail("autograd", "attention",
         std::to_string(qs.count) + " query segments but " + std::to_string(ks.count) +
             " key segments");
  AttentionArgs<scalar_of<V>> a;
  a.segments = qs.count;
  a.heads = o.heads;
  a.head_dim = width / o.heads;
  a.causal = o.causal;
  a.scale =
      static_cast<accumulator_of<scalar_of<V>>>(1 / std::sqrt(static_cast<double>(a.head_dim)));
  a.q_ranges = qs.ranges.data();
  a.k_ranges = ks.ranges.data();
  a.query_rows = qs.rows;
  a.longest_queries = qs.longest;
  a.longest_keys = ks.longest;
  a.q = q.data() + q_col;
  a.ldq = q.cols();
  a.k = kv.data() + k_col;
  a.v = kv.data() + v_col;
  a.ldk = a.ldv = kv.cols();
  if (o.bias) {
    need_defined("attention", *o.bias);
    a.bias = value(*o.bias).data();
    a.area = value(*o.bias).cols();
    if (value(*o.bias).rows() != o.heads * a.area)
      fail("autograd", "attention",
           "expected a bias (heads * area, area) with " + std::to_string(o.heads) + " heads, got " +
               value(*o.bias).shape().str());
  }
  if (o.mask.defined()) {
    const Shape& m = o.mask.shape();
    if (m.rank() != 3 || m[1] != m[2] || m[0] < 1 || (o.bias && m[1] != a.area))
      fail("autograd", "attention",
           "expected a mask (windows, area, area)" +
               (o.bias ? " with area " + std::to_string(a.area) : std::string()) + ", got " +
               m.str());
    a.mask = o.mask.data();
    a.windows = m[0];
    a.area = m[1];
  }
  if ((a.bias || a.mask) && (std::max)(qs.longest, ks.longest) > a.area)
    fail("autograd", "attention",
         "a segment of " + std::to_string((std::max)(qs.longest, ks.longest)) +
             " rows, but bias and mask are for " + std::to_string(a.area));
  return a;
}
}  // namespace detail

/// Attention of packed rows to themselves. qkv (rows, 3 width): all q, all k, all v -> (rows,
/// width).
template <Value V>
V self_attention(const V& qkv, const Segments<backend_of<V>>& segments,
                 const AttentionOptions<V>& options) {
  static_assert(
      BackendAttention<backend_of<V>, scalar_of<V>>,
      "hybridmed: this backend has no attention for this scalar; see docs/policies/backend.md");
  using B = backend_of<V>;
  detail::need_defined("self_attention", qkv);
  const Index rows = value(qkv).rows(), width = value(qkv).cols() / 3;
  if (value(qkv).cols() != 3 * width || segments.rows != rows)
    fail("autograd", "self_attention",
         "expected qkv (" + std::to_string(segments.rows) + ", 3 width), got " +
             value(qkv).shape().str());
  auto args = detail::attention_args<V>(value(qkv), 0, value(qkv), width, 2 * width, width,
                                        segments, segments, options);
  tensor_of<V> y({rows, width});
  tensor_of<Wide<V>> lse({rows, options.heads});
  if (!segments.covering) B::fill(y.size(), scalar_of<V>(0), y.data());
  args.out = y.data();
  args.ldo = width;
  args.lse = lse.data();
  B::attention(args);
  if constexpr (is_recorded<V>) {
    GradientSlot<accumulator_of<scalar_of<V>>, B>* bias_slot =
        options.bias ? options.bias->slot : nullptr;
    const tensor_of<Wide<V>> bias = options.bias ? options.bias->tensor : tensor_of<Wide<V>>();
    const bool biased = options.bias && recording(*options.bias);
    if (recording(qkv) || biased)
      return recorded(y, [qkv, segments, args, y, lse, bias, bias_slot, mask = options.mask,
                          width](tensor_of<V> dy) {
        tensor_of<V> dqkv(qkv.shape());
        if (!segments.covering) B::fill(dqkv.size(), scalar_of<V>(0), dqkv.data());
        AttentionGradients<scalar_of<V>> g;
        g.dout = dy.data();
        g.dq = dqkv.data();
        g.dk = dqkv.data() + width;
        g.dv = dqkv.data() + 2 * width;
        if (bias_slot) g.dbias = bias_slot->accumulator(bias.shape()).data();
        B::attention_backward(args, g);
        if (qkv.slot) qkv.slot->add(std::move(dqkv));
      });
  }
  return y;
}

/// Attention of new rows to what a cache holds, nothing recorded. qkv (rows, 3 width): of it the
/// queries; cache (places, 2 width): all k, all v -> (rows, width).
template <class T, class B>
Tensor<T, B> cached_attention(const Tensor<T, B>& qkv, const Tensor<T, B>& cache,
                              const Segments<B>& queries, const Segments<B>& keys, Index heads) {
  detail::need_defined("cached_attention", qkv, cache);
  const Index rows = qkv.rows(), width = qkv.cols() / 3;
  if (qkv.cols() != 3 * width || cache.cols() != 2 * width || queries.rows != rows ||
      keys.rows != cache.rows())
    fail("autograd", "cached_attention",
         "expected qkv (" + std::to_string(queries.rows) + ", 3 width) and cache (" +
             std::to_string(keys.rows) + ", 2 width), got " + qkv.shape().str() + " and " +
             cache.shape().str());
  auto args = detail::attention_args<Tensor<T, B>>(qkv, 0, cache, 0, width, width, queries, keys,
                                                   {heads, false, nullptr, {}});
  Tensor<T, B> y({rows, width});
  Tensor<accumulator_of<T>, B> lse({rows, heads});
  if (!queries.covering) B::fill(y.size(), T(0), y.data());
  args.out = y.data();
  args.ldo = width;
  args.lse = lse.data();
  B::attention(args);
  return y;
}

/// Attention of queries to a memory. q (rows, width), kv (memory rows, 2 width): all k, all v ->
/// (rows, width). A query whose memory segment is empty yields zeros.
template <Value V>
V cross_attention(const V& q, const V& kv, const Segments<backend_of<V>>& q_segments,
                  const Segments<backend_of<V>>& k_segments, Index heads) {
  static_assert(
      BackendAttention<backend_of<V>, scalar_of<V>>,
      "hybridmed: this backend has no attention for this scalar; see docs/policies/backend.md");
  using B = backend_of<V>;
  detail::need_defined("cross_attention", q, kv);
  const Index rows = value(q).rows(), width = value(q).cols();
  if (value(kv).cols() != 2 * width || q_segments.rows != rows ||
      k_segments.rows != value(kv).rows())
    fail("autograd", "cross_attention",
         "expected q (" + std::to_string(q_segments.rows) + ", " + std::to_string(width) +
             ") and kv (" + std::to_string(k_segments.rows) + ", " + std::to_string(2 * width) +
             "), got " + value(q).shape().str() + " and " + value(kv).shape().str());
  auto args = detail::attention_args<V>(value(q), 0, value(kv), 0, width, width, q_segments,
                                        k_segments, AttentionOptions<V>{heads, false, nullptr, {}});
  tensor_of<V> y({rows, width});
  tensor_of<Wide<V>> lse({rows, heads});
  if (!q_segments.covering) B::fill(y.size(), scalar_of<V>(0), y.data());
  args.out = y.data();
  args.ldo = width;
  args.lse = lse.data();
  B::attention(args);
  if constexpr (is_recorded<V>)
    if (recording(q, kv))
      return recorded(y, [q, kv, q_segments, k_segments, args, y, lse, width](tensor_of<V> dy) {
        tensor_of<V> dq(q.shape()), dkv(kv.shape());
        if (!q_segments.covering) B::fill(dq.size(), scalar_of<V>(0), dq.data());
        if (!k_segments.covering) B::fill(dkv.size(), scalar_of<V>(0), dkv.data());
        AttentionGradients<scalar_of<V>> g;
        g.dout = dy.data();
        g.dq = dq.data();
        g.dk = dkv.data();
        g.dv = dkv.data() + width;
        B::attention_backward(args, g);
        if (q.slot) q.slot->add(std::move(dq));
        if (kv.slot) kv.slot->add(std::move(dkv));
      });
  return y;
}

}  // namespace hybridmed
