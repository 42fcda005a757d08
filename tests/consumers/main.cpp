// A consumer of the core alone: a ConVIRT-like model (Zhang et al., MLHC 2022) composed from the
// library's parts - one image encoder, one text encoder, two projections, one contrastive objective
// - and a few training steps on two samples.
#include <hybridmed/hybridmed.hpp>

#include <cstdio>

namespace {

using namespace hybridmed;
using T = float;
using B = CpuBackend;

struct Convirt {
  using Scalar = T;
  using Backend = B;
  using Batch = model::Batch<T, B>;
  static constexpr auto computes = objective::InfoNce::needs;
  model::Config config;
  model::Vit<T, B> image;
  model::TextEncoder<T, B> text;
  nn::Linear<T, B> image_proj, text_proj;

  explicit Convirt(const model::Config& c)
      : config(c),
        image(c.vit()),
        text(c.text()),
        image_proj(c.image_width, c.d_e, false),
        text_proj(c.d, c.d_e, false) {}
  template <class F>
  void visit(F&& f) {
    f("image", image);
    f("text", text);
    f("image_proj", image_proj);
    f("text_proj", text_proj);
  }

  template <Value V, class N>
  void represent(const Batch& batch, const nn::Mode& mode,
                 objective::Representations<V, N>& r) const {
    const model::TextPlan<B>& p = batch.text;
    const V seen = image.operator()<V>(batch.image, mode, model::Levels::last).global,
            read = text.global(text.operator()<V>(p), p.present_cls);
    r.template set<representation::ImageGlobal>({image_proj(seen), seen, p.present});
    r.template set<representation::ImpressionGlobal>({text_proj(read), read, p.present, p.keys});
  }
};

model::Config small_config() {
  auto c = model::Config::preset("tiny");
  c.image_size = 32;
  c.image_width = 32;
  c.d = 32;
  c.d_e = 16;
  c.uni_blocks = 1;
  c.vocab = 40;
  c.validate();
  return c;
}

}  // namespace

int main() {
  Convirt model(small_config());
  system::Composed composed(
      model, 1.0 * objective::InfoNce{.image_weight = 0.75,
                                      .text_weight = 0.25,
                                      .temperature = objective::Temperature::fixed(0.1)});
  nn::initialise(composed, /*seed=*/1);
  optim::AdamW<T, B> optimizer(composed, {});
  Tape tape;

  std::vector<T> pixels(2 * 3 * 32 * 32);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<T>(Philox(3).normal(i));
  const std::vector<std::int32_t> ids{1, 20, 2, 1, 30, 31, 2}, offsets{0, 3, 7},
      none{0, 0, 0};  // BOS ... EOS
  const model::Batch<T, B> batch{Tensor<T, B>::from_host(pixels, {2, 3, 32, 32}),
                                 model::TextPlan<B>({{}, none}, {ids, offsets}, {}, 1,
                                                    model.config.positions(), model.config.vocab)};

  double first = 0, last = 0;
  for (int step = 0; step < 5; ++step) {
    const auto report = train::train_step(composed, batch, optimizer, /*learning_rate=*/1e-3, tape,
                                          nn::Mode::training());
    if (!report.finite) {
      std::puts("a loss or a gradient is not a number");
      return 1;
    }
    last = report.total;
    if (step == 0) first = last;
  }
  std::printf("%.4f -> %.4f\n", first, last);
  return last < first ? 0 : 1;
}
