// Your own objective: a small value class that says what it needs; the model computes that and no
// more. It adds to the others.
#include <cstdio>
#include <hybridmed/hybridmed.hpp>
using namespace hybridmed;
using T = double;
using B = CpuBackend;

/// Image and impression should point the same way: the mean of 1 - cosine over the pairs, without
/// negatives.
struct Agreement {
  static constexpr std::string_view name = "agreement";
  static constexpr objective::Needs<representation::ImageGlobal, representation::ImpressionGlobal>
      needs{};

  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    const V u = normalize_rows(get<representation::ImageGlobal>(r).projected),
            v = normalize_rows(get<representation::ImpressionGlobal>(r).projected);
    const V d = subtract(u, v);  // |u - v|^2 = 2 - 2 cos
    return scale(mean(multiply(d, d)), 0.5 * static_cast<double>(value(u).cols()));
  }
};

int main() {
  const auto objective = 0.5 * Agreement{} + 1.0 * objective::Captioning{};
  std::printf("the decoder's summarization branch is %s\n",
              objective.reads<representation::SummarizationLogits>() ? "computed" : "not computed");

  auto model = model::make_hybridmed<T, B>(model::Config::preset("tiny"), objective.needs);
  system::Composed composed(model, objective);
  nn::initialise(composed, 1);
  optim::AdamW<T, B> optimizer(composed, {});
  Tape tape;
  const std::vector<std::int32_t> impression{1, 20, 2, 1, 30, 31, 2}, offsets{0, 3, 7},
      none{0, 0, 0};  // BOS ... EOS; no findings
  Tensor<T, B> image({2, 3, 64, 64});
  B::fill_normal(image.size(), Philox(3), 0.5, image.data());
  const model::Batch<T, B> batch{image, model.plan({{}, none}, {impression, offsets}, {})};
  for (int step = 0; step < 5; ++step) {
    const auto report =
        train::train_step(composed, batch, optimizer, 2e-3, tape, nn::Mode::training());
    std::printf("step %d", step);
    for (const auto& loss : report.losses)
      std::printf("  %s %.3f", std::string(loss.name).c_str(), loss.value.item());
    std::printf("\n");
  }
}
