// The sibling systems: their losses against the PyTorch implementation
// (tests/reference/sibling_losses.py), and what they do not compute, from counted kernel calls.
#include <doctest/doctest.h>

#include "hybridmed/model/siblings.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/train/step.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

Values golden(Index n, double phi, double a = 1) {
  Values x;
  for (Index i = 0; i < n; ++i) x.push_back(a * std::sin(0.37 * static_cast<double>(i + 1) + phi));
  return x;
}

using T = double;
using B = Reference;
using V = Variable<T, B>;

struct Expected {
  double loss, u, v, s, p, w, z;  // the loss, and the sum of squares of each gradient
};

template <class Objective>
void check_golden(const Objective& objective, double log_scale, const Expected& e) {
  auto u = leaf<T, B>(golden(12, .1), {3, 4}), v = leaf<T, B>(golden(12, .7), {3, 4}),
       s = leaf<T, B>({log_scale}, {}), p = leaf<T, B>(golden(40, 1.3), {10, 4}),
       w = leaf<T, B>(golden(24, 2.1), {6, 4}), z = leaf<T, B>(golden(63, .5, 2), {9, 7});
  Tape tape;
  RecordOn recording(tape);
  objective::Representations<V> r;
  r.image = use<V>(u);
  r.text = use<V>(v);
  r.log_scale = use<V>(s);
  r.regions = use<V>(p);
  r.region_images = 2;
  r.words = use<V>(w);
  r.word_offsets = indices<Reference>({0, 4, 6});
  r.logits_cap = gather_rows(use<V>(z), indices<B>({0, 1, 2, 3, 4, 6}));
  r.target_cap = indices<B>({3, 1, 2, 0, 6, 5});
  const V loss = objective(r);
  CHECK(static_cast<double>(value(loss).item()) == doctest::Approx(e.loss).epsilon(1e-11));
  backward(loss);
  const auto squares = [](const Parameter<T, B>& q) {
    double sum = 0;
    for (double g : gradient(q)) sum += g * g;
    return sum;
  };
  CHECK(squares(u) == doctest::Approx(e.u).epsilon(1e-10));
  CHECK(squares(v) == doctest::Approx(e.v).epsilon(1e-10));
  if (e.s >= 0) CHECK(squares(s) == doctest::Approx(e.s).epsilon(1e-10));
  CHECK(squares(p) == doctest::Approx(e.p).epsilon(1e-10));
  CHECK(squares(w) == doctest::Approx(e.w).epsilon(1e-10));
  CHECK(squares(z) == doctest::Approx(e.z).epsilon(1e-10));
}

/// Counts the kernel calls that tell the parts of a model apart.
struct Counted : Reference {
  static inline int attention_calls = 0, local_calls = 0, cross_entropy_calls = 0,
                    contrast_calls = 0;
  static void reset() { attention_calls = local_calls = cross_entropy_calls = contrast_calls = 0; }

  template <class S>
  static void attention(const AttentionArgs<S>& a) {
    ++attention_calls;
    Reference::attention(a);
  }
  template <class S>
  static void attention_backward(const AttentionArgs<S>& a, const AttentionGradients<S>& g) {
    ++attention_calls;
    Reference::attention_backward(a, g);
  }
  template <class S>
  static void local_scores(const LocalArgs<S>& a, S* y) {
    ++local_calls;
    Reference::local_scores(a, y);
  }
  template <class S>
  static void local_scores_backward(const LocalArgs<S>& a, const S* x, S* y, S* z) {
    ++local_calls;
    Reference::local_scores_backward(a, x, y, z);
  }
  template <class S>
  static void cross_entropy(Index n, Index m, const S* z, const std::int32_t* t, double e, S* l,
                            S* lse) {
    ++cross_entropy_calls;
    Reference::cross_entropy(n, m, z, t, e, l, lse);
  }
  template <class S>
  static void symmetric_cross_entropy(Index n, const S* s, const std::int32_t* k, double e,
                                      double a, double b, S* l, S* d) {
    ++contrast_calls;
    Reference::symmetric_cross_entropy(n, s, k, e, a, b, l, d);
  }
};

template <class System>
auto one_step(const System& system) {
  auto config = model::Config::preset("tiny-resnet");  // an encoder without attention
  config.image_size = 32;
  config.grid = 4;
  auto m = system.template model<T, Counted>(config);
  nn::initialise(m, 1);
  const std::vector<std::int32_t> text{1, 20, 2, 1, 30, 31, 2}, at{0, 3, 7},
      words{1, 7, 8, 2, 1, 9, 2}, words_at{0, 4, 7};
  Tensor<T, Counted> image({2, 3, 32, 32});
  Counted::fill_normal(image.size(), Philox(3), 0.5, image.data());
  const model::Batch<T, Counted> batch{image, m.plan({words, words_at}, {text, at}, {})};
  optim::AdamW<T, Counted> optimizer(m, {});
  Tape tape;
  Counted::reset();
  const model::Teacher<T, Counted>* none = nullptr;
  const auto report = train::train_step(m, system.objective(), batch, none, optimizer, 1e-3, tape,
                                        nn::Mode::training());
  CHECK(report.finite);
  std::vector<std::string> names;
  nn::for_each_parameter(m, [&](const std::string& name, auto&) { names.push_back(name); });
  return names;
}

bool any(const std::vector<std::string>& names, std::string_view prefix) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& n) { return n.starts_with(prefix); });
}

}  // namespace

TEST_CASE("the siblings' losses and gradients are the PyTorch implementation's") {
  check_golden(model::Clip{}.objective(), std::log(1 / 0.07),
               {0.767090139345, 7.022650723368, 6.986853203497, 0.426967167894, 0, 0, 0});
  check_golden(model::ConVirt{}.objective(), std::log(1 / 0.1),
               {0.801286516780, 6.639217889151, 7.085581503305, -1, 0, 0, 0});
  check_golden(
      model::Gloria{}.objective(), std::log(1 / 0.1),
      {10.421028206937, 14.169424116860, 14.916992946391, -1, 57.801885776542, 36.032759572901, 0});
  check_golden(
      model::CoCa{}.objective(), std::log(1 / 0.07),
      {3.816888574556, 7.022650723368, 6.986853203497, 0.426967167894, 0, 0, 0.472731681823});
}

TEST_CASE("a ConVIRT step runs no decoder and no local alignment, and its model has neither") {
  const auto names = one_step(model::ConVirt{});
  const int text_blocks = static_cast<int>(model::Config::preset("tiny-resnet").uni_blocks);
  CHECK(Counted::attention_calls ==
        2 * text_blocks);  // forward and backward of the text encoder alone
  CHECK(Counted::local_calls == 0);
  CHECK(Counted::cross_entropy_calls == 0);
  CHECK(Counted::contrast_calls == 1);
  for (const char* part : {"decoder.", "memory.", "aggregator.", "proj.text_local"})
    CHECK_FALSE(any(names, part));
  CHECK((any(names, "proj.image_global") && any(names, "proj.text_global") &&
         any(names, "image.") && any(names, "text.")));
}

TEST_CASE("the other siblings run what they name") {
  const int text_blocks = static_cast<int>(model::Config::preset("tiny-resnet").uni_blocks),
            decoder_blocks = static_cast<int>(model::Config::preset("tiny-resnet").dec_blocks);
  SUBCASE("Clip") {
    one_step(model::Clip{});
    CHECK((Counted::attention_calls == 2 * text_blocks && Counted::local_calls == 0 &&
           Counted::cross_entropy_calls == 0));
  }
  SUBCASE("Gloria") {
    const auto names = one_step(model::Gloria{});
    CHECK((Counted::attention_calls == 2 * text_blocks && Counted::local_calls == 2 &&
           Counted::cross_entropy_calls == 0 && Counted::contrast_calls == 2));
    CHECK((any(names, "aggregator.") && !any(names, "decoder.")));
  }
  SUBCASE("CoCa") {
    const auto names = one_step(model::CoCa{});
    CHECK((Counted::attention_calls == 2 * text_blocks + 4 * decoder_blocks &&
           Counted::local_calls == 0 && Counted::cross_entropy_calls == 1));
    CHECK((any(names, "decoder.fc_cap") && !any(names, "decoder.fc_sum") &&
           !any(names, "aggregator.")));
  }
}

TEST_CASE("a temperature that a system fixes is not trained") {
  auto m = model::ConVirt{}.model<T, B>(model::Config::preset("tiny-resnet"));
  CHECK_FALSE(m.log_scale.trainable);
  CHECK(m.config.log_scale_init == doctest::Approx(std::log(10.0)));
}

TEST_CASE("an objective that needs a part which the model was built without is an error") {
  auto m = model::ConVirt{}.model<T, B>(model::Config::preset("tiny-resnet"));
  const std::vector<std::int32_t> text{1, 20, 2}, at{0, 3}, none{0, 0};
  const model::Batch<T, B> batch{Tensor<T, B>::full({1, 3, 64, 64}, 0),
                                 m.plan({{}, none}, {text, at}, {})};
  const model::Teacher<T, B>* teacher = nullptr;
  CHECK_THROWS_WITH_AS(
      train::evaluate_step(m, model::CoCa{}.objective(), batch, teacher, nn::Mode::evaluation()),
      doctest::Contains("a part that this model was built without"), Error);
}
