// Numbers that are not finite, or very large, on every backend of the host: divergence comes out,
// an offset that all logits share changes nothing, clipping is by the factor that it should be.
// Right values are those of PyTorch, or follow from the definition.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "../support.hpp"
#include "errors.hpp"
#include "hybridmed/autograd/attention.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/autograd/token_alignment.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/optim/adamw.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

#define HOST_BACKENDS \
  On<float, Reference>, On<double, Reference>, On<float, CpuBackend>, On<double, CpuBackend>

namespace {

constexpr double inf = std::numeric_limits<double>::infinity(),
                 nan_ = std::numeric_limits<double>::quiet_NaN();

/// Output and dq of self-attention over 4 rows of one segment, width 2, one head; row i of q, k is
/// filled by q(i), k(i).
template <class T, class B>
struct Attended {
  std::vector<double> out, gradient;
  template <class Q, class K>
  Attended(Q q, K k, double mask = 0) {
    const Index n = 4, d = 2;
    std::vector<T> qkv;
    for (Index i = 0; i < n; ++i)
      for (double x :
           {q(i), q(i), k(i), k(i), 1.0 + static_cast<double>(i), 2.0 - static_cast<double>(i)})
        qkv.push_back(static_cast<T>(x));
    const std::vector<std::int32_t> ranges{0, 4};
    Parameter<T, B> p({n, 3 * d}, init::zeros());
    p.value = Tensor<T, B>::from_host(qkv, {n, 3 * d});
    Tape tape;
    RecordOn on(tape);
    using V = Variable<T, B>;
    AttentionOptions<V> options{
        1, false, nullptr,
        mask != 0 ? Tensor<T, B>::full({1, n, n}, static_cast<T>(mask)) : Tensor<T, B>()};
    const V y = self_attention(use<V>(p), Segments<B>(ranges, n), options);
    for (T x : y.tensor.to_host()) out.push_back(static_cast<double>(x));
    std::vector<T> weights;
    for (Index i = 0; i < n * d; ++i)
      weights.push_back(static_cast<T>(0.3 * static_cast<double>(i) - 1));
    backward(reshape(
        linear(reshape(y, {1, n * d}), V(Tensor<T, B>::from_host(weights, {1, n * d}))), Shape{}));
    for (T x : p.slot.grad.to_host()) gradient.push_back(static_cast<double>(x));
  }
};

bool all_nan(const std::vector<double>& x) {
  return std::all_of(x.begin(), x.end(), [](double v) { return std::isnan(v); });
}
bool any_nan(const std::vector<double>& x) {
  return std::any_of(x.begin(), x.end(), [](double v) { return std::isnan(v); });
}

template <class T, class B>
struct OneWeight {
  Parameter<T, B> w{{4, 3}, init::zeros()};
  template <class F>
  void visit(F&& f) {
    f("w", w);
  }
};

}  // namespace

TEST_CASE_TEMPLATE("attention: NaN and +inf scores come out as NaN, forward and backward", X,
                   HOST_BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  const auto flat = [](double x) { return [x](Index) { return x; }; };
  const auto first = [](double x, double rest) {
    return [=](Index i) { return i == 0 ? x : rest; };
  };
  const double large = std::is_same_v<T, float> ? 1e30 : 1e200;
  const Attended<T, B> finite(flat(1), first(1, 0.5));
  CHECK_FALSE(any_nan(finite.out));
  CHECK_FALSE(any_nan(finite.gradient));
  for (const auto& bad :
       {Attended<T, B>(flat(nan_), flat(1)), Attended<T, B>(flat(1), flat(nan_)),
        Attended<T, B>(flat(1), first(nan_, 0.5)), Attended<T, B>(flat(1), first(inf, 0.5))}) {
    CHECK(all_nan(bad.out));
    CHECK(any_nan(bad.gradient));
  }
  if constexpr (!std::is_same_v<B, Reference> ||
                std::is_same_v<T, double>)  // the reference sums float products in double: no
                                            // overflow there
    for (double sign :
         {1.0, -1.0}) {  // q k^T = -inf everywhere is no empty row either: no key is masked
      const Attended<T, B> overflowed(flat(large), flat(sign * large));
      CHECK(all_nan(overflowed.out));
    }
  const Attended<T, B> one_row(first(nan_, 1), flat(1));  // one diverged query, not the others
  CHECK(std::isnan(one_row.out[0]));
  CHECK_FALSE(std::isnan(one_row.out[2]));
}

TEST_CASE_TEMPLATE("attention: a row whose keys are all masked is empty, and nothing else is", X,
                   HOST_BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  const auto flat = [](Index) { return 1.0; };
  const Attended<T, B> masked(flat, flat, -inf);
  for (double x : masked.out) CHECK(x == 0);
  for (double x : masked.gradient) CHECK(x == 0);
  const Attended<T, B> hundred(flat, flat,
                               -100);  // Swin's mask is finite: it shifts all scores alike here
  const Attended<T, B> plain(flat, flat);
  for (std::size_t i = 0; i < plain.out.size(); ++i)
    CHECK(hundred.out[i] == doctest::Approx(plain.out[i]));
}

TEST_CASE(
    "attention: one large key or value takes no digits from the gradients of rows that do not see "
    "it") {
  const auto run = [](auto zero) {
    using T = typename decltype(zero)::T;
    using B = typename decltype(zero)::B;
    using V = Variable<T, B>;
    const Index n = 5, d = 4;
    Parameter<T, B> p({n, 3 * d}, init::zeros());
    std::vector<T> qkv;
    for (Index i = 0; i < n * 3 * d; ++i) {
      const double x = std::sin(static_cast<double>(3 * i + 1));
      const bool last_key_or_value = i / (3 * d) == n - 1 && i % (3 * d) >= d;
      qkv.push_back(static_cast<T>(static_cast<float>(last_key_or_value ? 1e7 * x : x)));
    }
    p.value = Tensor<T, B>::from_host(qkv, {n, 3 * d});
    const std::vector<std::int32_t> ranges{0, static_cast<std::int32_t>(n)};
    Tape tape;
    RecordOn on(tape);
    const V y = self_attention(use<V>(p), Segments<B>(ranges, n),
                               AttentionOptions<V>{1, true, nullptr, {}});
    std::vector<T> weights;
    for (Index i = 0; i < n * d; ++i)
      weights.push_back(i < (n - 1) * d ? static_cast<T>(0.25 * static_cast<double>(i % 7) - 1)
                                        : T(0));  // nothing asks for the last row
    backward(reshape(
        linear(reshape(y, {1, n * d}), V(Tensor<T, B>::from_host(weights, {1, n * d}))), Shape{}));
    std::vector<double> gradient;
    for (T x : p.slot.grad.to_host()) gradient.push_back(static_cast<double>(x));
    return gradient;
  };
  const auto exact = run(On<double, Reference>{}), quick = run(On<float, CpuBackend>{});
  double largest = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) largest = (std::max)(largest, std::abs(exact[i]));
  for (std::size_t i = 0; i < exact.size(); ++i)
    CHECK(std::abs(quick[i] - exact[i]) <= 1e-5 * largest);
}

TEST_CASE_TEMPLATE("attention: an offset common to all scores changes no gradient", X,
                   HOST_BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  const auto q = [](Index i) { return 1.0 + 0.25 * static_cast<double>(i); };
  const auto k = [](Index i) { return 0.5 * static_cast<double>(i); };
  const Attended<T, B> plain(q, k, 1e-3),
      moved(q, k, 4096);  // exact in float: the scores are multiples of 1/8 before the scale
  for (std::size_t i = 0; i < plain.gradient.size(); ++i)
    CHECK(moved.gradient[i] ==
          doctest::Approx(plain.gradient[i]).epsilon(std::is_same_v<T, float> ? 2e-3 : 1e-9));
}

TEST_CASE_TEMPLATE(
    "cross-entropy and distillation: a common offset changes nothing, -inf logits are excluded "
    "classes",
    X, HOST_BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  using V = Variable<T, B>;
  struct Result {
    double loss;
    std::vector<double> gradient;
  };
  const auto leaf = [](const std::vector<double>& z) {
    Parameter<T, B> p({1, static_cast<Index>(z.size())}, init::zeros());
    p.value = Tensor<T, B>::from_host(std::vector<T>(z.begin(), z.end()),
                                      {1, static_cast<Index>(z.size())});
    return p;
  };
  const auto entropy = [&](const std::vector<double>& z, std::int32_t target, double smoothing) {
    const auto p = leaf(z);
    Tape tape;
    RecordOn on(tape);
    const V loss = cross_entropy(
        use<V>(p), IndexTensor<B>::from_host(std::vector<std::int32_t>{target}, {1}), smoothing);
    backward(loss);
    const auto g = p.slot.grad.to_host();
    return Result{static_cast<double>(loss.tensor.item()), {g.begin(), g.end()}};
  };
  const auto distil = [&](const std::vector<double>& student, const std::vector<double>& teacher) {
    const auto p = leaf(student);
    Tape tape;
    RecordOn on(tape);
    const V loss = distillation(use<V>(p), leaf(teacher).value, 2);
    backward(loss);
    const auto g = p.slot.grad.to_host();
    return Result{static_cast<double>(loss.tensor.item()), {g.begin(), g.end()}};
  };
  const double bound = std::is_same_v<T, float> ? 3e-7 : 1e-14;
  for (double offset : {0.0, 1e3, 1e4, 1e6, 1e7, -1e7}) {
    const Result r = entropy({offset, offset + 1, offset + 2}, 2, 0);
    const double want[] = {0.09003057317038046, 0.24472847105479767, -0.3347590442251782};
    for (int i = 0; i < 3; ++i)
      CHECK(std::abs(r.gradient[static_cast<std::size_t>(i)] - want[i]) <= bound);
    CHECK(r.loss == doctest::Approx(0.4076059644443804).epsilon(1e-6));
    const Result d = distil({offset, offset + 1, offset + 2}, {2, 1, 0}),
                 d0 = distil({0, 1, 2}, {2, 1, 0});
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(std::abs(d.gradient[i] - d0.gradient[i]) <= 2 * bound);
    CHECK(d.loss == doctest::Approx(d0.loss).epsilon(1e-6));
  }
  CHECK(entropy({1, 2, -inf}, 1, 0).loss == doctest::Approx(0.31326168751822286));
  CHECK(entropy({1, 2, -inf}, 2, 0).loss == inf);
  CHECK(entropy({1, 2, -inf}, 1, 0.1).loss == inf);  // smoothing wants a share of every class
  CHECK(std::isnan(entropy({1, nan_, 0}, 0, 0).loss));
  CHECK(distil({1, 2, 3}, {1, 2, -inf}).loss ==
        doctest::Approx(distil({1, 2, 3}, {1, 2, -1e4}).loss));
  CHECK(distil({1, 2, -inf}, {1, 2, -inf}).loss == doctest::Approx(0.0));
  CHECK(distil({1, 2, -inf}, {1, 2, 3}).loss == inf);
  // a saturated row keeps the digits of 1 - p
  CHECK(entropy({-20, 20}, 1, 0).gradient[1] ==
        doctest::Approx(-4.248354255291589e-18).epsilon(1e-5));
}

TEST_CASE_TEMPLATE(
    "AdamW: a loss times a power of ten gives the same clipped step; a norm that is not finite "
    "changes nothing",
    X, HOST_BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  const auto step = [](double factor) {
    OneWeight<T, B> m;
    m.w.value = Tensor<T, B>::full({4, 3}, T(0));
    optim::AdamW<T, B> o(m, {.weight_decay = 0, .clip = 1});
    for (int k = 0; k < 3; ++k) {
      std::vector<T> g;
      for (int i = 0; i < 12; ++i)
        g.push_back(static_cast<T>(factor * (1 + 0.37 * i - 0.2 * k * i)));
      m.w.slot.grad = Tensor<T, B>::from_host(g, {4, 3});
      o.step(1e-3);
    }
    return m.w.value.to_host();
  };
  const auto want = step(10);
  const std::vector<double> powers =
      std::is_same_v<T, float> ? std::vector<double>{1e3, 1e10, 1e18, 1e19, 1e21, 1e30, 1e36}
                               : std::vector<double>{1e3, 1e21, 1e100, 1e150, 1e160, 1e200, 1e300};
  for (double factor : powers) {
    const auto got = step(factor);
    for (std::size_t i = 0; i < want.size(); ++i)
      CHECK(static_cast<double>(got[i]) ==
            doctest::Approx(static_cast<double>(want[i])).epsilon(1e-5));
  }
  for (double bad : {inf, nan_}) {
    const auto got = step(bad);
    for (T x : got) CHECK(x == 0);
  }
}

TEST_CASE("max-pooling passes NaN on, and refuses maps with more places than 32 bits tell apart") {
  const ConvShape s{1, 2, 2, 1, 1, 2, 2, 0};
  for (int at = 0; at < 4; ++at) {
    float x[4] = {1, 2, 3, 4}, y = 0;
    x[at] = std::numeric_limits<float>::quiet_NaN();
    std::int32_t where = -1;
    Reference::max_pool(s, x, &y, &where);
    CHECK(std::isnan(y));
    CHECK(where == at);
  }
  const ConvShape huge{1, 60000, 60000, 1, 1, 1, 50000, 0};
  float y[4];
  std::int32_t where[4];
  CHECK(holds(
      error_of([&] { Reference::max_pool(huge, static_cast<const float*>(nullptr), y, where); }),
      "max_pool"));
  CHECK(holds(
      error_of([&] { CpuBackend::max_pool(huge, static_cast<const float*>(nullptr), y, where); }),
      "32 bits"));
}

TEST_CASE_TEMPLATE("local scores: NaN comes out of every aggregation", X, HOST_BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  const auto offsets =
      Tensor<std::int32_t, Host>::from_host(std::vector<std::int32_t>{0, 2, 4}, {3});
  for (const auto how : {LocalAggregation::mean, LocalAggregation::sum, LocalAggregation::max})
    for (Index bad = 0; bad < 4; ++bad) {
      auto w = Tensor<T, B>::full({4, 3}, T(0.5));
      w.data()[3 * bad] = std::numeric_limits<T>::quiet_NaN();
      auto p = Tensor<T, B>::full({4, 3}, T(0.25));
      const auto z = local_scores(p, 2, w, offsets, LocalScore{4, 5, how}).to_host();
      CHECK(std::isnan(z[static_cast<std::size_t>(bad / 2)]));
    }
}

TEST_CASE_TEMPLATE("token alignment: NaN comes out, forward and backward", X, HOST_BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  using V = Variable<T, B>;
  const auto offsets =
      Tensor<std::int32_t, Host>::from_host(std::vector<std::int32_t>{0, 2, 4}, {3});
  const auto filled = [](Index bad) {
    Parameter<T, B> x({4, 3}, init::zeros());
    for (Index i = 0; i < 12; ++i)
      x.value.data()[i] = static_cast<T>(std::sin(1.0 + static_cast<double>(i)));
    if (bad >= 0) x.value.data()[3 * bad] = std::numeric_limits<T>::quiet_NaN();
    return x;
  };
  for (bool in_words : {false, true})
    for (Index bad = 0; bad < 4; ++bad) {
      const auto p = filled(in_words ? -1 : bad), w = filled(in_words ? bad : -1);
      Tape tape;
      RecordOn on(tape);
      const V loss = token_alignment(use<V>(p), 2, use<V>(w), offsets, 0.1);
      CHECK(std::isnan(loss.tensor.item()));
      backward(loss);
      for (const auto* x : {&p, &w}) {  // one diverged sample, not the other
        const auto g = x->slot.grad.to_host();
        CHECK(std::isnan(g[static_cast<std::size_t>(bad / 2 * 6)]));
        CHECK(std::isfinite(g[static_cast<std::size_t>((1 - bad / 2) * 6)]));
      }
    }
}
