#pragma once
// What each part of a model is told: a part can be built from its own configuration alone.
// `Config` makes them from its flat keys.
#include <array>
#include <string>

#include "hybridmed/core/error.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed::model {

/// A level of an image encoder: the side of its square map, and the features of a place.
struct LevelShape {
  Index side = 0, width = 0;
  Index places() const { return side * side; }
};
using LevelShapes = std::array<LevelShape, 4>;

namespace detail {
inline void need_part(bool ok, const char* part, const std::string& why) {
  if (!ok) fail("model", part, why);
}
/// Sides of a pyramid whose first level has `side` places a side: each is half of the one before.
inline LevelShapes pyramid(const char* part, Index image_size, Index patch, Index width) {
  need_part(patch >= 1 && width >= 1, part,
            "expected patch and width of at least 1, got " + std::to_string(patch) + " and " +
                std::to_string(width));
  need_part(image_size >= 1 && image_size % (8 * patch) == 0, part,
            "image_size: expected a multiple of 8 * " + std::to_string(patch) +
                " (four levels), got " + std::to_string(image_size));
  LevelShapes levels;
  for (int l = 0; l < 4; ++l)
    levels[static_cast<std::size_t>(l)] = {(image_size / patch) >> l, width << l};
  return levels;
}
}  // namespace detail

/// Vision Transformer; the defaults are ViT-B/16.
struct VitConfig {
  Index image_size = 224, patch = 16;
  Index width = 768, depth = 12, heads = 12;  ///< depth: a multiple of 4, for four levels
  Index mlp_ratio = 4;                        ///< hidden features of a feed-forward part, in widths
  double ln_eps = 1e-6;
  bool operator==(const VitConfig&) const = default;

  /// @throws Error where the numbers do not fit each other.
  LevelShapes levels() const {
    detail::need_part(patch >= 1 && image_size >= patch && image_size % patch == 0, "Vit",
                      "image_size: expected a multiple of patch = " + std::to_string(patch) +
                          ", got " + std::to_string(image_size));
    detail::need_part(
        depth >= 4 && depth % 4 == 0, "Vit",
        "expected image_depth to be a multiple of 4 (four levels), got " + std::to_string(depth));
    LevelShapes levels;
    levels.fill({image_size / patch, width});
    return levels;
  }
};

/// Swin Transformer; the defaults are Swin-T.
struct SwinConfig {
  Index image_size = 224, patch = 4;
  Index width = 96;  ///< of the first level; each has twice that of the one before
  std::array<Index, 4> depths{2, 2, 6, 2}, heads{3, 6, 12, 24};
  Index window = 7, mlp_ratio = 4;
  double ln_eps = 1e-5;
  bool operator==(const SwinConfig&) const = default;

  /// @throws Error where the numbers do not fit each other.
  LevelShapes levels() const { return detail::pyramid("Swin", image_size, patch, width); }
};

enum class ResNetBlock { basic, bottleneck };

/// ResNet; the defaults are ResNet-18.
struct ResNetConfig {
  Index image_size = 224;
  Index width = 64;  ///< of the stem
  ResNetBlock block = ResNetBlock::basic;
  std::array<Index, 4> depths{2, 2, 2, 2};
  Index stem = 7;  ///< 7: 7x7, stride 2, and max-pooling; 3: 3x3, stride 2
  double ln_eps = 1e-5;
  bool operator==(const ResNetConfig&) const = default;

  /// @throws Error where the numbers do not fit each other.
  LevelShapes levels() const {
    detail::need_part(stem == 7 || stem == 3, "ResNet",
                      "stem: expected 7 or 3, got " + std::to_string(stem));
    return detail::pyramid("ResNet", image_size, stem == 7 ? 4 : 2,
                           block == ResNetBlock::bottleneck ? 4 * width : width);
  }
};

/// Text encoder.
struct TextConfig {
  Index vocabulary = 30522, positions = 160;  ///< positions: of the longest section
  Index width = 768, depth = 6, heads = 12, mlp_ratio = 4;
  double ln_eps = 1e-5;
  bool causal = true;  ///< a token sees only those before it; false: all of its section
};

/// Decoder of impressions.
struct DecoderConfig {
  Index vocabulary = 30522;
  Index width = 768, depth = 6, heads = 12, mlp_ratio = 4;
  double ln_eps = 1e-5;
};

/// Aggregation of the four levels into regions.
struct AggregatorConfig {
  Index grid = 14;                 ///< side of the grid of regions
  Index width = 512, joint = 512;  ///< features of the aggregation (d_a), of a region (d_e)
  double ln_eps = 1e-5;
};

}  // namespace hybridmed::model
