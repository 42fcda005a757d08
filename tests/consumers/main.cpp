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
  model::Config config;
  Parameter<T, B> log_scale;
  model::Vit<T, B> image;
  model::TextEncoder<T, B> text;
  nn::Linear<T, B> image_proj, text_proj;

  explicit Convirt(const model::Config& c)
      : config(c),
        log_scale(Shape{}, init::constant(c.log_scale_init)),
        image(c),
        text(c),
        image_proj(c.image_width, c.d_e, false),
        text_proj(c.d, c.d_e, false) {}
  template <class F>
  void visit(F&& f) {
    f("log_scale", log_scale);
    f("image", image);
    f("text", text);
    f("image_proj", image_proj);
    f("text_proj", text_proj);
  }

  template <unsigned needs, Value V>
  objective::Representations<V> represent(const model::Batch<T, B>& batch,
                                          const model::Teacher<T, B>*, const nn::Mode& mode) const {
    static_assert((needs & ~unsigned{objective::image_global | objective::text_global}) == 0,
                  "this model has global vectors only");
    objective::Representations<V> r;
    r.image = image_proj(image.operator()<V>(batch.image, mode, model::Levels::last).global);
    r.text =
        text_proj(text.norm(gather_rows(text.operator()<V>(batch.text), batch.text.present_cls)));
    r.log_scale = use<V>(log_scale);
    return r;
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
  nn::initialise(model, /*seed=*/1);
  const auto objective = 1.0 * objective::InfoNce{.image_weight = 0.75, .text_weight = 0.25};
  optim::AdamW<T, B> optimizer(model, {});
  Tape tape;

  std::vector<T> pixels(2 * 3 * 32 * 32);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<T>(Philox(3).normal(i));
  const std::vector<std::int32_t> ids{1, 20, 2, 1, 30, 31, 2}, offsets{0, 3, 7},
      none{0, 0, 0};  // BOS ... EOS
  const model::Batch<T, B> batch{Tensor<T, B>::from_host(pixels, {2, 3, 32, 32}),
                                 model::TextPlan<B>({{}, none}, {ids, offsets}, {}, 1,
                                                    model.config.positions(), model.config.vocab)};

  const model::Teacher<T, B>* no_teacher = nullptr;
  double first = 0, last = 0;
  for (int step = 0; step < 5; ++step) {
    const auto report = train::train_step(model, objective, batch, no_teacher, optimizer,
                                          /*learning_rate=*/1e-3, tape, nn::Mode::training());
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
