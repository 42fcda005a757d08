// Every alignment and distillation objective on CUDA has the value and the gradients that it has on
// the reference backend.
#include "conformance.hpp"
#include "hybridmed/objective/alignment/info_nce.hpp"
#include "hybridmed/objective/alignment/local.hpp"
#include "hybridmed/objective/alignment/prototype.hpp"
#include "hybridmed/objective/alignment/sigmoid.hpp"
#include "hybridmed/objective/alignment/token.hpp"
#include "hybridmed/objective/distillation/logits.hpp"

using namespace hybridmed;
using namespace hybridmed::objective;
using namespace hybridmed::representation;
using namespace hybridmed::test;

static_assert(BackendObjectives<Cuda, float> && BackendObjectives<Cuda, double>);

namespace {

constexpr Index samples = 5, width = 8, regions = 6, classes = 13, prototypes = 10;
const std::vector<std::int32_t> text_ends{0, 3, 4, 11, 15, 17}, everyone{0, 1, 2, 3, 4};

/// The value of an objective, the gradients of all that it reads, and those of its own parameters.
template <class B, class O>
Values run(const O& objective, bool is_empty) {
  using V = Variable<double, B>;
  const Index words = text_ends.back(), targets = 9;
  const auto u = leaf<double, B>(normal(samples * width, 1), {samples, width}),
             v = leaf<double, B>(normal(samples * width, 2), {samples, width}),
             p = leaf<double, B>(normal(samples * regions * width, 3, 0.4),
                                 {samples * regions, width}),
             w = leaf<double, B>(normal(words * width, 4, 0.4), {words, width}),
             logits = leaf<double, B>(normal(targets * classes, 5, 2), {targets, classes}),
             teacher = leaf<double, B>(normal(targets * classes, 6, 2), {targets, classes});
  const auto sum = 1.0 * objective;
  States<double, B, std::remove_cvref_t<decltype(sum)>> states(sum);
  nn::for_each_parameter(states, [&](const std::string&, Parameter<double, B>& x) {
    if (x.value.size() > 1)
      x.value = normalize_rows(tensor<double, B>(normal(x.value.size(), 7), x.value.shape()));
  });
  Tape tape;
  const RecordOn on(tape);
  Representations<V, std::remove_cvref_t<decltype(everything)>> r;
  const auto nobody = indices<B>({}), all = is_empty ? nobody : indices<B>(everyone);
  const auto rows = [&](const auto& x) {
    return is_empty ? gather_rows(use<V>(x), nobody) : use<V>(x);
  };
  r.template set<ImageGlobal>({rows(u), rows(u), all});
  r.template set<ImpressionGlobal>(
      {rows(v), rows(v), all, is_empty ? IndexTensor<B>() : indices<B>({4, 7, 7, 1, 4})});
  r.template set<ImageTokens>({rows(p), is_empty ? 0 : samples, all});
  r.template set<FindingsTokens>(
      {rows(w), indices<Host>(is_empty ? std::vector<std::int32_t>{0} : text_ends), all});
  const auto of = is_empty ? nobody : indices<B>({0, 0, 0, 1, 2, 2, 3, 4, 4});
  r.template set<CaptioningLogits>({rows(logits), of, of, nobody, true});
  r.template set<TeacherLogits>({rows(teacher).tensor});
  Losses<double, B> losses;
  const V loss = sum(r, states, losses);
  backward(loss);
  Values result = values(loss.tensor);
  const auto keep = [&](const Parameter<double, B>& x) {
    for (double g : gradient(x)) result.push_back(g);
  };
  for (const auto* x : {&u, &v, &p, &w, &logits}) keep(*x);
  nn::for_each_parameter(states, [&](const std::string&, Parameter<double, B>& x) { keep(x); });
  return result;
}

template <class O>
void check(const O& objective) {
  CAPTURE(O::name);
  const Values want = run<Reference>(objective, false), got = run<Cuda>(objective, false);
  CHECK(std::abs(want[0]) > 1e-3);
  CHECK(largest(Values(want.begin() + 1, want.end())) > 1e-3);
  CHECK(difference(got, want) <= 1e-9);
  for (double x : run<Cuda>(objective, true)) CHECK(x == 0);
}

}  // namespace

TEST_CASE("InfoNce") {
  check(InfoNce{});
  check(InfoNce{
      .label_smoothing = 0.1, .dedup_targets = true, .image_weight = 0.75, .text_weight = 0.25});
}
TEST_CASE("SigmoidContrast") { check(SigmoidContrast{}); }
TEST_CASE("LocalAlignment") {
  for (auto aggregation : {LocalAggregation::mean, LocalAggregation::sum, LocalAggregation::max})
    check(objective::LocalAlignment{{4, 5, aggregation}, 10, 0.5, 0.5});
}
TEST_CASE("TokenAlignment") { check(objective::TokenAlignment{}); }
TEST_CASE("PrototypeAlignment") {
  check(PrototypeAlignment{.prototypes = prototypes, .width = width});
}
TEST_CASE("LogitDistillation") {
  for (double temperature : {1.0, 2.5}) check(LogitDistillation{temperature});
}
