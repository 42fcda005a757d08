#pragma once
// The recorder's kernels of rows: picked, added up by target, mixed, normalised, moved; and
// attention.
#include <algorithm>
#include <set>
#include <type_traits>

#include "notes.hpp"

namespace hybridmed::roofline {

struct Rows {
  static void repeat_indices(Index count, const std::int32_t* first, Index repeats, Index period,
                             std::int32_t* y) {
    note({"index", Pass::index, 1, {span(count, first)}, {span(count * repeats, y)}});
    std::vector<std::int32_t> numbers;
    for (Index r = 0; r < repeats; ++r)
      for (Index i = 0; i < count; ++i)
        numbers.push_back(Kept::at(first, i) < 0
                              ? -1
                              : Kept::at(first, i) + static_cast<std::int32_t>(r * period));
    if (!numbers.empty()) Kept::put(numbers.data(), y, numbers.size() * sizeof(std::int32_t));
  }
  template <class T>
  static void gather_rows(Index rows, Index cols, const T* x, const std::int32_t* index, T* y) {
    const Targets from(rows, index);
    note({"gather",
          Pass::index,
          1,
          {span(from.different * cols, x), span(rows, index)},
          {span(rows * cols, y)},
          0,
          0,
          span((from.valid - from.different) * cols, x).bytes});
  }
  template <class T>
  static void scatter_add_rows(Index rows, Index cols, const T* dy, const std::int32_t* index,
                               accumulator_of<T>* dx) {
    by_target("scatter", rows, cols, dy, index, dx);
  }
  template <class T, class W>
  static void mix_rows(Index batch, Index outputs, Index inputs, Index cols,
                       const std::int32_t* start, const std::int32_t* column, const W* weight,
                       const T* x, T* y) {
    const Index pairs = Kept::at(start, outputs);
    note({"mix_rows",
          Pass::index,
          1,
          {span(batch * inputs * cols, x), span(outputs + 1, start), span(pairs, column),
           span(pairs, weight)},
          {span(batch * outputs * cols, y)}});
  }
  template <class T, class A>
  static void normalize_rows(Index rows, Index cols, const T* x, T* y, A* norm) {
    const Index n = rows * cols;
    note({"normalize_rows",
          Pass::rows,
          1,
          {span(n, x)},
          {span(n, y), span(rows, norm)},
          0,
          0,
          span(n, x).bytes});
  }
  template <class T, class A>
  static void normalize_rows_backward(Index rows, Index cols, const T* y, const A* norm,
                                      const T* dy, T* dx) {
    const Index n = rows * cols;
    note({"normalize_rows",
          Pass::rows,
          1,
          {span(n, y), span(n, dy), span(rows, norm)},
          {span(n, dx)},
          0,
          0,
          2 * span(n, y).bytes});
  }
  template <class T>
  static void transpose(Index batch, Index rows, Index cols, const T* x, T* y) {
    const Index n = batch * rows * cols;
    note({"transpose", Pass::index, 1, {span(n, x)}, {span(n, y)}});
  }
  template <class T>
  static void patchify(Index batch, Index channels, Index side, Index patch, const T* x, T* y) {
    const Index n = batch * channels * (side / patch) * (side / patch) * patch * patch;
    note({"patchify", Pass::index, 1, {span(n, x)}, {span(n, y)}});
  }

  // ---- attention: a tile of queries reads the keys and values that it sees, a tile of keys the
  // queries that see it
  template <class T>
  static void attention(const AttentionArgs<T>& a) {
    const Work w(a, is_tall(a, a.longest_queries) ? 208 : 64, 1);
    Entry e{
        "attention",
        Pass::attention,
        1,
        {span(w.queries * w.width, a.q), span(w.keys * w.width, a.k), span(w.keys * w.width, a.v),
         span(2 * a.segments, a.q_ranges), span(2 * a.segments, a.k_ranges)},
        {span(w.queries * w.width, a.out), span(w.queries * a.heads, a.lse)}};
    e.again = w.again(2 * sizeof(T));
    e.flops = 4 * w.pairs * real(w.width);
    e.tensor_cores = std::is_same_v<T, bfloat16>;
    w.read_addends(a, e);
    note(std::move(e));
  }
  /// Three kernels: means of keys and values, gradients of queries, gradients of keys and values.
  /// The last two rebuild the scores and their gradients, each for itself.
  template <class T>
  static void attention_backward(const AttentionArgs<T>& a, const AttentionGradients<T>& g) {
    using A = accumulator_of<T>;
    const Work w(a, is_tall(a, a.longest_queries) ? 128 : 64,
                 is_tall(a, a.longest_keys) ? 128 : 64);
    const Index q = w.queries * w.width, k = w.keys * w.width;
    Entry e{"attention",
            Pass::attention,
            3,
            {span(q, a.q), span(k, a.k), span(k, a.v), span(q, a.out), span(q, g.dout),
             span(w.queries * a.heads, a.lse), span(2 * a.segments, a.q_ranges),
             span(2 * a.segments, a.k_ranges)},
            {span(q, g.dq), span(k, g.dk), span(k, g.dv)}};
    const double ranges = span(2 * a.segments, a.k_ranges).bytes,
                 centre = real(w.width) * sizeof(A);
    e.scratch = 4 * real(a.segments) * centre + 6 * real(w.queries, a.heads) * sizeof(A);
    e.twice = (w.centres - 2 * real(a.segments)) * centre + 2 * ranges +
              (a.q_ranges == a.k_ranges ? 0 : ranges);
    // Keys and values three times in all, queries and the gradients of their results twice.
    e.twice += span(2 * (w.keys + w.keys_with_queries) * w.width, a.k).bytes +
               span(2 * w.queries_with_keys * w.width, a.q).bytes;
    e.again = span(2 * k, a.k).bytes + span(q, g.dout).bytes + w.again(2 * sizeof(T)) +
              w.again_by_keys(2 * sizeof(T));
    e.flops = 14 * w.pairs * real(w.width);
    e.tensor_cores = std::is_same_v<T, bfloat16>;
    w.read_addends(a, e);
    note(std::move(e));
  }

 protected:
  /// Rows that indices name: how many, and how many different ones. All are different where the
  /// host did not put the indices there.
  struct Targets {
    Index valid = 0, different = 0;
    std::int32_t largest = 0;

    Targets(Index rows, const std::int32_t* index) {
      std::set<std::int32_t> seen;
      for (Index r = 0; r < rows; ++r) {
        const std::int32_t at = Kept::at(index, r);
        if (at < 0) continue;
        ++valid;
        seen.insert(at);
        largest = (std::max)(largest, at);
      }
      different = static_cast<Index>(seen.size());
    }
  };

  /// Sums by target: rows in the order of their targets, then one launch that adds them up. Few
  /// rows are ordered by comparing all, more by sorting: three launches a digit.
  template <class T, class Y>
  static void by_target(std::string_view kind, Index rows, Index cols, const T* dy,
                        const std::int32_t* index, Y* dx) {
    constexpr Index few = 2048, tile = 4096, digits = 256, passes = 4;  // as in order.cu
    const Targets to(rows, index);
    const Index sums = to.different * cols;
    Entry e{kind,
            Pass::index,
            2,
            {span(to.valid * cols, dy), span(rows, index), span(sums, dx)},
            {span(sums, dx)}};
    const double all = span(rows, index).bytes, valid = span(to.valid, index).bytes;
    double written = 2 * all + 8, read = all + valid + 8;  // targets and sources, then a state
    if (rows > few) {
      const double totals = real(digits) * sizeof(std::int32_t),
                   counts = totals * std::ceil(real(rows) / real(tile));
      int moves = 0;  // passes but the first that find more than one digit
      for (int pass = 1; pass < passes; ++pass) moves += to.largest >> (8 * pass) > 0;
      e.launches = 1 + 3 * passes;
      written = passes * (2 * counts + totals) + 4 + 4 * passes + (2 + 2 * moves) * valid;
      read = all + passes * (counts + totals) + (1 + moves) * counts + (passes - 1) * (12 + valid) +
             8 + (2 + 2 * moves) * valid;
    }
    e.scratch = 2 * written;
    e.twice = read - written;
    note(std::move(e));
  }

 private:
  /// Does this attention take the tall tiles of attention_bf16.cuh?
  template <class T>
  static bool is_tall(const AttentionArgs<T>& a, Index longest) {
    return std::is_same_v<T, bfloat16> && a.head_dim > 32 && a.head_dim <= 64 && longest > 64;
  }
  /// Rows and pairs of an attention whose tiles have so many queries, or keys.
  struct Work {
    Index queries = 0, keys = 0, width = 0;
    Index queries_with_keys = 0, keys_with_queries = 0;
    double centres = 0;  // means of keys and of values that the backward pass reads
    double pairs = 0, tiles_times_keys = 0, tiles_times_queries = 0;

    template <class T>
    Work(const AttentionArgs<T>& a, double of_queries, double of_keys)
        : width(a.heads * a.head_dim) {
      for (Index s = 0; s < a.segments; ++s) {
        const Index q = Kept::at(a.q_ranges, 2 * s + 1) - Kept::at(a.q_ranges, 2 * s),
                    k = Kept::at(a.k_ranges, 2 * s + 1) - Kept::at(a.k_ranges, 2 * s);
        queries += q;
        keys += k;
        queries_with_keys += k > 0 ? q : 0;
        keys_with_queries += q > 0 ? k : 0;
        centres += (q > 0) + (q > 0 && k > 0) + 2 * (k > 0);
        const double seen = a.causal ? 0.5 : 1;
        pairs += seen * real(q, k);
        tiles_times_keys += seen * std::ceil(real(q) / of_queries) * real(k);
        tiles_times_queries += seen * std::ceil(real(k) / of_keys) * real(q);
      }
    }
    /// Bytes of keys (and values) that are read more often than once.
    double again(double bytes) const {
      return (std::max)(0.0, tiles_times_keys - real(keys)) * real(width) * bytes;
    }
    double again_by_keys(double bytes) const {
      return (std::max)(0.0, tiles_times_queries - real(queries)) * real(width) * bytes;
    }
    template <class T>
    static void read_addends(const AttentionArgs<T>& a, Entry& e) {
      const Index plane = a.area * a.area;
      if (a.bias) e.reads.push_back(span(a.heads * plane, a.bias));
      if (a.mask) e.reads.push_back(span((std::min)(a.windows, a.segments) * plane, a.mask));
    }
  };
};

}  // namespace hybridmed::roofline
