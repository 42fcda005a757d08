#include <cstdio>
#include <hybridmed/hybridmed.hpp>
using namespace hybridmed;
using T = float;
using B = CpuBackend;

int main() {
  const auto write = 1.0 * objective::Summarization{};
  const auto align = 0.5 * objective::InfoNce{} + objective::Captioning{} +
                     objective::LogitDistillation{/*temperature=*/2};
  auto model =
      model::make_hybridmed<T, B>(model::Config::preset("tiny"), write.needs | align.needs);
  system::Composed stage1(model, write);
  system::Composed stage2(model, align);
  nn::initialise(stage2, /*seed=*/1);  // the model, and what the objective learns itself
  optim::AdamW<T, B> optimizer1(stage1, {}), optimizer2(stage2, {});
  Tape tape;
  const std::vector<std::int32_t> findings{1, 7, 8, 9, 2, 1, 7, 5, 2}, f_offsets{0, 5, 9},
      impression{1, 20, 2, 1, 30, 31, 2}, i_offsets{0, 3, 7};  // BOS ... EOS
  model::Batch<T, B> batch{Tensor<T, B>::full({2, 3, 64, 64}, 0.1f),
                           model.plan({findings, f_offsets}, {impression, i_offsets}, {})};
  for (int step = 0; step < 30; ++step)
    train::train_step(stage1, batch, optimizer1, /*learning_rate=*/1e-3, tape,
                      nn::Mode::training());
  const auto teacher = model.snapshot();  // of what stage 1 has learned
  batch.teacher_logits = teacher(batch.text);
  const auto report =
      train::train_step(stage2, batch, optimizer2, 1e-3, tape, nn::Mode::training());
  for (const auto& loss : report.losses)
    std::printf("%s %.2f\n", std::string(loss.name).c_str(), loss.value.item());
}
