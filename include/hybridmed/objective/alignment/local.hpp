#pragma once
// L_CL, image tokens <-> findings words (method 4.2a).
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// Attention-pooled local contrast (Huang et al., GLoRIA, ICCV 2021): cross-entropy over rows and
/// columns of gamma3 Z.
struct LocalAlignment {
  LocalScore score{};
  double gamma3 = 10;
  double image_weight = 0.5, text_weight = 0.5;
  bool operator==(const LocalAlignment&) const = default;

  static constexpr std::string_view name = "cl";
  static constexpr Needs<representation::ImageTokens, representation::FindingsTokens> needs{};
  static constexpr bool compares_samples = true;

  template <Value V, class N>
  V operator()(const Representations<V, N>& r) const {
    const auto& image = get<representation::ImageTokens>(r);
    const auto& findings = get<representation::FindingsTokens>(r);
    const V z = local_scores(image.regions, image.images, findings.words, findings.offsets, score,
                             image.half_products);
    return symmetric_cross_entropy(scale(z, gamma3), IndexTensor<backend_of<V>>(), 0, image_weight,
                                   text_weight);
  }
};

}  // namespace hybridmed::objective
