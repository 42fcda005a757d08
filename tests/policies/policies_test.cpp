// Every policy slot with its archetype.
#include <doctest/doctest.h>

#include "archetypes.hpp"
#include "errors.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/objective/alignment/info_nce.hpp"
#include "hybridmed/objective/generation/impression.hpp"
#include "hybridmed/train/step.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("Gemm and Executor: the CPU backend computes what the reference computes") {
  using B = Cpu<archetype::Gemm, archetype::Executor>;
  const Values a = normal(300 * 7, 1), b = normal(5 * 7, 2), x = normal(100000, 3);
  const auto run = [&]<class K>(K) {
    const auto ta = tensor<double, K>(a, {300, 7}), tb = tensor<double, K>(b, {5, 7}),
               tx = tensor<double, K>(x, {100000});
    Tensor<double, K> c({300, 5}), y({100000});
    K::gemm(false, true, 300, 5, 7, 1.0, ta.data(), 7, tb.data(), 7, 0.0, c.data(), 5);
    K::activation(Activation::gelu, 100000, tx.data(), y.data());
    Values out = values(c);
    for (double v : values(y)) out.push_back(v);
    return out;
  };
  CHECK(difference(run(B{}), run(Reference{})) <= 1e-13);
}

TEST_CASE("Gemm and Executor serve bf16 as they are") {
  using B = Cpu<archetype::Gemm, archetype::Executor>;
  static_assert(Backend<B, bfloat16>);
  const Values a = normal(300 * 7, 1), b = normal(5 * 7, 2), x = normal(100000, 3);
  const auto run = [&]<class K>(K) {
    using T = bfloat16;
    const auto ta = tensor<T, K>(a, {300, 7}), tb = tensor<T, K>(b, {5, 7}),
               tx = tensor<T, K>(x, {100000});
    Tensor<T, K> c({300, 5}), y({100000});
    K::gemm(false, true, 300, 5, 7, 1, ta.data(), 7, tb.data(), 7, 0, c.data(), 5);
    K::add(100000, tx.data(), tx.data(), y.data());
    Values out = values(c);
    for (double v : values(y)) out.push_back(v);
    return out;
  };
  CHECK(run(B{}) == run(Reference{}));
}

TEST_CASE_TEMPLATE("Attention, Ffn, Norm and Order: the block applies each where the page says", T,
                   double, bfloat16) {
  using Stream = accumulator_of<T>;
  using Block = nn::TransformerBlock<T, Reference, archetype::Attention, archetype::Ffn,
                                     archetype::Norm, archetype::Order>;
  Block block(4, 8, 1e-5, archetype::Attention(1));
  CHECK(nn::count_parameters(block) == 0);
  const auto x = tensor<Stream, Reference>({1, -2, 4, 8}, {1, 4});
  CHECK(values(block(x)) == Values{150, -300, 600, 1200});  // 5 (3 (5 (2 x)))
  // The orders of the library with a norm that gives what it takes, as a stream is: wide.
  using Pre = nn::TransformerBlock<T, Reference, archetype::Attention, archetype::Ffn,
                                   archetype::Norm, nn::PreNorm>;
  using Post = nn::TransformerBlock<T, Reference, archetype::Attention, archetype::Ffn,
                                    archetype::Norm, nn::PostNorm>;
  CHECK(values(Pre(4, 8, 1e-5, archetype::Attention(1))(x)) ==
        Values{176, -352, 704, 1408});  // h = x + 2 (5 x), h + 3 (5 h)
  CHECK(values(Post(4, 8, 1e-5, archetype::Attention(1))(x)) ==
        Values{300, -600, 1200, 2400});  // h = 5 (x + 2 x), 5 (h + 3 h)
}

namespace {

/// One sample: an image, and an impression without findings.
template <class T, class B, class Planner>
model::Batch<T, B> one_sample(const Planner& planner) {
  const std::vector<std::int32_t> text{1, 5, 2}, at{0, 3}, none{0, 0};
  return {Tensor<T, B>::full({1, 3, 64, 64}, T(0.5f)), planner.plan({{}, none}, {text, at}, {})};
}

}  // namespace

TEST_CASE_TEMPLATE("Encoder and Objective: a training step moves the encoder's parameter", T,
                   double, bfloat16) {
  using B = Reference;
  auto config = model::Config::preset("tiny-resnet");
  model::HybridMed<T, B, archetype::Encoder<T, B>> m(config, archetype::Encoder<T, B>(),
                                                     archetype::Objective::needs);
  B::fill_normal(m.proj.image_global.weight.value.size(), Philox(1), 0.1,
                 m.proj.image_global.weight.value.data());
  const Values before = values(m.image.only.value);
  system::Composed composed(m, 1.0 * archetype::Objective{});
  optim::AdamW<master_of<T>, B> optimizer(composed, {});
  Tape tape;
  const auto report =
      train::train_step(composed, one_sample<T, B>(m), optimizer, 1e-2, tape, nn::Mode::training());
  CHECK(report.losses[0].name == "archetype");
  CHECK(report.total > 0);
  CHECK(difference(values(m.image.only.value), before) > 1e-3);
}

TEST_CASE_TEMPLATE("TextEncoder: HybridMed reads its tokens and pools its sections", T, double,
                   bfloat16) {
  using B = Reference;
  const auto config = model::Config::preset("tiny-resnet");
  using Model = model::HybridMed<T, B, archetype::Encoder<T, B>, archetype::TextEncoder<T, B>>;
  Model m(config, archetype::Encoder<T, B>(), archetype::TextEncoder<T, B>(),
          model::parts_of(objective::InfoNce::needs));
  nn::initialise(m, 1);
  representation::Representations<Tensor<master_of<T>, B>, objective::needs_of<objective::InfoNce>>
      r;
  r.template want<representation::ImpressionGlobal>();
  m.represent(one_sample<T, B>(m), nn::Mode::evaluation(), r);
  CHECK(get<representation::ImpressionGlobal>(r).encoded.shape() == Shape{1, 4});
  const std::string e = error_of([&] {
    Model(config, archetype::Encoder<T, B>(), archetype::TextEncoder<T, B>(),
          model::parts_of(objective::Captioning::needs));
  });
  CHECK_MESSAGE(holds(e, "this one is not causal"), e);
}

TEST_CASE_TEMPLATE(
    "Representation, Model and an objective with State: a step trains model and state", T, double,
    bfloat16) {
  using B = Reference;
  archetype::Model<T, B> m;
  system::Composed composed(m, 2.0 * archetype::ObjectiveWithState{});
  std::string names;
  nn::for_each_parameter(composed, [&](const std::string& name, auto&) { names += name + " "; });
  CHECK(names == "factor only ");
  optim::AdamW<master_of<T>, B> optimizer(composed, {.clip = 0});
  Tape tape;
  const auto report = train::train_step(composed, {}, optimizer, 1e-2, tape, nn::Mode::training());
  CHECK(report.total == 12);  // 2 * (6 ones) * 1
  CHECK(report.losses[0].value.item() == 6);
  CHECK(report.gradient_norm == doctest::Approx(std::sqrt(144 + 6 * 4)));
  CHECK(value(m.only.value).data()[0] < 1);
  CHECK(std::get<0>(composed.states().each).factor.value.item() < 1);
  // a step of 0.01 each; the matrix decays too
  CHECK(train::evaluate_step(composed, {}, nn::Mode::evaluation()).total ==
        doctest::Approx(12 * (0.99 - 0.0005) * 0.99));
}

TEST_CASE_TEMPLATE("Recipe: a system of one stage, which trains its own model", T, double,
                   bfloat16) {
  using B = Reference;
  system::SystemOf<archetype::Recipe, T, B> s(model::Config::preset("tiny-resnet"));
  nn::initialise(s, 1);
  REQUIRE(s.stages().size() == 1);
  CHECK(s.stages()[0].reads() == representation::an_image);
  CHECK(s.stages()[0].losses[0].name == "archetype");
  CHECK_FALSE(s.has_teacher());
  s.begin_stage(0);
  s.begin_epoch(0, 0);
  optim::AdamW<master_of<T>, B> optimizer(s, {});
  Tape tape;
  system::StageOf<T, B> stage(s, 0);
  const auto batch = one_sample<T, B>(s);
  double first = 0, last = 0;
  for (int step = 0; step < 3; ++step) {
    last = train::train_step(stage, batch, optimizer, 1e-3, tape, nn::Mode::training()).total;
    if (step == 0) first = last;
  }
  CHECK(last < first);
}
