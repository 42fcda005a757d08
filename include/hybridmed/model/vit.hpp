#pragma once
// Vision Transformer (Dosovitskiy et al., ICLR 2021) with four taps: LayerNorm_l of the patch tokens after blocks L/4,
// L/2, 3L/4 and L; the global vector is the CLS token after LayerNorm_3.
#include "hybridmed/model/image_encoder.hpp"
#include "hybridmed/nn/patches.hpp"
#include "hybridmed/nn/transformer.hpp"

namespace hybridmed::model {

template <class T, class B>
struct Vit {
  nn::PatchEmbed<T, B> patch;
  Parameter<T, B> cls, pos;  // (C), (1 + N, C)
  std::vector<nn::TransformerBlock<T, B>> blocks;
  std::vector<nn::LayerNorm<T, B>> level_norm;

  Vit() = default;
  explicit Vit(const Config& c) : patch(c.patch, c.image_width), cls({c.image_width}), pos({1 + c.level_side(0) * c.level_side(0), c.image_width}) {
    for (Index i = 0; i < c.image_depth; ++i)
      blocks.emplace_back(c.image_width, c.image_mlp_ratio * c.image_width, c.image_ln_eps, nn::SelfAttention<T, B>(c.image_width, c.image_heads));
    for (int l = 0; l < 4; ++l) level_norm.emplace_back(c.image_width, c.image_ln_eps);
  }
  template <class F>
  void visit(F&& f) {
    f("patch", patch), f("cls", cls), f("pos", pos), f("blocks", blocks), f("level_norm", level_norm);
  }

  /// image (B, 3, S, S)
  template <Value V>
  ImageFeatures<V> operator()(const tensor_of<V>& image, const nn::Mode& mode, Levels want) const {
    prepare(image.shape()[0]);
    V x = gather_rows(patch.template embed<V>(image), patch_index_);
    x = add(x, gather_rows(use<V>(cls), cls_index_));
    x = add(x, gather_rows(use<V>(pos), pos_index_));
    ImageFeatures<V> out;
    const std::size_t quarter = blocks.size() / 4;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      x = blocks[i].train(x, mode, i, segments_, false);
      if (i + 1 == blocks.size()) {
        const V y = level_norm[3](x);
        out.levels[3] = gather_rows(y, patch_rows_);
        out.global = gather_rows(y, cls_rows_);
      } else if (want == Levels::all && (i + 1) % quarter == 0) {
        const std::size_t l = (i + 1) / quarter - 1;
        out.levels[l] = level_norm[l](gather_rows(x, patch_rows_));
      }
    }
    return out;
  }

 private:
  void prepare(Index batch) const {
    if (batch == prepared_) return;
    const Index n = pos.value.rows();
    std::vector<std::int32_t> patches, cls_at, position, ranges, patch_rows, cls_rows;
    for (Index b = 0; b < batch; ++b) {
      for (Index i = 0; i < n; ++i) {
        patches.push_back(static_cast<std::int32_t>(i ? b * (n - 1) + i - 1 : -1));
        cls_at.push_back(i ? -1 : 0);
        position.push_back(static_cast<std::int32_t>(i));
        (i ? patch_rows : cls_rows).push_back(static_cast<std::int32_t>(b * n + i));
      }
      ranges.push_back(static_cast<std::int32_t>(b * n)), ranges.push_back(static_cast<std::int32_t>((b + 1) * n));
    }
    const auto index = [](const std::vector<std::int32_t>& v) { return IndexTensor<B>::from_host(v, {static_cast<Index>(v.size())}); };
    patch_index_ = index(patches), cls_index_ = index(cls_at), pos_index_ = index(position), patch_rows_ = index(patch_rows), cls_rows_ = index(cls_rows);
    segments_ = Segments<B>(ranges, batch * n);
    prepared_ = batch;
  }
  mutable Index prepared_ = -1;
  mutable IndexTensor<B> patch_index_, cls_index_, pos_index_, patch_rows_, cls_rows_;
  mutable Segments<B> segments_;
};

}  // namespace hybridmed::model
