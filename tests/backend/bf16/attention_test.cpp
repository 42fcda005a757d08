// Attention in bf16 on the host backends and on CUDA, against plain loops in double.
#include "backend/attention_cases.hpp"
#include "backend/bf16_conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// A backend on tensor cores multiplies weights and their gradients in bf16 again: each is off by
/// this much of itself at most, half a unit.
#ifdef HYBRIDMED_TEST_CUDA
constexpr double weight_error = 0x1p-8;
#else
constexpr double weight_error = 0;
#endif

/// The inputs of one case, and what attention makes of them. Rows are packed with unused rows
/// between segments and unused columns beside the heads; both hold numbers that are not touched.
/// `pieces`: all rows begin at a multiple of 16 bytes, where a head has a multiple of 8 columns.
struct Packed {
  /// `longest`: are a backend's tiles to suit the longest segment? Else it does not know its
  /// length.
  explicit Packed(const AttentionCase& c_, double shift = 0, bool pieces = false,
                  bool longest = false)
      : c(c_),
        width(c.heads * c.head_dim),
        windows(std::max<Index>(c.windows, 1)),
        says_longest(longest) {
    q_rows = spaced_ranges(c.queries, q_ranges);
    k_rows = spaced_ranges(c.keys, k_ranges);
    ldq = width + (pieces ? 8 : 3);
    ldk = 2 * width + (pieces ? 16 : 1);
    ldv = width + (pieces ? 24 : 2);
    ldo = width + (pieces ? 8 : 5);
    q = halves(q_rows * ldq, 1);
    k = halves(k_rows * ldk, 2, 1, shift);
    v = halves(k_rows * ldv, 3, 1, shift);
    dout = halves(q_rows * ldo, 4);
    out = halves(q_rows * ldo, 5);  // rows in no segment keep this
    lse = floats(q_rows * c.heads, 6);
    scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim)));
    if (c.bias) bias = floats(c.heads * c.area * c.area, 7);
    if (c.windows) {
      mask = Doubles(static_cast<std::size_t>(c.windows * c.area * c.area), 0.0);
      for (std::size_t i = 0; i < mask.size(); ++i)
        if (i % 3 == 1) mask[i] = -100;
      std::fill_n(mask.begin() + c.area, c.area, -100.0);
    }
    forward();
    rounded_out = rounded(out);
    for (double& x : lse) x = static_cast<float>(x);
    backward();
  }

  const AttentionCase c;
  Index width, windows, q_rows = 0, k_rows = 0, ldq = 0, ldk = 0, ldv = 0, ldo = 0;
  bool says_longest;
  std::vector<std::int32_t> q_ranges, k_ranges;
  double scale = 1;
  Doubles q, k, v, dout, bias, mask, out, lse, rounded_out;
  /// Gradients where the output is exact, and how far a rounded output and rounded weights may move
  /// them. The output itself: by what its weights, which add up to 1 however they are rounded, make
  /// of the distances of the values.
  Doubles dq, dk, dv, dbias, out_room, dq_room, dk_room, dv_room, dbias_room;

  /// The arguments of a kernel, without its outputs.
  template <class P>
  AttentionArgs<typename P::T> arguments(P& p) const {
    AttentionArgs<typename P::T> a;
    a.segments = static_cast<Index>(c.queries.size());
    a.heads = c.heads;
    a.head_dim = c.head_dim;
    a.q_ranges = p.index(q_ranges);
    a.k_ranges = p.index(k_ranges);
    a.query_rows = q_rows;
    if (says_longest) {
      a.longest_queries = *std::max_element(c.queries.begin(), c.queries.end());
      a.longest_keys = *std::max_element(c.keys.begin(), c.keys.end());
    }
    a.causal = c.causal;
    a.scale = static_cast<typename P::A>(scale);
    a.q = p.x(q);
    a.k = p.x(k);
    a.v = p.x(v);
    a.ldq = ldq;
    a.ldk = ldk;
    a.ldv = ldv;
    a.ldo = ldo;
    if (c.bias) a.bias = p.wide(bias);
    if (c.windows) a.mask = p.wide(mask);
    a.windows = windows;
    a.area = c.area;
    return a;
  }

 private:
  /// f(head, query row, its number, its first key's row, probabilities), each row that has keys.
  template <class F>
  void each_row(F&& f) {
    for (std::size_t s = 0; s < c.queries.size(); ++s)
      for (Index h = 0; h < c.heads; ++h)
        for (Index i = 0; i < c.queries[s]; ++i) {
          const Index row = q_ranges[2 * s] + i, k0 = k_ranges[2 * s],
                      keys = c.causal ? std::min(i + 1, c.keys[s]) : c.keys[s];
          Doubles p;
          double sum = 0, top = -std::numeric_limits<double>::infinity();
          for (Index j = 0; j < keys; ++j) {
            double score = 0;
            for (Index d = 0; d < c.head_dim; ++d)
              score += at(q, row, ldq, h, d) * at(k, k0 + j, ldk, h, d);
            score *= scale;
            if (c.bias) score += bias[static_cast<std::size_t>((h * c.area + i) * c.area + j)];
            if (c.windows)
              score += mask[static_cast<std::size_t>(
                  (static_cast<Index>(s) % windows * c.area + i) * c.area + j)];
            top = std::max(top, score);
            p.push_back(score);
          }
          for (double& x : p) sum += x = std::exp(x - top);
          for (double& x : p) x /= sum;
          lse[static_cast<std::size_t>(row * c.heads + h)] = top + std::log(sum);
          f(h, row, i, k0, p);
        }
  }
  double& at(Doubles& x, Index row, Index ld, Index h, Index d) const {
    return x[static_cast<std::size_t>(row * ld + h * c.head_dim + d)];
  }
  void forward() {
    out_room.assign(out.size(), 0.0);
    each_row([&](Index h, Index row, Index, Index k0, const Doubles& p) {
      for (Index d = 0; d < c.head_dim; ++d) {
        const auto value = [&](std::size_t j) {
          return at(v, k0 + static_cast<Index>(j), ldv, h, d);
        };
        double o = 0, spread = 0;
        for (std::size_t j = 0; j < p.size(); ++j) o += p[j] * value(j);
        for (std::size_t j = 0; j < p.size(); ++j) spread += p[j] * std::abs(value(j) - o);
        at(out, row, ldo, h, d) = o;
        at(out_room, row, ldo, h, d) = weight_error * spread;
      }
      if (p.empty())
        lse[static_cast<std::size_t>(row * c.heads + h)] = -std::numeric_limits<double>::infinity();
    });
  }
  /// Keys of the segment that begins in a row.
  Index k_count(Index k0) const {
    for (std::size_t s = 0; s < k_ranges.size(); s += 2)
      if (k_ranges[s] == k0 && k_ranges[s + 1] > k0) return k_ranges[s + 1] - k0;
    return 0;
  }
  /// The mean of a column of keys, where all are less than a factor of 2 from it.
  double key_centre(Index h, Index d, Index k0, Index count) {
    double mean = 0, spread = 0;
    for (Index j = 0; j < count; ++j) mean += at(k, k0 + j, ldk, h, d) / static_cast<double>(count);
    for (Index j = 0; j < count; ++j)
      spread = std::max(spread, std::abs(at(k, k0 + j, ldk, h, d) - mean));
    return spread < 0.48 * std::abs(mean) ? mean : 0;
  }
  void backward() {
    dq = halves(q_rows * ldq, 8);
    dk = halves(k_rows * ldk, 9);
    dv = halves(k_rows * ldv, 10);
    dbias = floats(c.bias ? c.heads * c.area * c.area : 0, 11);
    before_q = dq;
    before_k = dk;
    before_v = dv;
    before_bias = dbias;
    const auto clear = [&](Doubles& x, Index ld, const std::vector<std::int32_t>& ranges) {
      for (std::size_t s = 0; s < ranges.size(); s += 2)
        for (Index r = ranges[s]; r < ranges[s + 1]; ++r)
          std::fill_n(x.begin() + r * ld, width, 0.0);
    };
    clear(dq, ldq, q_ranges);
    clear(dk, ldk, k_ranges);
    clear(dv, ldv, k_ranges);
    dq_room.assign(dq.size(), 0.0);
    dk_room.assign(dk.size(), 0.0);
    dv_room.assign(dv.size(), 0.0);
    dbias_room.assign(dbias.size(), 0.0);
    const Doubles lse_before = lse;
    each_row([&](Index h, Index row, Index i, Index k0, const Doubles& p) {
      double delta = 0, off = 0;
      for (Index d = 0; d < c.head_dim; ++d) {
        delta += at(dout, row, ldo, h, d) * at(out, row, ldo, h, d);
        off +=
            at(dout, row, ldo, h, d) * (at(out, row, ldo, h, d) - at(rounded_out, row, ldo, h, d));
      }
      // A backend may take what the keys have in common from each of them; one that rounds weights
      // must, where they lie near to each other.
      Doubles most(static_cast<std::size_t>(c.head_dim), 0.0);
      for (Index d = 0; d < c.head_dim; ++d)
        for (Index j = 0; j < static_cast<Index>(p.size()); ++j)
          most[static_cast<std::size_t>(d)] =
              std::max(most[static_cast<std::size_t>(d)], std::abs(at(k, k0 + j, ldk, h, d)));
      for (std::size_t n = 0; n < p.size(); ++n) {
        const Index j = static_cast<Index>(n);
        double dp = 0;
        for (Index d = 0; d < c.head_dim; ++d)
          dp += at(dout, row, ldo, h, d) * at(v, k0 + j, ldv, h, d);
        const double ds = p[n] * (dp - delta), room = p[n] * std::abs(off),
                     ds_error = weight_error * std::abs(ds);
        for (Index d = 0; d < c.head_dim; ++d) {
          const double kd = at(k, k0 + j, ldk, h, d), qd = at(q, row, ldq, h, d);
          at(dv, k0 + j, ldv, h, d) += p[n] * at(dout, row, ldo, h, d);
          at(dq, row, ldq, h, d) += ds * scale * kd;
          at(dk, k0 + j, ldk, h, d) += ds * scale * qd;
          at(dq_room, row, ldq, h, d) += room * scale * most[static_cast<std::size_t>(d)];
          at(dk_room, k0 + j, ldk, h, d) += (room + ds_error) * scale * std::abs(qd);
          at(dv_room, k0 + j, ldv, h, d) +=
              weight_error * p[n] * std::abs(at(dout, row, ldo, h, d));
          at(dq_room, row, ldq, h, d) +=
              ds_error * scale * std::abs(kd - key_centre(h, d, k0, k_count(k0)));
        }
        if (!c.bias) continue;
        const auto b = static_cast<std::size_t>((h * c.area + i) * c.area + j);
        dbias[b] += ds;
        dbias_room[b] += room;
      }
    });
    lse = lse_before;
  }

 public:
  Doubles before_q, before_k, before_v, before_bias;
};

/// Is every number the wanted one, off by half an ulp where it was rounded, by float arithmetic and
/// by `room` at most, and what was not to be touched the same?
bool close(const Doubles& got, const Doubles& want, const Doubles& room, const Doubles& before,
           bool narrow) {
  double largest = 0;
  for (double w : want) largest = std::max(largest, std::isfinite(w) ? std::abs(w) : 0.0);
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double g = got[i], w = want[i];
    if (w == before[i] ? g == w : w == g) continue;
    const double more = room.empty() ? 0 : 1.01 * room[i],
                 bound = (narrow ? 0.5 * ulp(std::abs(w) + more) : 0.0) + 3e-6 * largest + more;
    if (!(std::abs(g - w) <= bound)) {
      MESSAGE("element " << i << ": expected " << w << ", got " << g);
      return false;
    }
  }
  return true;
}

template <class B>
void check_attention(const Packed& d) {
  INFO(std::string(d.c.name) << " on " << std::string(B::name));
  {
    const Doubles keep = halves(d.q_rows * d.ldo, 5), keep_lse = floats(d.q_rows * d.c.heads, 6);
    Arguments<B, bfloat16> p({Output{keep}, Output::sum(keep_lse)}, false);
    auto a = d.arguments(p);
    a.out = p.y(0);
    a.lse = p.sum(1);
    B::attention(a);
    CHECK((p.intact(0) && p.intact(1)));
    CHECK(close(p.result(0), d.out, d.out_room, keep, true));
    CHECK(close(p.result(1), d.lse, {}, keep_lse, false));
  }
  for (bool with_bias : {false, true}) {
    if (with_bias && !d.c.bias) continue;
    Arguments<B, bfloat16> p(
        {Output{d.before_q}, Output{d.before_k}, Output{d.before_v}, Output::sum(d.before_bias)},
        false);
    auto a = d.arguments(p);
    a.out = const_cast<bfloat16*>(p.x(d.rounded_out));  // inputs here
    a.lse = const_cast<float*>(p.wide(d.lse));
    B::attention_backward(a, AttentionGradients<bfloat16>{p.x(d.dout), p.y(0), p.y(1), p.y(2),
                                                          with_bias ? p.sum(3) : nullptr});
    for (std::size_t i = 0; i < 4; ++i) CHECK(p.intact(i));
    CHECK(close(p.result(0), d.dq, d.dq_room, d.before_q, true));
    CHECK(close(p.result(1), d.dk, d.dk_room, d.before_k, true));
    CHECK(close(p.result(2), d.dv, d.dv_room, d.before_v, true));
    if (with_bias)
      CHECK(close(p.result(3), d.dbias, d.dbias_room, d.before_bias, false));
    else
      CHECK(p.result(3) == d.before_bias);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("bf16: attention, and what lies in no segment stays as it was", B,
                   BF16_BACKENDS) {
  for (const auto& c : attention_cases) check_attention<B>(Packed(c));
}

TEST_CASE_TEMPLATE("bf16: attention with every width of a head, rows in pieces and one by one", B,
                   BF16_BACKENDS) {
  for (Index d : {8, 16, 24, 32, 40, 64, 96, 128, 136, 256})
    for (bool pieces : {true, false})
      for (bool causal : {true, false}) {
        INFO("head_dim " << d << ", causal " << causal << ", pieces " << pieces);
        const bool biased = d == 64;
        check_attention<B>(
            Packed({"", {67, 4}, {67, 9}, 2, d, causal, biased, biased ? 2 : 0, biased ? 67 : 0}, 0,
                   pieces));
      }
}

TEST_CASE_TEMPLATE("bf16: attention in tiles for long segments", B, BF16_BACKENDS) {
  for (bool causal : {true, false})
    for (double shift : {0.0, 8.0}) {
      INFO("causal " << causal << ", shift " << shift);
      check_attention<B>(
          Packed({"long", {0, 211, 130, 7, 65}, {3, 211, 260, 90, 0}, 1, 64, causal, false, 0, 0},
                 shift, true, true));
      check_attention<B>(
          Packed({"biased", {67, 4}, {67, 9}, 2, 40, causal, true, 2, 67}, shift, false, true));
    }
}

TEST_CASE_TEMPLATE("bf16: attention to keys and values with a large common part", B,
                   BF16_BACKENDS) {
  for (const auto& c : attention_cases)
    if (c.queries.size() < 6) check_attention<B>(Packed(c, 8));
}

TEST_CASE_TEMPLATE("bf16: attention to q, k and v in one matrix, onto gradients in one", B,
                   BF16_BACKENDS) {
  // The layout of self_attention; row 0 and the last are in no segment.
  const Index heads = 3, dim = 5, width = heads * dim, rows = 1 + 65 + 17 + 1;
  const std::vector<std::int32_t> ranges{1, 66, 66, 83};
  const auto qkv = halves(rows * 3 * width, 1), dout = halves(rows * width, 2),
             keep = halves(rows * width, 3), keep_gradient = halves(rows * 3 * width, 4);
  check<B>("packed",
           {{keep, 3e-6 + 2 * weight_error, Output::Of::largest},
            Output::sum(floats(rows * heads, 5), 3e-6, Output::Of::largest),
            // delta is made of the output, which bf16 has rounded
            {keep_gradient, 0x1p-8 + weight_error, Output::Of::largest}},
           [&]<class P>(P& p) {
             AttentionArgs<typename P::T> a;
             a.segments = 2;
             a.heads = heads;
             a.head_dim = dim;
             a.q_ranges = a.k_ranges = p.index(ranges);
             a.query_rows = rows;
             a.scale = p.factor(0.4);
             a.q = p.x(qkv);
             a.k = a.q + width;
             a.v = a.k + width;
             a.ldq = a.ldk = a.ldv = 3 * width;
             a.ldo = width;
             a.out = p.y(0);
             a.lse = p.sum(1);
             P::B::attention(a);
             P::B::attention_backward(
                 a, AttentionGradients<typename P::T>{p.x(dout), p.y(2), p.y(2) + width,
                                                      p.y(2) + 2 * width, nullptr});
           });
}

TEST_CASE_TEMPLATE("bf16: what is not finite in attention reaches those that see it, as in float",
                   B, BF16_BACKENDS) {
  const double inf = std::numeric_limits<double>::infinity(),
               nan = std::numeric_limits<double>::quiet_NaN();
  for (double bad : {nan, inf, -inf})
    for (int where = 0; where < 6; ++where)
      for (bool causal : {false, true}) {
        INFO("input " << where << " holds " << bad << ", causal " << causal);
        Packed d({"mask", {40, 2}, {40, 3}, 2, 5, causal, true, 2, 40});
        const auto put = [&](Doubles& x, Index row, Index ld) {
          x[static_cast<std::size_t>(row * ld + 1)] = bad;
        };
        if (where == 0) put(d.q, 21, d.ldq);
        if (where == 1) put(d.k, 21, d.ldk);
        if (where == 2) put(d.v, 21, d.ldv);
        if (where == 3) d.bias[5] = bad;
        // So that no weight of what is seen is 0 in bf16.
        std::replace(d.mask.begin(), d.mask.end(), -100.0, -9.0);
        if (where == 4) std::fill_n(d.mask.begin(), 40, bad);  // query 0 of segment 0
        if (where == 5) put(d.dout, 21, d.ldo);
        using Of = Output::Of;
        // What a bias gets from a row with one key is nothing, but for the order of a sum: too
        // little to move a number of this size.
        check_against<B, B, float>("forward and backward",
                                   {{d.out, 1e-2, Of::largest},
                                    Output::sum(Doubles(d.lse.size(), 7.0), 1e-5, Of::largest),
                                    {d.before_q, 1e-2, Of::largest},
                                    {d.before_k, 1e-2, Of::largest},
                                    {d.before_v, 1e-2, Of::largest},
                                    Output::sum(Doubles(d.dbias.size(), 64.0), 1e-2, Of::largest)},
                                   [&]<class P>(P& p) {
                                     auto a = d.arguments(p);
                                     a.out = p.y(0);
                                     a.lse = p.sum(1);
                                     P::B::attention(a);
                                     P::B::attention_backward(
                                         a, AttentionGradients<typename P::T>{
                                                p.x(d.dout), p.y(2), p.y(3), p.y(4), p.sum(5)});
                                   });
      }
}

#ifndef HYBRIDMED_TEST_CUDA
TEST_CASE("bf16: attention does not depend on the number of threads") {
  using B = CpuBackend;
  const int before = B::threads();
  for (const auto& c : attention_cases) {
    const Packed d(c);
    INFO(std::string(c.name));
    std::vector<Doubles> first;
    for (int threads : {1, 2, 3, 2}) {
      B::set_threads(threads);
      Arguments<B, bfloat16> p({Output{d.out}, Output::sum(d.lse), Output{d.before_q},
                                Output{d.before_k}, Output{d.before_v}, Output::sum(d.before_bias)},
                               false);
      auto a = d.arguments(p);
      a.out = p.y(0);
      a.lse = p.sum(1);
      B::attention(a);
      B::attention_backward(a, AttentionGradients<bfloat16>{p.x(d.dout), p.y(2), p.y(3), p.y(4),
                                                            c.bias ? p.sum(5) : nullptr});
      std::vector<Doubles> now;
      for (std::size_t i = 0; i < 6; ++i) now.push_back(p.result(i));
      if (first.empty()) first = now;
      CHECK(first == now);
    }
  }
  B::set_threads(before);
}
#endif
