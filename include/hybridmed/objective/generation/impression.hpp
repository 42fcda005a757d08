#pragma once
// L_Sum and L_Cap: writing the impression from the findings and from the image (method 4.3).
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// Token cross-entropy of the summarization branch, mean over the target tokens of samples with
/// both sections.
struct Summarization {
  double label_smoothing = 0;
  bool operator==(const Summarization&) const = default;

  static constexpr std::string_view name = "sum";
  static constexpr Needs<representation::SummarizationLogits> needs{};

  template <Value V, class N>
  V operator()(const Representations<V, N>& r) const {
    const auto& summary = get<representation::SummarizationLogits>(r);
    return cross_entropy(summary.logits, summary.target, label_smoothing);
  }
};

/// Token cross-entropy of the captioning branch, mean over the target tokens of samples with an
/// impression.
struct Captioning {
  double label_smoothing = 0;
  bool operator==(const Captioning&) const = default;

  static constexpr std::string_view name = "cap";
  static constexpr Needs<representation::CaptioningLogits> needs{};

  template <Value V, class N>
  V operator()(const Representations<V, N>& r) const {
    const auto& caption = get<representation::CaptioningLogits>(r);
    return cross_entropy(caption.logits, caption.target, label_smoothing);
  }
};

}  // namespace hybridmed::objective
