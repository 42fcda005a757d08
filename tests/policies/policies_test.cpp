// Every policy slot with its archetype.
#include <doctest/doctest.h>

#include "archetypes.hpp"
#include "hybridmed/nn/initialise.hpp"
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

TEST_CASE("Attention, Ffn, Norm and Order: the block applies each where the page says") {
  using Block = nn::TransformerBlock<double, Reference, archetype::Attention, archetype::Ffn,
                                     archetype::Norm, archetype::Order>;
  Block block(4, 8, 1e-5, archetype::Attention(1));
  CHECK(nn::count_parameters(block) == 0);
  const auto x = tensor<double, Reference>({1, -2, 3, 4}, {1, 4});
  CHECK(values(block(x)) == Values{150, -300, 450, 600});  // 5 (3 (5 (2 x)))
}

TEST_CASE("Encoder and Objective: a training step moves the encoder's parameter") {
  using T = double;
  using B = Reference;
  auto config = model::Config::preset("tiny-resnet");
  model::HybridMed<T, B, archetype::Encoder<T, B>> m(config, archetype::Encoder<T, B>(config),
                                                     archetype::Objective::needs);
  B::fill_normal(m.proj.image_global.weight.value.size(), Philox(1), 0.1,
                 m.proj.image_global.weight.value.data());
  const Values before = values(m.image.only.value);
  optim::AdamW<T, B> optimizer(m, {});
  Tape tape;
  const std::vector<std::int32_t> text{1, 5, 2}, at{0, 3}, none{0, 0};
  const model::Batch<T, B> batch{Tensor<T, B>::full({1, 3, 64, 64}, 0),
                                 m.plan({{}, none}, {text, at}, {})};
  const model::Teacher<T, B>* teacher = nullptr;
  const auto report = train::train_step(m, 1.0 * archetype::Objective{}, batch, teacher, optimizer,
                                        1e-2, tape, nn::Mode::training());
  CHECK(report.losses[0].name == "archetype");
  CHECK(report.total > 0);
  CHECK(difference(values(m.image.only.value), before) > 1e-3);
}
