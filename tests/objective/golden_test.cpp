// Golden values of the method (section 11), and how objectives scale, add and behave on empty sets.
#include <doctest/doctest.h>

#include "../support.hpp"
#include "hybridmed/objective/alignment/info_nce.hpp"
#include "hybridmed/objective/alignment/local.hpp"
#include "hybridmed/objective/distillation/logits.hpp"
#include "hybridmed/objective/generation/impression.hpp"

using namespace hybridmed;
using namespace hybridmed::objective;
using namespace hybridmed::test;

namespace {

/// T(shape, phi, a) of section 11, flat.
Values golden(Index n, double phi, double a = 1) {
  Values x;
  for (Index i = 0; i < n; ++i) x.push_back(a * std::sin(0.37 * static_cast<double>(i + 1) + phi));
  return x;
}
/// Half a unit of the last printed digit in double, 1e-4 in float.
template <class T>
double tolerance(int digits) {
  return std::is_same_v<T, double> ? 0.5 * std::pow(10.0, -digits) : 1e-4;
}
constexpr int printed = 10, printed_gradient = 7;

const double clip_scale = std::log(1 / 0.07);
const std::vector<std::int32_t> valid_targets{0, 1, 2, 3, 4, 6},
    target_ids{3, 1, 2, 0, 6, 5};  // rows and classes where mu is 1

/// Everything section 11 feeds to the objectives, as leaves. `samples` and `texts` select who is
/// present.
template <class T, class B>
struct Golden {
  using V = Variable<T, B>;
  Parameter<T, B> u = leaf<T, B>(golden(12, .1), {3, 4}), v = leaf<T, B>(golden(12, .7), {3, 4}),
                  s = leaf<T, B>({clip_scale}, {});
  Parameter<T, B> p = leaf<T, B>(golden(60, 1.3), {15, 4}),
                  w = leaf<T, B>(golden(48, 2.1), {12, 4});
  Parameter<T, B> student = leaf<T, B>(golden(63, .5, 2), {9, 7});
  Tensor<T, B> teacher = tensor<T, B>(golden(63, 1.9, 2), {9, 7});

  void scale(double sigma) { s.value = tensor<T, B>({std::log(sigma)}, {}); }
  /// Rows of absent samples and of masked words or targets are left out, as the model leaves them
  /// out.
  Representations<V> operator()(const std::vector<std::int32_t>& impressions = {0, 1, 2},
                                const std::vector<std::int32_t>& keys = {}) const {
    Representations<V> r;
    r.image = gather_rows(use<V>(u), indices<B>(impressions));
    r.text = gather_rows(use<V>(v), indices<B>(impressions));
    r.log_scale = use<V>(s);
    if (!keys.empty()) r.keys = indices<B>(keys);
    r.regions = gather_rows(use<V>(p), indices<B>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    r.region_images = 2;
    r.words = gather_rows(use<V>(w),
                          indices<B>({0, 1, 2, 3, 4, 5}));  // four words of text 0, two of text 1
    r.word_offsets = indices<Reference>({0, 4, 6});
    r.logits_sum = r.logits_cap = gather_rows(use<V>(student), indices<B>(valid_targets));
    r.target_sum = r.target_cap = indices<B>(target_ids);
    r.summarize_in_caption = indices<B>({0, 1, 2, 3, 4, 5});
    r.teacher = gather_rows(teacher, indices<B>(valid_targets));
    return r;
  }
  void clear() {
    for (Parameter<T, B>* q : {&u, &v, &s, &p, &w, &student}) q->slot.grad = {};
  }
  /// The value of an objective; gradients are left in the leaves.
  template <class O>
  double run(const O& objective, const std::vector<std::int32_t>& impressions = {0, 1, 2},
             const std::vector<std::int32_t>& keys = {}) {
    clear();
    Tape tape;
    RecordOn on(tape);
    const V loss = objective((*this)(impressions, keys));
    backward(loss);
    return static_cast<double>(loss.tensor.item());
  }
};

/// Representations of a batch in which nobody has anything, over leaves that could receive a
/// gradient.
template <class T, class B>
struct Nothing {
  using V = Variable<T, B>;
  Parameter<T, B> wide = leaf<T, B>(golden(12, .1), {3, 4}),
                  logits = leaf<T, B>(golden(21, .2), {3, 7}), s = leaf<T, B>({clip_scale}, {});

  Representations<V> operator()() const {
    Representations<V> r;
    const V none = gather_rows(use<V>(wide), indices<B>({})),
            no_logits = gather_rows(use<V>(logits), indices<B>({}));
    r.image = r.text = r.regions = r.words = none;
    r.log_scale = use<V>(s);
    r.word_offsets = indices<Reference>({0});
    r.logits_sum = r.logits_cap = no_logits;
    r.target_sum = r.target_cap = r.summarize_in_caption = indices<B>({});
    r.teacher = gather_rows(logits.value, indices<B>({}));
    return r;
  }
  template <class O>
  void check(const O& objective) {
    Tape tape;
    RecordOn on(tape);
    const V loss = objective((*this)());
    CHECK(loss.tensor.item() == T(0));
    backward(loss);
    for (const Parameter<T, B>* q : {&wide, &logits, &s}) CHECK(largest(gradient(*q)) == 0);
  }
};

LocalAlignment local(LocalAggregation aggregation, double image, double text) {
  return {{4, 5, aggregation}, 10, image, text};
}

}  // namespace

#define BACKENDS \
  On<double, Reference>, On<float, Reference>, On<double, CpuBackend>, On<float, CpuBackend>

TEST_CASE_TEMPLATE("golden A: global alignment", X, BACKENDS) {
  using T = typename X::T;
  Golden<T, typename X::B> g;
  const double tol = tolerance<T>(printed), slope = tolerance<T>(printed_gradient);
  CHECK(std::abs(g.run(InfoNce{}) - 0.7670901393) <= tol);
  CHECK(std::abs(gradient(g.u)[0] - -0.0701070) <= slope);
  CHECK(std::abs(gradient(g.s)[0] - 0.6534272) <= slope);
  CHECK(std::abs(g.run(InfoNce{}, {0, 1}) - 1.1470758904) <= tol);
  CHECK(largest(rows_of(gradient(g.u), 4, 2, 3)) == 0);  // the absent impression
  CHECK(largest(rows_of(gradient(g.v), 4, 2, 3)) == 0);
  g.scale(10);
  CHECK(std::abs(g.run(InfoNce{.1}) - 1.3273611546) <= tol);
  CHECK(std::abs(g.run(InfoNce{0, true}, {0, 1, 2}, {7, 3, 7}) - 6.9445872105) <= tol);
  CHECK(std::abs(g.run(InfoNce{0, false, .75, .25}) - 0.8012865168) <= tol);
  CHECK(g.run(InfoNce{0, false}, {0, 1, 2}, {7, 3, 7}) ==
        g.run(InfoNce{}));  // keys are used where asked for only
}

TEST_CASE_TEMPLATE("golden C: local alignment", X, BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  Golden<T, B> g;
  const double tol = tolerance<T>(printed);
  const struct {
    LocalAggregation aggregation;
    double image, text;
  } wanted[] = {{LocalAggregation::sum, 5.4840912893, 3.7785153543},
                {LocalAggregation::mean, 3.5301881818, 3.7785153543},
                {LocalAggregation::max, 0.9475285667, 0.7565053762}};
  for (const auto& want : wanted) {
    CAPTURE(static_cast<int>(want.aggregation));
    CHECK(std::abs(g.run(local(want.aggregation, 1, 0)) - want.image) <= tol);
    CHECK(std::abs(g.run(local(want.aggregation, 0, 1)) - want.text) <= tol);
    CHECK(std::abs(g.run(local(want.aggregation, .5, .5)) - (want.image + want.text) / 2) <= tol);
  }
  CHECK(g.run(LocalAlignment{}) ==
        g.run(local(LocalAggregation::mean, .5, .5)));  // the defaults of the method

  const auto r = g();
  const Values z = values(local_scores(r.regions.tensor, 2, r.words.tensor, r.word_offsets,
                                       {4, 5, LocalAggregation::sum})),
               want{56.64985845, 52.69339970, 63.36295148, 52.41373652};
  REQUIRE(z.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(10 * z[i] - want[i]) <= tolerance<T>(8));
}

TEST_CASE_TEMPLATE("golden C: gradients of local alignment", X, BACKENDS) {
  using T = typename X::T;
  Golden<T, typename X::B> g;
  const double slope = tolerance<T>(printed_gradient);
  g.run(local(LocalAggregation::sum, 1, 1));
  const Values dp = gradient(g.p), dw = gradient(g.w);
  CHECK(std::abs(dp[0] - 0.7045283) <= slope);
  CHECK(std::abs(dw[1 * 16 + 0 * 4 + 2] - -2.2533779) <= slope);
  CHECK(dw[1 * 16 + 2 * 4 + 0] == 0);  // masked word
  CHECK(dp[2 * 20] == 0);              // absent sample
}

TEST_CASE_TEMPLATE("golden E: impression generation", X, BACKENDS) {
  using T = typename X::T;
  Golden<T, typename X::B> g;
  const double tol = tolerance<T>(printed), slope = tolerance<T>(printed_gradient);
  CHECK(std::abs(g.run(Summarization{}) - 1.5248992176) <= tol);
  CHECK(std::abs(gradient(g.student)[3] - -0.1344513) <= slope);
  CHECK(std::abs(g.run(Captioning{}) - 1.5248992176) <= tol);
  CHECK(std::abs(gradient(g.student)[3] - -0.1344513) <= slope);
  CHECK(largest(rows_of(gradient(g.student), 7, 5, 6)) == 0);  // a padded target
  CHECK(std::abs(g.run(Summarization{.1}) - 1.6016682179) <= tol);
  CHECK(std::abs(g.run(Captioning{.1}) - 1.6016682179) <= tol);
}

TEST_CASE_TEMPLATE("golden F: distillation", X, BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  using V = Variable<T, B>;
  Golden<T, B> g;
  const double tol = tolerance<T>(printed), slope = tolerance<T>(printed_gradient);
  const std::size_t at = 1 * 21 + 1 * 7 + 6;
  CHECK(std::abs(g.run(LogitDistillation{1}) - 0.6045554117) <= tol);
  CHECK(std::abs(gradient(g.student)[at] - 0.0549670) <= slope);
  CHECK(std::abs(g.run(LogitDistillation{2}) - 0.7153375086) <= tol);
  CHECK(std::abs(gradient(g.student)[at] - 0.0523683) <= slope);

  // The student may have rows that the teacher lacks (samples without findings): they neither count
  // nor learn.
  const auto wider = [&](double temperature) {
    g.clear();
    Tape tape;
    RecordOn on(tape);
    auto r = g();
    r.logits_cap = use<V>(g.student);
    r.same_rows = false;
    r.summarize_in_caption = indices<B>(valid_targets);
    const V loss = LogitDistillation{temperature}(r);
    backward(loss);
    return static_cast<double>(loss.tensor.item());
  };
  CHECK(std::abs(wider(2) - 0.7153375086) <= tol);
  CHECK(std::abs(gradient(g.student)[at] - 0.0523683) <= slope);
  CHECK(largest(rows_of(gradient(g.student), 7, 5, 6)) == 0);
}

TEST_CASE_TEMPLATE("a sum weighs values and gradients", X, BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  using V = Variable<T, B>;
  Golden<T, B> g;
  const double tol = std::is_same_v<T, double> ? 1e-14 : 1e-6;
  const double a = g.run(Captioning{});
  const Values da = gradient(g.student);
  const double b = g.run(LogitDistillation{2});
  const Values db = gradient(g.student);
  const double c = g.run(InfoNce{});
  const Values dc = gradient(g.u);

  const auto check = [&](const auto& objective, double wa, double wb) {
    CHECK(std::abs(g.run(objective) - (wa * a + wb * b)) <= tol * 10);
    Values want(da.size());
    for (std::size_t i = 0; i < want.size(); ++i) want[i] = wa * da[i] + wb * db[i];
    CHECK(difference(gradient(g.student), want) <= tol);
  };
  check(0.5 * Captioning{} + LogitDistillation{2}, .5, 1);
  check(LogitDistillation{2} + 0.5 * Captioning{}, .5, 1);
  check(Captioning{} + LogitDistillation{2}, 1, 1);
  check(0.5 * Captioning{} + 3.0 * LogitDistillation{2}, .5, 3);
  check(2.0 * (0.5 * Captioning{} + LogitDistillation{2}), 1, 2);
  check(0.0 * Captioning{} + LogitDistillation{2}, 0, 1);
  check(0.5 * Captioning{} + 0.0 * LogitDistillation{2}, .5, 0);

  // Terms keep their order and report their own value.
  const auto three = 0.25 * InfoNce{} + (0.5 * Captioning{} + LogitDistillation{2});
  static_assert(decltype(three)::size == 3);
  g.clear();
  Tape tape;
  RecordOn on(tape);
  std::array<NamedLoss<T, B>, 3> losses;
  const V total = three(g(), losses);
  backward(total);
  CHECK(losses[0].name == "cg");
  CHECK(losses[1].name == "cap");
  CHECK(losses[2].name == "dis");
  CHECK(std::abs(static_cast<double>(losses[0].value.item()) - c) <= tol * 10);
  CHECK(std::abs(static_cast<double>(losses[1].value.item()) - a) <= tol * 10);
  CHECK(std::abs(static_cast<double>(losses[2].value.item()) - b) <= tol * 10);
  CHECK(std::abs(static_cast<double>(total.tensor.item()) - (.25 * c + .5 * a + b)) <= tol * 10);
  Values want = dc;
  for (double& x : want) x *= .25;
  CHECK(difference(gradient(g.u), want) <= tol);
}

TEST_CASE_TEMPLATE(
    "a term of weight 0 is left out, one that is observed is reported, and neither sends a "
    "gradient",
    X, BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  using V = Variable<T, B>;
  Golden<T, B> g;
  const double a = g.run(InfoNce{}), b = g.run(Captioning{});
  for (int first = 0; first < 2; ++first) {
    g.clear();
    Tape tape;
    RecordOn on(tape);
    std::array<NamedLoss<T, B>, 2> losses;
    const V total = first ? (0.0 * InfoNce{} + Captioning{})(g(), losses) : V();
    std::array<NamedLoss<T, B>, 2> swapped;
    const V other = first ? V() : (Captioning{} + 0.0 * InfoNce{})(g(), swapped);
    backward(first ? total : other);
    const auto& cg = first ? losses[0] : swapped[1];
    CHECK(cg.name == "cg");
    CHECK(std::isnan(static_cast<double>(cg.value.item())));
    CHECK(std::abs(static_cast<double>((first ? total : other).tensor.item()) - b) <= 1e-12);
    CHECK_FALSE(g.u.slot.grad.defined());
    CHECK_FALSE(g.v.slot.grad.defined());
    CHECK_FALSE(g.s.slot.grad.defined());
    CHECK(largest(gradient(g.student)) > 0);
  }
  g.clear();
  Tape tape;
  RecordOn on(tape);
  std::array<NamedLoss<T, B>, 2> losses;
  const auto sum = observe(InfoNce{}) + Captioning{};
  CHECK(sum.active_needs() == (InfoNce::needs | Captioning::needs));
  CHECK((0.0 * InfoNce{} + Captioning{}).active_needs() == Captioning::needs);
  const V total = sum(g(), losses);
  backward(total);
  CHECK(static_cast<double>(losses[0].value.item()) == a);
  CHECK(std::abs(static_cast<double>(total.tensor.item()) - b) <= 1e-12);
  CHECK_FALSE(g.u.slot.grad.defined());
  CHECK_THROWS_AS(g.run(0.0 * InfoNce{} + 0.0 * Captioning{}), Error);  // nothing is left
}

TEST_CASE("the needs of a sum are those of its terms together") {
  const auto sum = 0.5 * InfoNce{} + Summarization{};
  static_assert(decltype(sum)::needs == (image_global | text_global | summarization_logits));
  static_assert(InfoNce::needs == (image_global | text_global) &&
                LocalAlignment::needs == (image_tokens | findings_tokens));
  static_assert(Summarization::needs == summarization_logits &&
                Captioning::needs == captioning_logits);
  static_assert(LogitDistillation::needs == (captioning_logits | teacher_logits));
  const auto all =
      InfoNce{} + 1.0 * LocalAlignment{} + Summarization{} + Captioning{} + LogitDistillation{};
  static_assert(decltype(all)::needs == 127 && decltype(all)::size == 5);
  CHECK(sum.needs == (InfoNce::needs | Summarization::needs));
  CHECK(std::get<0>(all.terms).weight == 1);
}

TEST_CASE_TEMPLATE("an empty set gives exactly 0 and no gradient", X, BACKENDS) {
  Nothing<typename X::T, typename X::B> nothing;
  nothing.check(InfoNce{});
  nothing.check(InfoNce{.1, true});
  for (LocalAggregation a : {LocalAggregation::mean, LocalAggregation::sum, LocalAggregation::max})
    nothing.check(local(a, .5, .5));
  nothing.check(Summarization{});
  nothing.check(Summarization{.1});
  nothing.check(Captioning{.1});
  nothing.check(LogitDistillation{2});
  nothing.check(0.5 * InfoNce{} + LocalAlignment{} + Summarization{} + Captioning{} +
                LogitDistillation{});
}

TEST_CASE_TEMPLATE("one pair has nothing to contrast", X, BACKENDS) {
  Golden<typename X::T, typename X::B> g;
  for (const InfoNce& objective : {InfoNce{}, InfoNce{.1}, InfoNce{0, false, .75, .25}}) {
    CHECK(g.run(objective, {1}) == 0);
    CHECK(largest(gradient(g.u)) == 0);
    CHECK(largest(gradient(g.v)) == 0);
    CHECK(gradient(g.s)[0] == 0);
  }
  CHECK(g.run(InfoNce{0, true}, {1}, {5}) == 0);
}
