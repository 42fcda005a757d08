#pragma once
// L_Sum and L_Cap: writing the impression from the findings and from the image (method 4.3).
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// Token cross-entropy of the summarization branch, mean over the target tokens of samples with
/// both sections.
struct Summarization {
  double label_smoothing = 0;
  static constexpr std::string_view name = "sum";
  static constexpr unsigned needs = summarization_logits;
  template <Value V>
  V operator()(const Representations<V>& r) const {
    return cross_entropy(r.logits_sum, r.target_sum, label_smoothing);
  }
};

/// Token cross-entropy of the captioning branch, mean over the target tokens of samples with an
/// impression.
struct Captioning {
  double label_smoothing = 0;
  static constexpr std::string_view name = "cap";
  static constexpr unsigned needs = captioning_logits;
  template <Value V>
  V operator()(const Representations<V>& r) const {
    return cross_entropy(r.logits_cap, r.target_cap, label_smoothing);
  }
};

}  // namespace hybridmed::objective
