// Your own image encoder: a module that turns images into four feature maps and one global vector
// stands in the place of Vit, Swin or ResNet.
#include <cstdio>
#include <hybridmed/hybridmed.hpp>
using namespace hybridmed;
using T = double;
using B = CpuBackend;

/// Patches, then a residual 3x3 convolution for each level; the global vector is the mean of the
/// last map. All maps have one side and one width.
template <class T, class B>
struct PatchNet {
  nn::PatchEmbed<T, B> patch;
  std::vector<nn::LayerNorm<T, B>> norm;
  std::vector<nn::Convolution<T, B>> conv;
  RowMixing<T, B> mean;
  Index image_size = 0;
  model::LevelShape shape;  // side and width of every map

  PatchNet(Index image_size_, Index patch_size, Index width)
      : patch(patch_size, width), image_size(image_size_), shape{image_size / patch_size, width} {
    mean = model::mean_of_rows<T, B>(shape.places());
    for (int l = 0; l < 4; ++l) {
      norm.emplace_back(width);
      conv.emplace_back(width, width, /*kernel=*/3);
    }
  }
  model::LevelShapes levels() const { return {shape, shape, shape, shape}; }
  template <class F>
  void visit(F&& f) {
    f("patch", patch);
    f("norm", norm);
    f("conv", conv);
  }
  /// image (B, 3, S, S)
  template <Value V>
  model::ImageFeatures<V> operator()(const tensor_of<V>& image, const nn::Mode&,
                                     model::Levels want) const {
    model::need_images("PatchNet", image, image_size);
    const Index batch = image.shape()[0];
    model::ImageFeatures<V> out;
    V x = patch.template embed<V>(image);
    for (std::size_t l = 0; l < 4; ++l) {
      x = add(x, activate(conv[l](norm[l](x), batch, shape.side), Activation::relu));
      if (l == 3 || want == model::Levels::all) out.levels[l] = x;
    }
    out.global = mix_rows(x, mean);
    return out;
  }
};
static_assert(model::ImageEncoder<PatchNet<T, B>, T, B>);

int main() {
  const auto config = model::Config::preset("tiny");
  const auto objective = 1.0 * objective::InfoNce{} + 1.0 * objective::LocalAlignment{};
  model::HybridMed<T, B, PatchNet<T, B>> model(
      config, PatchNet<T, B>(config.image_size, /*patch_size=*/8, /*width=*/64), objective.needs);
  system::Composed composed(model, objective);
  nn::initialise(composed, /*seed=*/1);
  model::Vit<T, B> vit(config.vit());
  std::printf("parameters: PatchNet %lld, Vit %lld\n",
              static_cast<long long>(nn::count_parameters(model.image)),
              static_cast<long long>(nn::count_parameters(vit)));

  optim::AdamW<T, B> optimizer(composed, {});
  Tape tape;
  const std::vector<std::int32_t> findings{1, 7, 8, 9, 2, 1, 7, 5, 2}, f_offsets{0, 5, 9},
      impression{1, 20, 2, 1, 30, 31, 2}, i_offsets{0, 3, 7};  // BOS ... EOS
  Tensor<T, B> image({2, 3, 64, 64});
  B::fill_normal(image.size(), Philox(3), 0.5, image.data());
  const model::Batch<T, B> batch{image,
                                 model.plan({findings, f_offsets}, {impression, i_offsets}, {})};
  for (int step = 0; step < 5; ++step) {
    const auto report =
        train::train_step(composed, batch, optimizer, 5e-5, tape, nn::Mode::training());
    std::printf("step %d", step);
    for (const auto& loss : report.losses)
      std::printf("  %s %.3f", std::string(loss.name).c_str(), loss.value.item());
    std::printf("\n");
  }
}
