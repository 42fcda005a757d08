// ConVIRT (Zhang et al., MLHC 2022) by composition: choose the objective, and the model holds and
// computes what it needs. hybridmed/system/convirt.hpp is the same as a recipe, for whole runs.
#include <cstdio>
#include <hybridmed/backend/cpu/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>
#include <hybridmed/nn/initialise.hpp>
#include <hybridmed/objective/alignment/info_nce.hpp>
#include <hybridmed/train/step.hpp>
using namespace hybridmed;
using T = double;
using B = CpuBackend;

int main() {
  const auto config = model::Config::preset("tiny-resnet");
  const auto objective =
      1.0 * objective::InfoNce{.image_weight = 0.75,
                               .text_weight = 0.25,
                               .temperature = objective::Temperature::fixed(0.1)};

  auto whole = model::make_hybridmed<T, B>(config);
  auto model = model::make_hybridmed<T, B>(config, objective.needs);
  system::Composed convirt(model, objective);
  nn::initialise(convirt, 1);
  std::printf("parameters: HybridMED %lld, ConVIRT %lld\n",
              static_cast<long long>(nn::count_parameters(whole)),
              static_cast<long long>(nn::count_parameters(model)));

  optim::AdamW<T, B> optimizer(convirt, {});
  Tape tape;
  const std::vector<std::int32_t> text{1, 20, 2, 1, 30, 31, 2, 1, 7, 2}, offsets{0, 3, 7, 10},
      none{0, 0, 0, 0};
  Tensor<T, B> image({3, 3, 64, 64});
  B::fill_normal(image.size(), Philox(3), 0.5, image.data());
  const model::Batch<T, B> batch{image, model.plan({{}, none}, {text, offsets}, {})};
  for (int step = 0; step < 4; ++step)
    std::printf(
        "step %d  loss %.3f\n", step,
        train::train_step(convirt, batch, optimizer, 1e-3, tape, nn::Mode::training()).total);
}
