#pragma once
// GLoRIA as a system.
#include "hybridmed/objective/alignment/local.hpp"
#include "hybridmed/system/contrast.hpp"
#include "hybridmed/system/recipe.hpp"

namespace hybridmed::system {

/// GLoRIA (Huang et al., ICCV 2021): global InfoNCE and attention-pooled local contrast,
/// log-sum-exp over words (gamma 4, 5 and 10, the defaults here), fixed temperature 1/10, each the
/// plain sum of both directions. Here local image features come from four levels (GLoRIA: one), the
/// global text is the impression and the words are the findings' (GLoRIA: one text for both).
struct Gloria {
  static constexpr std::string_view name = "gloria";
  static auto stages(const model::Config& c) {
    auto contrast = info_nce(c);
    contrast.image_weight = contrast.text_weight = 1;
    contrast.temperature = objective::Temperature::fixed(0.1);
    const objective::LocalAlignment local{.score = {c.gamma1, c.gamma2, LocalAggregation::sum},
                                          .gamma3 = c.gamma3,
                                          .image_weight = 1,
                                          .text_weight = 1};
    return std::tuple{StageRecipe{"learns to align", c.lambda_cg * contrast + c.lambda_cl * local}};
  }
};

}  // namespace hybridmed::system
