#pragma once
// CLIP as a system.
#include "hybridmed/system/contrast.hpp"
#include "hybridmed/system/recipe.hpp"

namespace hybridmed::system {

/// CLIP (Radford et al., ICML 2021): symmetric InfoNCE with a learnable, clamped temperature. Here
/// the text is the impression, its vector the state of a CLS token (CLIP: of the end-of-text token)
/// of a model trained from scratch.
struct Clip {
  static constexpr std::string_view name = "clip";
  static auto stages(const model::Config& c) {
    return std::tuple{StageRecipe{"learns to align", c.lambda_cg * info_nce(c)}};
  }
};

}  // namespace hybridmed::system
