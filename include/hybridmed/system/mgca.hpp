#pragma once
// MGCA as a system.
#include "hybridmed/objective/alignment/prototype.hpp"
#include "hybridmed/objective/alignment/token.hpp"
#include "hybridmed/system/contrast.hpp"
#include "hybridmed/system/recipe.hpp"

namespace hybridmed::system {

/// MGCA (Wang et al., NeurIPS 2022): instances (InfoNCE, both directions summed, temperature .07),
/// tokens within a sample, and prototypes across samples. Here projections are one linear layer
/// (MGCA: two with BatchNorm), token weights are uniform (MGCA: the last layer's CLS attention),
/// token attention has no projection of its own, and instances and prototypes see the impression,
/// tokens the findings (MGCA: one text).
struct Mgca {
  static constexpr std::string_view name = "mgca";
  /// Words attended to regions at this inverse temperature, so they are scored at it too.
  static constexpr double scored_gamma1 = 1 / objective::TokenAlignment{}.temperature;
  static auto stages(const model::Config& c) {
    auto contrast = info_nce(c);
    contrast.image_weight = contrast.text_weight = 1;
    contrast.temperature = objective::Temperature::fixed(0.07);
    return std::tuple{StageRecipe{
        "learns to align",
        c.lambda_cg * contrast + c.lambda_token * objective::TokenAlignment{} +
            c.lambda_prototype *
                objective::PrototypeAlignment{.prototypes = c.prototypes, .width = c.d_e}}};
  }
};

}  // namespace hybridmed::system
