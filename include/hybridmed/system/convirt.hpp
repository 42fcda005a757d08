#pragma once
// ConVIRT as a system.
#include "hybridmed/system/contrast.hpp"
#include "hybridmed/system/recipe.hpp"

namespace hybridmed::system {

/// ConVIRT (Zhang et al., MLHC 2022): .75 image to text + .25 text to image at a fixed temperature
/// of .1. Here the projections are one linear layer (ConVIRT: two with a ReLU), and the text is the
/// impression (ConVIRT: a random sentence of the report).
struct ConVirt {
  static constexpr std::string_view name = "convirt";
  static auto stages(const model::Config& c) {
    auto contrast = info_nce(c);
    contrast.image_weight = 0.75;
    contrast.text_weight = 0.25;
    contrast.temperature = objective::Temperature::fixed(0.1);
    return std::tuple{StageRecipe{"learns to align", c.lambda_cg * contrast}};
  }
};

}  // namespace hybridmed::system
