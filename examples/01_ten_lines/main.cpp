#include <cstdio>
#include <hybridmed/hybridmed.hpp>
using namespace hybridmed;
using T = float;
using B = CpuBackend;

int main() {
  auto model = model::make_hybridmed<T, B>(model::Config::preset("tiny"));
  model::initialise(model, model.config, /*seed=*/1);
  const auto teacher = model.snapshot();
  const auto objective = 0.5 * objective::InfoNce{} + objective::Captioning{} + objective::LogitDistillation{/*temperature=*/2};
  optim::AdamW<T, B> optimizer(model, {});
  Tape tape;
  const std::vector<std::int32_t> findings{1, 7, 8, 9, 2, 1, 7, 5, 2}, f_offsets{0, 5, 9}, impression{1, 20, 2, 1, 30, 31, 2}, i_offsets{0, 3, 7};  // BOS ... EOS
  const model::Batch<T, B> batch{Tensor<T, B>::full({2, 3, 64, 64}, 0.1f), model.plan({findings, f_offsets}, {impression, i_offsets}, {})};
  const auto report = train::train_step(model, objective, batch, &teacher, optimizer, /*learning_rate=*/1e-3, tape, nn::Mode::training());
  for (const auto& loss : report.losses) std::printf("%s %.2f\n", std::string(loss.name).c_str(), loss.value.item());
}
