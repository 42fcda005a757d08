#pragma once
// CoCa as a system.
#include "hybridmed/objective/generation/impression.hpp"
#include "hybridmed/system/contrast.hpp"
#include "hybridmed/system/recipe.hpp"

namespace hybridmed::system {

/// CoCa (Yu et al., TMLR 2022): InfoNCE and captioning, 1 : 2. Here the decoder reads a projected
/// feature map (CoCa: learned queries pooled by attention), and every decoder block holds both
/// self- and cross-attention.
struct CoCa {
  static constexpr std::string_view name = "coca";
  static auto stages(const model::Config& c) {
    return std::tuple{
        StageRecipe{"learns to align and to write",
                    c.lambda_cg * info_nce(c) +
                        2 * c.lambda_cap * objective::Captioning{c.label_smoothing_gen}}};
  }
};

}  // namespace hybridmed::system
