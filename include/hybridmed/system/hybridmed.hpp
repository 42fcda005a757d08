#pragma once
// HybridMED (arXiv 2410.00448) as a system: summarization first, then all five terms with the
// summarization branch as a frozen teacher.
#include "hybridmed/objective/alignment/local.hpp"
#include "hybridmed/objective/distillation/logits.hpp"
#include "hybridmed/objective/generation/impression.hpp"
#include "hybridmed/system/contrast.hpp"
#include "hybridmed/system/recipe.hpp"

namespace hybridmed::system {

struct HybridMed {
  static constexpr std::string_view name = "hybridmed";

  /// Stage 1: summarization alone.
  static auto summarization(const model::Config& c) {
    return c.lambda_sum * objective::Summarization{c.label_smoothing_gen};
  }
  /// Stage 2: all five terms (method 1.1, item 5).
  static auto alignment(const model::Config& c) {
    using namespace objective;
    return c.lambda_cg * info_nce(c) +
           c.lambda_cl * LocalAlignment{{c.gamma1, c.gamma2, c.aggregation()}, c.gamma3} +
           c.lambda_sum * Summarization{c.label_smoothing_gen} +
           c.lambda_cap * Captioning{c.label_smoothing_gen} +
           c.lambda_dis * LogitDistillation{c.tau_d};
  }
  static auto stages(const model::Config& c) {
    return std::tuple{StageRecipe{"learns to write impressions from findings", summarization(c)},
                      StageRecipe{"learns all terms", alignment(c)}};
  }
  /// Stage 1 trains E_T, SA, LN1, LN3, FFN, LNout, CA^sum and FC^sum; stage 2 everything.
  static bool trains(std::size_t stage, std::string_view parameter) {
    if (stage > 0 || parameter.starts_with("text.")) return true;
    return parameter.starts_with("decoder.") && parameter.find(".cap.") == parameter.npos &&
           !parameter.starts_with("decoder.fc_cap");
  }
};

}  // namespace hybridmed::system
