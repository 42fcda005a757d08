#pragma once
// Swin Transformer (Liu et al., ICCV 2021). Levels: LayerNorm_l of each stage's output before
// merging; global: the mean of the last level. Equal to torchvision's, but maps that are not a
// whole number of windows are refused instead of padded.
#include "hybridmed/model/image_encoder.hpp"
#include "hybridmed/model/mean_pool.hpp"
#include "hybridmed/nn/patches.hpp"
#include "hybridmed/nn/transformer.hpp"

namespace hybridmed::model {

template <class T, class B>
struct SwinStage {
  std::vector<nn::PatchMerging<T, B>> merge;  // none at level 0, else one
  std::vector<nn::TransformerBlock<T, B, nn::WindowAttention<T, B>>> blocks;

  SwinStage(const SwinConfig& c, std::size_t level) {
    const auto [side, width] = c.levels()[level];
    const Index window = c.window < side ? c.window : side;
    if (level) merge.emplace_back(width / 2, side * 2, c.ln_eps);
    const nn::Stack stack{c.depths[0] + c.depths[1] + c.depths[2] + c.depths[3]};
    for (Index i = 0; i < c.depths[level]; ++i)
      blocks.emplace_back(
          width, c.ln_eps,
          nn::WindowAttention<T, B>(width, c.heads[level], window,
                                    i % 2 && side > c.window ? window / 2 : 0, side, stack),
          nn::FeedForward<T, B>(width, c.mlp_ratio * width, stack));
  }
  template <class F>
  void visit(F&& f) {
    if (!merge.empty()) f("merge", merge[0]);
    f("blocks", blocks);
  }
};

template <class T, class B>
struct Swin {
  nn::PatchEmbed<T, B> patch;
  nn::LayerNorm<T, B> patch_norm;
  std::vector<SwinStage<T, B>> stages;
  std::vector<nn::LayerNorm<T, B>> level_norm;
  RowMixing<accumulator_of<T>, B> mean;
  SwinConfig config;

  Swin() = default;
  /// @throws Error where the numbers of the configuration do not fit each other.
  explicit Swin(const SwinConfig& c)
      : patch(c.patch, c.width),
        patch_norm(c.width, c.ln_eps),
        mean(mean_of_rows<accumulator_of<T>, B>(c.levels()[3].places())),
        config(c) {
    for (std::size_t l = 0; l < 4; ++l) {
      stages.emplace_back(c, l);
      level_norm.emplace_back(c.levels()[l].width, c.ln_eps);
    }
  }
  LevelShapes levels() const { return config.levels(); }
  template <class F>
  void visit(F&& f) {
    f("patch", patch);
    f("patch_norm", patch_norm);
    f("stages", stages);
    f("level_norm", level_norm);
  }

  /// image (B, 3, S, S)
  template <Value V>
  ImageFeatures<V> operator()(const tensor_of<V>& image, const nn::Mode& mode, Levels want) const {
    need_images("Swin", image, config.image_size);
    const Index batch = image.shape()[0];
    Wide<V> x = patch_norm.wide(patch.template embed<V>(image));
    ImageFeatures<V> out;
    std::uint64_t site = 0;
    for (std::size_t l = 0; l < 4; ++l) {
      if (l) x = stages[l].merge[0](x, batch);
      for (const auto& block : stages[l].blocks) x = block.train(x, mode, site++, batch);
      if (l == 3 || want == Levels::all) out.levels[l] = level_norm[l].wide(x);
    }
    out.global = mix_rows(out.levels[3], mean);
    return out;
  }
};

}  // namespace hybridmed::model
