#pragma once
// Vision Transformer (Dosovitskiy et al., ICLR 2021) with four taps: LayerNorm_l of the patch
// tokens after blocks L/4, L/2, 3L/4 and L; the global vector is the CLS token after LayerNorm_3.
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
  VitConfig config;

  Vit() = default;
  /// @throws Error where the numbers of the configuration do not fit each other.
  explicit Vit(const VitConfig& c)
      : patch(c.patch, c.width),
        cls({c.width}, init::normal(0.02)),
        pos({1 + c.levels()[0].places(), c.width}, init::normal(0.01), no_decay),
        config(c) {
    const nn::Stack stack{c.depth};
    for (Index i = 0; i < c.depth; ++i)
      blocks.emplace_back(c.width, c.ln_eps, nn::SelfAttention<T, B>(c.width, c.heads, stack),
                          nn::FeedForward<T, B>(c.width, c.mlp_ratio * c.width, stack));
    for (int l = 0; l < 4; ++l) level_norm.emplace_back(c.width, c.ln_eps);
  }
  LevelShapes levels() const { return config.levels(); }
  template <class F>
  void visit(F&& f) {
    f("patch", patch);
    f("cls", cls);
    f("pos", pos);
    f("blocks", blocks);
    f("level_norm", level_norm);
  }

  /// image (B, 3, S, S)
  template <Value V>
  ImageFeatures<V> operator()(const tensor_of<V>& image, const nn::Mode& mode, Levels want) const {
    need_images("Vit", image, config.image_size);
    const Places at = places(image.shape()[0]);
    V x = gather_rows(patch.template embed<V>(image), at.patch);
    x = add(x, gather_rows(use<V>(cls), at.cls));
    x = add(x, gather_rows(use<V>(pos), at.position));
    ImageFeatures<V> out;
    const std::size_t quarter = blocks.size() / 4;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      x = blocks[i].train(x, mode, i, at.segments, false);
      if (i + 1 == blocks.size()) {
        const V y = level_norm[3](x);
        out.levels[3] = gather_rows(y, at.patch_rows);
        out.global = gather_rows(y, at.cls_rows);
      } else if (want == Levels::all && (i + 1) % quarter == 0) {
        const std::size_t l = (i + 1) / quarter - 1;
        out.levels[l] = level_norm[l](gather_rows(x, at.patch_rows));
      }
    }
    return out;
  }

 private:
  /// Which row is what in a batch; a sequence is CLS, then the patches. Made for each call, so that
  /// threads can share the model.
  struct Places {
    IndexTensor<B> patch, cls, position;  // per row of the sequences: its patch, CLS token and
                                          // position; -1 where it has none
    IndexTensor<B> patch_rows, cls_rows;  // the rows of patches and of CLS tokens
    Segments<B> segments;
  };
  Places places(Index batch) const {
    const Index n = pos.value.rows();
    ArenaVector<std::int32_t> patches{-1}, cls_at{0}, position{0}, patch_rows;
    for (Index i = 1; i < n; ++i) {
      patches.push_back(static_cast<std::int32_t>(i - 1));
      cls_at.push_back(-1);
      position.push_back(static_cast<std::int32_t>(i));
      patch_rows.push_back(static_cast<std::int32_t>(i));
    }
    return {repeated_indices<B>(patches, batch, n - 1), repeated_indices<B>(cls_at, batch, 0),
            repeated_indices<B>(position, batch, 0),    repeated_indices<B>(patch_rows, batch, n),
            repeated_indices<B>({0}, batch, n),         equal_segments<B>(batch, n)};
  }
};

}  // namespace hybridmed::model
