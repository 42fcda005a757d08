#pragma once
// L_CG, global image <-> impression (method 4.1).
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// Symmetric InfoNCE over the samples with an impression, learnable clamped scale (Radford et al.,
/// CLIP, ICML 2021). `dedup_targets`: equal impressions are positives of each other. Weights 0.5 /
/// 0.5 are CLIP's, .75 / .25 ConVIRT's.
struct InfoNce {
  double label_smoothing = 0;
  bool dedup_targets = false;
  double image_weight = 0.5, text_weight = 0.5;

  static constexpr std::string_view name = "cg";
  static constexpr unsigned needs = image_global | text_global;

  template <Value V>
  V operator()(const Representations<V>& r) const {
    const V s = scaled_similarity(normalize_rows(r.image), normalize_rows(r.text), r.log_scale);
    if (dedup_targets && value(r.image).rows() > 0 && r.keys.size() != value(r.image).rows())
      fail("objective", "InfoNce",
           "dedup_targets needs one impression key per sample, got " +
               std::to_string(r.keys.size()));
    return symmetric_cross_entropy(s, dedup_targets ? r.keys : IndexTensor<backend_of<V>>(),
                                   label_smoothing, image_weight, text_weight);
  }
};

}  // namespace hybridmed::objective
