// Golden values of the method (section 11), and how objectives scale, add and behave on empty sets.
#include <doctest/doctest.h>

#include "../support.hpp"
#include "hybridmed/autograd/token_alignment.hpp"
#include "hybridmed/objective/alignment/info_nce.hpp"
#include "hybridmed/objective/alignment/local.hpp"
#include "hybridmed/objective/alignment/prototype.hpp"
#include "hybridmed/objective/alignment/sigmoid.hpp"
#include "hybridmed/objective/alignment/token.hpp"
#include "hybridmed/objective/distillation/logits.hpp"
#include "hybridmed/objective/generation/impression.hpp"

using namespace hybridmed;
using namespace hybridmed::objective;
using namespace hybridmed::representation;
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

template <class V>
using All = Representations<V, std::remove_cvref_t<decltype(everything)>>;

/// The value of an objective, with parameters of its own that `log_scale` replaces where they are
/// so called; their gradients go to `slope`.
template <Value V, class O>
V loss_of(const O& objective, const All<V>& r, const tensor_of<V>& log_scale,
          Parameter<scalar_of<V>, backend_of<V>>* slope,
          Losses<scalar_of<V>, backend_of<V>>& losses) {
  using T = scalar_of<V>;
  using B = backend_of<V>;
  const auto sum = 1.0 * objective;
  States<T, B, std::remove_cvref_t<decltype(sum)>> states(sum);
  nn::for_each_parameter(states, [&](const std::string& name, Parameter<T, B>& p) {
    if (name == "log_scale") p.value = log_scale;
  });
  const V loss = sum(r, states, losses);
  backward(loss);
  nn::for_each_parameter(states, [&](const std::string& name, Parameter<T, B>& p) {
    if (name == "log_scale" && slope) slope->slot.grad = p.slot.grad;
  });
  return loss;
}

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
  All<V> operator()(const std::vector<std::int32_t>& impressions = {0, 1, 2},
                    const std::vector<std::int32_t>& keys = {}) const {
    All<V> r;
    const auto present = indices<B>(impressions);
    const V image = gather_rows(use<V>(u), present), text = gather_rows(use<V>(v), present);
    r.template set<ImageGlobal>({image, image, present});
    r.template set<ImpressionGlobal>(
        {text, text, present, keys.empty() ? IndexTensor<B>() : indices<B>(keys)});
    r.template set<ImageTokens>({gather_rows(use<V>(p), indices<B>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9})),
                                 2, indices<B>({0, 1})});
    // Four words of text 0, two of text 1.
    r.template set<FindingsTokens>({gather_rows(use<V>(w), indices<B>({0, 1, 2, 3, 4, 5})),
                                    indices<Host>({0, 4, 6}), indices<B>({0, 1})});
    const V logits = gather_rows(use<V>(student), indices<B>(valid_targets));
    const auto target = indices<B>(target_ids), of = indices<B>({0, 0, 0, 1, 1, 2});
    r.template set<SummarizationLogits>({logits, target, of});
    r.template set<CaptioningLogits>({logits, target, of, indices<B>({0, 1, 2, 3, 4, 5}), true});
    r.template set<TeacherLogits>({gather_rows(teacher, indices<B>(valid_targets))});
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
    Losses<T, B> losses;
    const V loss = loss_of<V>(objective, (*this)(impressions, keys), s.value, &s, losses);
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

  All<V> operator()() const {
    All<V> r;
    const V none = gather_rows(use<V>(wide), indices<B>({})),
            no_logits = gather_rows(use<V>(logits), indices<B>({}));
    const auto nobody = indices<B>({});
    r.template set<ImageGlobal>({none, none, nobody});
    r.template set<ImpressionGlobal>({none, none, nobody, {}});
    r.template set<ImageTokens>({none, 0, nobody});
    r.template set<FindingsTokens>({none, indices<Host>({0}), nobody});
    r.template set<SummarizationLogits>({no_logits, nobody, nobody});
    r.template set<CaptioningLogits>({no_logits, nobody, nobody, nobody, true});
    r.template set<TeacherLogits>({gather_rows(logits.value, nobody)});
    return r;
  }
  template <class O>
  void check(const O& objective) {
    Tape tape;
    RecordOn on(tape);
    Losses<T, B> losses;
    const V loss = loss_of<V>(objective, (*this)(), s.value, &s, losses);
    CHECK(loss.tensor.item() == T(0));
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
  const auto& words = get<FindingsTokens>(r);
  const Values z = values(local_scores(get<ImageTokens>(r).regions.tensor, 2, words.words.tensor,
                                       words.offsets, {4, 5, LocalAggregation::sum})),
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

TEST_CASE_TEMPLATE("golden D: token-wise contrast", X, BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  using V = Variable<T, B>;
  Golden<T, B> g;
  const double tol = tolerance<T>(printed);
  const auto run = [&](const Tensor<T, B>& word_weights, const Tensor<T, B>& region_weights) {
    g.clear();
    Tape tape;
    RecordOn on(tape);
    const auto r = g();
    const auto& image = get<ImageTokens>(r);
    const auto& findings = get<FindingsTokens>(r);
    const V loss = token_alignment(image.regions, image.images, findings.words, findings.offsets,
                                   .1, word_weights, region_weights);
    backward(loss);
    return static_cast<double>(loss.tensor.item());
  };
  CHECK(std::abs(run({}, {}) - 1.9670659867) <= tol);
  CHECK(std::abs(g.run(TokenAlignment{.1}) - 1.9670659867) <= tol);
  // Section 11 prints the difference quotient, -0.0511513: the slope lies on the edge of rounding.
  const double at = gradient(g.p)[0 * 20 + 1 * 4 + 2];
  CHECK(std::abs(at - -0.051151350007133) <= tolerance<T>(12));
  CHECK(std::abs(at - -0.0511513) <= tolerance<T>(printed_gradient) + 1e-10);
  CHECK(largest(rows_of(gradient(g.p), 4, 10, 15)) == 0);  // absent sample
  const Values even = gradient(g.p);
  CHECK(std::abs(run(tensor<T, B>({1, 2, 3, 4, 1, 2}, {6}),
                     tensor<T, B>({1, 2, 3, 4, 5, 1, 2, 3, 4, 5}, {10})) -
                 1.8147595606) <= tol);
  // Equal weights are none.
  CHECK(std::abs(run(Tensor<T, B>::full({6}, 3), Tensor<T, B>::full({10}, T(0.5))) -
                 1.9670659867) <= tol);
  CHECK(difference(gradient(g.p), even) <= (std::is_same_v<T, double> ? 1e-14 : 1e-6));
}

TEST_CASE_TEMPLATE("golden I: prototypes by swapped assignment", X, BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  // With the identity as prototypes the scores are the unit vectors themselves.
  const auto image = normalize_rows(tensor<T, B>(golden(12, .1), {3, 4})),
             text = normalize_rows(tensor<T, B>(golden(12, .7), {3, 4}));
  const double loss =
      0.5 * (static_cast<double>(soft_cross_entropy(text, sinkhorn(image, .05, 3), .2).item()) +
             static_cast<double>(soft_cross_entropy(image, sinkhorn(text, .05, 3), .2).item()));
  CHECK(std::abs(loss - 1.4220344497) <= tolerance<T>(printed));

  // The same by the objective that owns the prototypes.
  Golden<T, B> g;
  const auto sum = 1.0 * PrototypeAlignment{.prototypes = 4, .width = 4};
  States<T, B, std::remove_cvref_t<decltype(sum)>> states(sum);
  auto& prototypes = std::get<0>(states.each).prototypes;
  prototypes.value = tensor<T, B>({1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, {4, 4});
  Losses<T, B> losses;
  using V = Tensor<T, B>;
  Representations<V, decltype(Needs<ImageGlobal, ImpressionGlobal>{})> r;
  r.template set<ImageGlobal>({g.u.value, g.u.value, indices<B>({0, 1, 2})});
  r.template set<ImpressionGlobal>({g.v.value, g.v.value, indices<B>({0, 1, 2}), {}});
  CHECK(std::abs(static_cast<double>(sum(r, states, losses).item()) - 1.4220344497) <=
        tolerance<T>(printed));
  prototypes.value = tensor<T, B>(golden(16, .4, 3), {4, 4});
  sum.constrain(states);
  const Values rows = values(prototypes.value);
  for (std::size_t k = 0; k < 4; ++k) {
    double square = 0;
    for (std::size_t i = 0; i < 4; ++i) square += rows[4 * k + i] * rows[4 * k + i];
    CHECK(std::abs(square - 1) <= (std::is_same_v<T, double> ? 1e-14 : 1e-6));
  }
  for (const Index epoch : {0, 1, 0}) {  // they wait an epoch
    sum.begin_epoch(states, epoch);
    Tape tape;
    RecordOn on(tape);
    Representations<Variable<T, B>, decltype(Needs<ImageGlobal, ImpressionGlobal>{})> recorded;
    const Variable<T, B> u = use<Variable<T, B>>(g.u), v = use<Variable<T, B>>(g.v);
    recorded.template set<ImageGlobal>({u, u, indices<B>({0, 1, 2})});
    recorded.template set<ImpressionGlobal>({v, v, indices<B>({0, 1, 2}), {}});
    backward(sum(recorded, states, losses));
    CHECK(prototypes.slot.grad.defined() == (epoch > 0));
    CHECK(prototypes.trainable);
    prototypes.slot.grad = {};
  }
}

TEST_CASE_TEMPLATE("golden B: pairs as yes or no", X, BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  Golden<T, B> g;
  g.scale(10);
  CHECK(std::abs(g.run(SigmoidContrast{}) - 2.1312050984) <=
        (std::is_same_v<T, double> ? tolerance<T>(printed) : 1e-5));
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
    auto caption = get<CaptioningLogits>(r);
    caption.logits = use<V>(g.student);
    caption.all_with_findings = false;
    caption.with_findings = indices<B>(valid_targets);
    r.template set<CaptioningLogits>(caption);
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
  Losses<T, B> losses;
  const V total = loss_of<V>(three, g(), g.s.value, &g.s, losses);
  REQUIRE(losses.size() == 3);
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
    Losses<T, B> losses;
    const V total = first
                        ? loss_of<V>(0.0 * InfoNce{} + Captioning{}, g(), g.s.value, &g.s, losses)
                        : loss_of<V>(Captioning{} + 0.0 * InfoNce{}, g(), g.s.value, &g.s, losses);
    const auto& cg = losses[first ? 0 : 1];
    CHECK(cg.name == "cg");
    CHECK(std::isnan(static_cast<double>(cg.value.item())));
    CHECK(std::abs(static_cast<double>(total.tensor.item()) - b) <= 1e-12);
    CHECK_FALSE(g.u.slot.grad.defined());
    CHECK_FALSE(g.v.slot.grad.defined());
    CHECK_FALSE(g.s.slot.grad.defined());
    CHECK(largest(gradient(g.student)) > 0);
  }
  g.clear();
  Tape tape;
  RecordOn on(tape);
  Losses<T, B> losses;
  const auto sum = observe(InfoNce{}) + Captioning{};
  CHECK((sum.template reads<ImageGlobal>() && sum.template reads<CaptioningLogits>()));
  const auto left_out = 0.0 * InfoNce{} + Captioning{};
  CHECK_FALSE(left_out.template reads<ImageGlobal>());
  CHECK(left_out.template reads<CaptioningLogits>());
  const auto wanted = left_out.template wanted<V>();
  CHECK_FALSE(wanted.template wants<ImpressionGlobal>());
  CHECK(wanted.template wants<CaptioningLogits>());
  const V total = loss_of<V>(sum, g(), g.s.value, &g.s, losses);
  CHECK(static_cast<double>(losses[0].value.item()) == a);
  CHECK(std::abs(static_cast<double>(total.tensor.item()) - b) <= 1e-12);
  CHECK_FALSE(g.u.slot.grad.defined());
  CHECK_THROWS_AS(g.run(0.0 * InfoNce{} + 0.0 * Captioning{}), Error);  // nothing is left
}

TEST_CASE("the needs of a sum are those of its terms together") {
  const auto sum = 0.5 * InfoNce{} + Summarization{};
  const auto same = []<class... A, class... C>(Needs<A...> a, Needs<C...> c) {
    return within(a, c) && within(c, a);
  };
  CHECK(same(sum.needs, Needs<ImageGlobal, ImpressionGlobal, SummarizationLogits>{}));
  CHECK(same(InfoNce::needs, Needs<ImageGlobal, ImpressionGlobal>{}));
  CHECK(same(LocalAlignment::needs, Needs<ImageTokens, FindingsTokens>{}));
  CHECK(same(Summarization::needs, Needs<SummarizationLogits>{}));
  CHECK(same(Captioning::needs, Needs<CaptioningLogits>{}));
  CHECK(same(LogitDistillation::needs, Needs<CaptioningLogits, TeacherLogits>{}));
  const auto all =
      InfoNce{} + 1.0 * LocalAlignment{} + Summarization{} + Captioning{} + LogitDistillation{};
  static_assert(decltype(all)::size == 5);
  CHECK(same(all.needs, everything));
  static_assert(std::is_same_v<decltype(InfoNce::needs | InfoNce::needs),
                               Needs<ImageGlobal, ImpressionGlobal>>);
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
