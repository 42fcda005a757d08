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
    place_rows(1 + c.levels()[0].places());
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
    const Index batch = image.shape()[0];
    const IndexTensor<B> patch_rows = patch_rows_.times(batch);
    const Segments<B> segments = sequence_.times(batch);
    using W = Wide<V>;
    W x = gather_rows(patch.template embed<V>(image), patch_.times(batch));
    x = add(x, gather_rows(use<W>(cls), cls_.times(batch)));
    x = add(x, gather_rows(use<W>(pos), position_.times(batch)));
    ImageFeatures<V> out;
    const std::size_t quarter = blocks.size() / 4;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      x = blocks[i].train(x, mode, i, segments, false);
      if (i + 1 == blocks.size()) {
        const W y = level_norm[3].wide(x);
        out.levels[3] = gather_rows(y, patch_rows);
        out.global = gather_rows(y, cls_rows_.times(batch));
      } else if (want == Levels::all && (i + 1) % quarter == 0) {
        const std::size_t l = (i + 1) / quarter - 1;
        out.levels[l] = level_norm[l].wide(gather_rows(x, patch_rows));
      }
    }
    return out;
  }

 private:
  // Which row is what in a sequence, CLS and then the patches.
  IndexPattern<B> patch_, cls_, position_;  // per row: its patch, CLS token and position, or -1
  IndexPattern<B> patch_rows_, cls_rows_;   // the rows of patches, and of the CLS token
  EqualSegments<B> sequence_;

  void place_rows(Index rows) {
    ArenaVector<std::int32_t> patches{-1}, cls_at{0}, position{0}, patch_rows;
    for (Index i = 1; i < rows; ++i) {
      patches.push_back(static_cast<std::int32_t>(i - 1));
      cls_at.push_back(-1);
      position.push_back(static_cast<std::int32_t>(i));
      patch_rows.push_back(static_cast<std::int32_t>(i));
    }
    patch_ = IndexPattern<B>(patches, rows - 1);
    cls_ = IndexPattern<B>(cls_at, 0);
    position_ = IndexPattern<B>(position, 0);
    patch_rows_ = IndexPattern<B>(patch_rows, rows);
    cls_rows_ = IndexPattern<B>({0}, rows);
    sequence_ = EqualSegments<B>(rows);
  }
};

}  // namespace hybridmed::model
