#pragma once
// ResNet v1.5 (He et al., CVPR 2016; the stride in the 3x3 convolution). Levels: LayerNorm_l over
// the channels of each stage's output; global: the mean of the last level. Equal to torchvision's
// up to the level norms.
#include "hybridmed/model/image_encoder.hpp"
#include "hybridmed/model/mean_pool.hpp"
#include "hybridmed/nn/layers.hpp"

namespace hybridmed::model {

/// Residual block, basic (3x3, 3x3) or bottleneck (1x1, 3x3 with the stride, 1x1), projected where
/// the shape changes.
template <class T, class B>
struct ResidualBlock {
  std::vector<nn::Convolution<T, B>> conv;
  std::vector<nn::BatchNorm<T, B>> bn;
  std::vector<nn::Convolution<T, B>> down;  // none or one
  std::vector<nn::BatchNorm<T, B>> down_bn;

  ResidualBlock(Index in, Index width, Index out, Index stride, bool bottleneck) {
    const std::vector<Index> kernel =
        bottleneck ? std::vector<Index>{1, 3, 1} : std::vector<Index>{3, 3};
    const std::vector<Index> channels =
        bottleneck ? std::vector<Index>{in, width, width, out} : std::vector<Index>{in, width, out};
    for (std::size_t n = 0; n < kernel.size(); ++n) {
      conv.emplace_back(channels[n], channels[n + 1], kernel[n],
                        n == (bottleneck ? 1u : 0u) ? stride : 1);
      bn.emplace_back(channels[n + 1]);
    }
    if (stride > 1 || in != out) {
      down.emplace_back(in, out, 1, stride);
      down_bn.emplace_back(out);
    }
  }
  template <class F>
  void visit(F&& f) {
    for (std::size_t n = 0; n < conv.size(); ++n) {
      f("conv" + std::to_string(n + 1), conv[n]);
      f("bn" + std::to_string(n + 1), bn[n]);
    }
    if (!down.empty()) {
      f("down", down[0]);
      f("down_bn", down_bn[0]);
    }
  }
  /// x (batch * side * side, in); `side` becomes that of the output.
  template <Value V>
  V operator()(const V& x, Index batch, Index& side, const nn::Mode& mode) const {
    V y = x;
    Index s = side;
    for (std::size_t n = 0; n < conv.size(); ++n) {
      y = bn[n](conv[n](y, batch, s), mode);
      s = conv[n].shape(batch, s).out_height();
      if (n + 1 < conv.size()) y = activate(y, Activation::relu);
    }
    const V shortcut = down.empty() ? x : down_bn[0](down[0](x, batch, side), mode);
    side = s;
    return activate(add(y, shortcut), Activation::relu);
  }
};

template <class T, class B>
struct ResNetStage {
  std::vector<ResidualBlock<T, B>> blocks;
  template <class F>
  void visit(F&& f) {
    f("blocks", blocks);
  }
};

template <class T, class B>
struct ResNet {
  nn::Convolution<T, B> stem;
  nn::BatchNorm<T, B> stem_bn;
  std::vector<ResNetStage<T, B>> stages;
  std::vector<nn::LayerNorm<T, B>> level_norm;
  RowMixing<accumulator_of<T>, B> mean;
  ResNetConfig config;

  ResNet() = default;
  /// @throws Error where the numbers of the configuration do not fit each other.
  explicit ResNet(const ResNetConfig& c)
      : stem(3, c.width, c.stem, 2),
        stem_bn(c.width),
        mean(mean_of_rows<accumulator_of<T>, B>(c.levels()[3].places())),
        config(c) {
    for (std::size_t l = 0; l < 4; ++l) {
      ResNetStage<T, B> stage;
      const Index out = c.levels()[l].width, first = l == 0 ? c.width : c.levels()[l - 1].width;
      for (Index i = 0; i < c.depths[l]; ++i)
        stage.blocks.emplace_back(i ? out : first, c.width << l, out, l && i == 0 ? 2 : 1,
                                  c.block == ResNetBlock::bottleneck);
      stages.push_back(std::move(stage));
      level_norm.emplace_back(out, c.ln_eps);
    }
  }
  LevelShapes levels() const { return config.levels(); }
  template <class F>
  void visit(F&& f) {
    f("stem", stem);
    f("stem_bn", stem_bn);
    f("stages", stages);
    f("level_norm", level_norm);
  }

  /// image (B, 3, S, S)
  template <Value V>
  ImageFeatures<V> operator()(const tensor_of<V>& image, const nn::Mode& mode, Levels want) const {
    need_images("ResNet", image, config.image_size);
    const Index batch = image.shape()[0], pixels = image.shape()[2] * image.shape()[3];
    tensor_of<V> last({batch * pixels, 3});
    B::transpose(batch, 3, pixels, image.data(), last.data());
    Index side = image.shape()[2];
    V x = stem(V(last), batch, side);
    side = stem.shape(batch, side).out_height();
    x = activate(stem_bn(x, mode), Activation::relu);
    if (config.stem == 7) {
      const ConvShape s{batch, side, side, value(x).cols(), value(x).cols(), 3, 2, 1};
      x = max_pool(x, s);
      side = s.out_height();
    }
    ImageFeatures<V> out;
    for (std::size_t l = 0; l < 4; ++l) {
      for (const auto& block : stages[l].blocks) x = block(x, batch, side, mode);
      if (l == 3 || want == Levels::all) out.levels[l] = level_norm[l].wide(x);
    }
    out.global = mix_rows(out.levels[3], mean);
    return out;
  }
};

}  // namespace hybridmed::model
