#pragma once
// The contrastive term that most systems share.
#include "hybridmed/model/config.hpp"
#include "hybridmed/objective/alignment/info_nce.hpp"

namespace hybridmed::system {

/// Between image and impression, as a configuration describes it.
inline objective::InfoNce info_nce(const model::Config& c) {
  return {.label_smoothing = c.label_smoothing_cg,
          .dedup_targets = c.dedup_targets,
          .temperature = {c.log_scale_init, c.log_scale_max, true}};
}

}  // namespace hybridmed::system
