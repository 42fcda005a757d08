// Attention on CUDA against the reference backend: the kernels over the cases that host backends
// are tested with, values that are not finite, and the operations with gradients.
#include <numeric>

#include "backend/attention_shapes.hpp"
#include "conformance.hpp"
#include "errors.hpp"
#include "hybridmed/autograd/attention.hpp"
#include "hybridmed/autograd/elementwise.hpp"
#include "hybridmed/autograd/linear.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendAttention<Cuda, float> && BackendAttention<Cuda, double>);

constexpr double inf = std::numeric_limits<double>::infinity(),
                 nan_ = std::numeric_limits<double>::quiet_NaN();

/// Inputs of one case. Unused rows lie between segments and unused columns beside the heads; they
/// hold NaN, and no kernel may read or write them.
struct Data {
  AttentionCase c;
  Index width, q_rows, k_rows, ldq, ldk, ldv, ldo;
  std::vector<std::int32_t> ranges;  // of queries, then of keys
  Values q, k, v, dout, bias, mask;
  bool longest_said = true;

  /// gap: unused rows around segments; pad: unused columns, or 0: then rows may be read in pieces
  explicit Data(const AttentionCase& c_, bool packed = false) : c(c_), width(c.heads * c.head_dim) {
    ldq = width + (packed ? 0 : 3);
    ldk = packed ? width : 2 * width + 1;
    ldv = width + (packed ? 0 : 2);
    ldo = width + (packed ? 0 : 5);
    const Index gap = packed ? 0 : 1;
    std::vector<std::int32_t> k_ranges;
    q_rows = place(c.queries, gap, ranges);
    k_rows = place(c.keys, gap, k_ranges);
    q = rows(q_rows, ldq, ranges, 1);
    dout = rows(q_rows, ldo, ranges, 4);
    k = rows(k_rows, ldk, k_ranges, 2);
    v = rows(k_rows, ldv, k_ranges, 3);
    ranges.insert(ranges.end(), k_ranges.begin(), k_ranges.end());
    if (c.bias) bias = normal(c.heads * c.area * c.area, 5);
    if (c.windows) {
      // Some pairs are shut out, as between the parts of a shifted window, and one row as a whole.
      mask.assign(static_cast<std::size_t>(c.windows * c.area * c.area), 0);
      for (std::size_t i = 0; i < mask.size(); ++i)
        if (i % 3 == 1) mask[i] = -100;
      std::fill_n(mask.begin() + c.area, c.area, -100);
    }
  }

  template <class T, class X>
  AttentionArgs<T> arguments(X& x, const std::int32_t* at) const {
    AttentionArgs<T> a;
    a.segments = static_cast<Index>(c.queries.size());
    a.heads = c.heads;
    a.head_dim = c.head_dim;
    a.q_ranges = at;
    a.k_ranges = at + 2 * a.segments;
    a.query_rows = q_rows;
    if (longest_said) {
      for (Index n : c.queries) a.longest_queries = std::max(a.longest_queries, n);
      for (Index n : c.keys) a.longest_keys = std::max(a.longest_keys, n);
    }
    a.causal = c.causal;
    a.scale = static_cast<T>(1 / std::sqrt(static_cast<double>(c.head_dim)));
    a.q = x[0].data();
    a.k = x[1].data();
    a.v = x[2].data();
    a.ldq = ldq;
    a.ldk = ldk;
    a.ldv = ldv;
    a.ldo = ldo;
    if (c.bias) a.bias = x[4].data();
    if (c.windows) a.mask = x[5].data();
    a.windows = std::max<Index>(c.windows, 1);
    a.area = c.area;
    return a;
  }

 private:
  static Index place(const std::vector<Index>& lengths, Index gap, std::vector<std::int32_t>& out) {
    Index at = gap;
    for (Index n : lengths) {
      out.push_back(static_cast<std::int32_t>(at));
      out.push_back(static_cast<std::int32_t>(at += n));
      at += gap;
    }
    return at + gap;
  }
  Values rows(Index count, Index ld, const std::vector<std::int32_t>& segments,
              std::uint64_t seed) const {
    const Values x = normal(count * ld, seed);
    Values y = garbage(count * ld);
    for (std::size_t s = 0; s + 1 < segments.size(); s += 2)
      for (Index r = segments[s]; r < segments[s + 1]; ++r)
        std::copy_n(x.begin() + r * ld, width, y.begin() + r * ld);
    return y;
  }
};

struct Attended {
  Values out, lse, dq, dk, dv, dbias;
  std::vector<const Values*> all() const { return {&out, &lse, &dq, &dk, &dv, &dbias}; }
};

/// Forward and backward. Outputs begin as `before`, the gradient of the bias as ones.
template <class T, class B>
Attended attend(const Data& d, double before, bool with_bias) {
  std::vector<Tensor<T, B>> x;
  for (const Values* in : {&d.q, &d.k, &d.v, &d.dout, &d.bias, &d.mask})
    x.push_back(tensor<T, B>(*in, {static_cast<Index>(in->size())}));
  const IndexTensor<B> ranges = indices<B>(d.ranges);
  const auto held = [&](Index n) { return Tensor<T, B>::full({n}, static_cast<T>(before)); };
  auto out = held(d.q_rows * d.ldo), lse = held(d.q_rows * d.c.heads), dq = held(d.q_rows * d.ldq),
       dk = held(d.k_rows * d.ldk), dv = held(d.k_rows * d.ldv),
       dbias = Tensor<T, B>::full({d.c.heads * d.c.area * d.c.area}, T(1));
  AttentionArgs<T> a = d.arguments<T>(x, ranges.data());
  a.out = out.data();
  a.lse = lse.data();
  B::attention(a);
  B::attention_backward(a, AttentionGradients<T>{x[3].data(), dq.data(), dk.data(), dv.data(),
                                                 with_bias ? dbias.data() : nullptr});
  return {values(out), values(lse), values(dq), values(dk), values(dv), values(dbias)};
}

/// The same numbers, NaN where the other has NaN, infinities alike.
void check_alike(const std::string& name, const Attended& got, const Attended& want,
                 double tolerance) {
  for (std::size_t k = 0; k < want.all().size(); ++k) {
    const Values &x = *got.all()[k], &y = *want.all()[k];
    REQUIRE(x.size() == y.size());
    double size = 1, worst = 0;
    for (double n : y)
      if (std::isfinite(n)) size = std::max(size, std::abs(n));
    std::size_t unlike = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (std::isfinite(x[i]) && std::isfinite(y[i]))
        worst = std::max(worst, std::abs(x[i] - y[i]));
      else if (!(x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))))
        ++unlike;
    }
    CAPTURE(name);
    CAPTURE(k);
    CHECK(worst <= tolerance * size);
    CHECK(unlike == 0);
  }
}

template <class T>
void conform(const std::string& name, const Data& d) {
  for (bool with_bias : {false, true}) {
    if (with_bias && !d.c.bias) continue;
    check_alike(name, attend<T, Cuda>(d, 7, with_bias), attend<T, Reference>(d, 7, with_bias),
                tolerance<T>);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("attention: every case of the host backends", T, float, double) {
  for (const AttentionCase& c : attention_cases) conform<T>(c.name, Data(c));
}

TEST_CASE_TEMPLATE("attention: every width of a head, rows in pieces and element by element", T,
                   float, double) {
  for (Index d : {1, 8, 16, 24, 32, 48, 64, 80, 128, 256})
    for (bool packed : {true, false})
      for (bool causal : {true, false})
        conform<T>(
            "head_dim " + std::to_string(d),
            Data({"", {35, 4}, {35, 9}, 2, d, causal, d == 64, d == 64 ? 2 : 0, d == 64 ? 35 : 0},
                 packed));
}

TEST_CASE_TEMPLATE("attention: bias gradients where many heads leave several segments to a group",
                   T, float, double) {
  std::vector<Index> lengths = repeat(1, 14);  // and two of several tiles, which share a group
  lengths.insert(lengths.end(), {66, 67});
  const Data d({"", lengths, lengths, 74, 4, true, true, 0, 67}, true);
  check_alike("groups", attend<T, Cuda>(d, 7, true), attend<T, Reference>(d, 7, true),
              tolerance<T>);
}

TEST_CASE_TEMPLATE("attention: what is said of the longest segment changes no bit", T, float,
                   double) {
  Data d({"", {150, 7}, {150, 90}, 1, 8, false, true, 0, 150});
  const Attended said = attend<T, Cuda>(d, 0, true);
  d.longest_said = false;
  const Attended not_said = attend<T, Cuda>(d, 0, true);
  for (std::size_t k = 0; k < said.all().size(); ++k)
    CHECK(difference(*said.all()[k], *not_said.all()[k]) == 0);
}

TEST_CASE_TEMPLATE("attention: masks of minus infinity, of pairs and of whole rows", T, float,
                   double) {
  for (bool causal : {false, true})
    for (bool bias : {false, true}) {
      Data d({"", {9, 5, 9}, {9, 9, 0}, 2, 3, causal, bias, 3, 9});
      for (double& x : d.mask)
        if (x != 0) x = -inf;
      conform<T>("mask of minus infinity", d);
    }
}

TEST_CASE_TEMPLATE("attention: what is not finite reaches those that see it, and no others", T,
                   float, double) {
  for (double bad : {nan_, inf, -inf})
    for (int where = 0; where < 6; ++where)
      for (bool causal : {false, true}) {
        Data d({"", {70, 3}, {70, 4}, 2, 5, causal, true, 2, 70});
        Values* in[] = {&d.q, &d.k, &d.v, &d.dout, &d.bias, &d.mask};
        const Index ld[] = {d.ldq, d.ldk, d.ldv, d.ldo, 70, 70}, row = where < 4 ? 41 : 40;
        if (where < 5)
          std::replace(d.mask.begin(), d.mask.end(), -100.0, -9.0);  // above 0 in float
        (*in[where])[static_cast<std::size_t>(row * ld[where] + 2)] = bad;
        conform<T>("input " + std::to_string(where) + " holds " + std::to_string(bad), d);
      }
}

TEST_CASE("attention: offsets that scores, keys or values share cost no digits of a gradient") {
  // Every number has few bits, so that inputs are the same in both precisions.
  const auto rounded = [](Values& x, double unit) {
    for (double& y : x) y = unit * std::round(y / unit);
  };
  const auto error = [](const Data& d) {
    const Attended got = attend<float, Cuda>(d, 0, true),
                   want = attend<double, Reference>(d, 0, true);
    double worst = 0;
    for (std::size_t k = 2; k < want.all().size(); ++k)
      worst = std::max(worst, difference(*got.all()[k], *want.all()[k]) / largest(*want.all()[k]));
    return worst;
  };
  for (bool causal : {false, true}) {
    Data scores({"", {70, 9}, {70, 9}, 2, 16, causal, true, 1, 70}, true);
    rounded(scores.q, 0.25);
    rounded(scores.k, 1);
    rounded(scores.bias, 0.25);
    scores.mask.assign(scores.mask.size(), 65536);
    CHECK(error(scores) <= 3e-6);

    Data keys({"", {70, 9}, {70, 9}, 2, 16, causal, true, 0, 70}, true), values = keys;
    rounded(keys.k, 0x1p-10);
    for (std::size_t i = 0; i < keys.k.size(); i += 16) {  // the queries do not look there
      keys.k[i] += 4096;
      keys.q[i] = 0;
    }
    CHECK(error(keys) <= 3e-6);
    rounded(values.v, 0x1p-10);
    for (double& x : values.v) x += 256;
    CHECK(error(values) <= 3e-4);  // as the output that is read again, rounded to 2^-16
  }
}

TEST_CASE("attention: one large key or value takes no digits from rows that do not see it") {
  Data d({"", {70}, {70}, 2, 16, true, false, 0, 0}, true);
  for (Values* x : {&d.k, &d.v})
    for (std::size_t i = x->size() - 32; i < x->size(); ++i) (*x)[i] = 0x1p23 * std::round((*x)[i]);
  std::fill(d.dout.end() - 32, d.dout.end(), 0.0);  // nothing asks for the last row
  const Attended got = attend<float, Cuda>(d, 0, false),
                 want = attend<double, Reference>(d, 0, false);
  for (const auto& [x, y] :
       {std::pair{&got.dq, &want.dq}, std::pair{&got.dk, &want.dk}, std::pair{&got.dv, &want.dv}})
    CHECK(difference(*x, *y) <= 3e-6 * largest(*y));
}

TEST_CASE("attention: heads of more than 256 columns and an unsaid number of rows are refused") {
  AttentionArgs<float> a;
  a.segments = a.heads = 1;
  a.head_dim = 257;
  CHECK(holds(error_of([&] { Cuda::attention(a); }),
              "[hybridmed.cuda] attention: a head has 257 columns, more than 256"));
  a.head_dim = 8;
  CHECK(holds(error_of([&] { Cuda::attention_backward(a, AttentionGradients<float>{}); }),
              "[hybridmed.cuda] attention_backward: AttentionArgs::query_rows is not set"));
}
