#pragma once
// SigLIP as a system.
#include "hybridmed/objective/alignment/sigmoid.hpp"
#include "hybridmed/system/recipe.hpp"

namespace hybridmed::system {

/// SigLIP (Zhai et al., ICCV 2023): every pair of a batch is a yes or no, with a learned scale and
/// bias. Here the image's vector is the encoder's own (SigLIP: pooled by attention), and the text
/// is the impression.
struct SigLip {
  static constexpr std::string_view name = "siglip";
  static auto stages(const model::Config& c) {
    return std::tuple{
        StageRecipe{"learns to align", c.lambda_siglip * objective::SigmoidContrast{}}};
  }
};

}  // namespace hybridmed::system
