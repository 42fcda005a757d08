// The README's program, with data that can be learned: stage 1 teaches the teacher, and the student
// comes to say what it says, on samples that neither has seen.
#include <doctest/doctest.h>

#include <cmath>

#include "hybridmed/hybridmed.hpp"

using namespace hybridmed;
using T = float;
using B = CpuBackend;

namespace {

/// One of eight findings with its impression, and a picture with a bright patch that tells which.
model::Batch<T, B> samples(const model::HybridMed<T, B, model::AnyEncoder<T, B>>& m, Index n,
                           std::uint64_t seed) {
  const Index side = m.config.image_size;
  const Philox random(seed, 5);
  std::vector<T> pixels(static_cast<std::size_t>(n * 3 * side * side));
  std::vector<std::int32_t> findings, impression, f_offsets{0}, i_offsets{0};
  for (Index b = 0; b < n; ++b) {
    const auto k = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(b), 8));
    for (std::int32_t t : {1, 10 + k, 3, 20 + (k + static_cast<std::int32_t>(seed)) % 5, 2})
      findings.push_back(t);
    for (std::int32_t t : {1, 40 + k, 60 + k / 2, 4, 2}) impression.push_back(t);
    f_offsets.push_back(static_cast<std::int32_t>(findings.size()));
    i_offsets.push_back(static_cast<std::int32_t>(impression.size()));
    for (Index c = 0; c < 3; ++c)
      for (Index y = 0; y < side; ++y)
        for (Index x = 0; x < side; ++x)
          pixels[static_cast<std::size_t>(((b * 3 + c) * side + y) * side + x)] =
              (y / 16 == k / 4 && x / 16 == k % 4 ? 1.0f : -0.5f) +
              0.1f * static_cast<T>(random.normal(
                         static_cast<std::uint64_t>(1000 + (b * side + y) * side + x)));
  }
  return {Tensor<T, B>::from_host(pixels, {n, 3, side, side}),
          m.plan({findings, f_offsets}, {impression, i_offsets}, {})};
}

}  // namespace

TEST_CASE(
    "stage 1 before the snapshot: the teacher knows something, and the student learns it on "
    "held-out samples") {
  const auto stage1 = 1.0 * objective::Summarization{};
  const auto stage2 =
      0.5 * objective::InfoNce{} + objective::Captioning{} + objective::LogitDistillation{2};
  auto m = model::make_hybridmed<T, B>(model::Config::preset("tiny"), stage1.needs | stage2.needs);
  nn::initialise(m, 1);
  system::Composed first(m, stage1);
  system::Composed second(m, stage2);
  optim::AdamW<T, B> optimizer(second, {});  // the model, and the temperature
  Tape tape;
  const auto held_out = samples(m, 16, 1000);
  for (std::uint64_t step = 0; step < 40; ++step)
    train::train_step(first, samples(m, 16, step), optimizer, 1e-3, tape, nn::Mode::training());
  const auto teacher = m.snapshot();
  const auto taught = [&](model::Batch<T, B> batch) {
    batch.teacher_logits = teacher(batch.text);
    return batch;
  };
  const double entropy = static_cast<double>(
      cross_entropy(teacher(held_out.text), held_out.text.summarize.target, 0).item());
  CHECK(entropy < std::log(static_cast<double>(m.config.vocab)) - 0.5);

  const auto distillation = [&] {
    return static_cast<double>(
        train::evaluate_step(second, taught(held_out), nn::Mode::evaluation())
            .losses[2]
            .value.item());
  };
  std::vector<double> losses{distillation()};
  for (std::uint64_t step = 0; step < 50; ++step) {
    train::train_step(second, taught(samples(m, 16, 5000 + step)), optimizer, 1e-3, tape,
                      nn::Mode::training());
    if (step % 10 == 9) losses.push_back(distillation());
  }
  INFO("entropy of the teacher ", entropy, ", distillation ", losses.front(), " ", losses[1], " ",
       losses[2], " ", losses.back());
  CHECK(losses.back() < 0.5 * losses.front());
  CHECK(losses.back() < losses[1]);
}
