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

  SwinStage(const Config& c, int level) {
    const Index width = c.level_width(level), side = c.level_side(level),
                window = c.window < side ? c.window : side;
    if (level) merge.emplace_back(width / 2, side * 2, c.image_ln_eps);
    const nn::Stack stack{c.swin_depths[0] + c.swin_depths[1] + c.swin_depths[2] +
                          c.swin_depths[3]};
    for (Index i = 0; i < c.swin_depths[static_cast<std::size_t>(level)]; ++i)
      blocks.emplace_back(
          width, c.image_ln_eps,
          nn::WindowAttention<T, B>(width, c.swin_heads[static_cast<std::size_t>(level)], window,
                                    i % 2 && side > c.window ? window / 2 : 0, side, stack),
          nn::FeedForward<T, B>(width, c.image_mlp_ratio * width, stack));
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
  RowMixing<T, B> mean;
  Index image_size = 0;

  Swin() = default;
  explicit Swin(const Config& c)
      : patch(c.patch, c.image_width),
        patch_norm(c.image_width, c.image_ln_eps),
        mean(mean_of_rows<T, B>(c.level_side(3) * c.level_side(3))),
        image_size(c.image_size) {
    for (int l = 0; l < 4; ++l) {
      stages.emplace_back(c, l);
      level_norm.emplace_back(c.level_width(l), c.image_ln_eps);
    }
  }
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
    need_images("Swin", image, image_size);
    const Index batch = image.shape()[0];
    V x = patch_norm(patch.template embed<V>(image));
    ImageFeatures<V> out;
    std::uint64_t site = 0;
    for (std::size_t l = 0; l < 4; ++l) {
      if (l) x = stages[l].merge[0](x, batch);
      for (const auto& block : stages[l].blocks) x = block.train(x, mode, site++, batch);
      if (l == 3 || want == Levels::all) out.levels[l] = level_norm[l](x);
    }
    out.global = mix_rows(out.levels[3], mean);
    return out;
  }
};

}  // namespace hybridmed::model
