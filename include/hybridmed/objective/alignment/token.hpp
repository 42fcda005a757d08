#pragma once
// Token-wise alignment within a sample (method 4.2b).
#include "hybridmed/autograd/token_alignment.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// Words attend to regions and regions to words; each should find its own attended vector among
/// those of its sample (Wang et al., MGCA, NeurIPS 2022), uniform weights.
struct TokenAlignment {
  double temperature = 0.1;
  bool operator==(const TokenAlignment&) const = default;

  static constexpr std::string_view name = "token";
  static constexpr Needs<representation::ImageTokens, representation::FindingsTokens> needs{};

  template <Value V, class N>
  V operator()(const Representations<V, N>& r) const {
    const auto& image = get<representation::ImageTokens>(r);
    const auto& findings = get<representation::FindingsTokens>(r);
    return token_alignment(image.regions, image.images, findings.words, findings.offsets,
                           temperature);
  }
};

}  // namespace hybridmed::objective
