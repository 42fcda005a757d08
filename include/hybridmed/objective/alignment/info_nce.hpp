#pragma once
// L_CG, global image <-> impression (method 4.1).
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/objective/alignment/temperature.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// Symmetric InfoNCE over the samples with an impression, learnable clamped scale (Radford et al.,
/// CLIP, ICML 2021). `dedup_targets`: equal impressions are positives of each other. Weights 0.5 /
/// 0.5 are CLIP's, .75 / .25 ConVIRT's.
struct InfoNce {
  double label_smoothing = 0;
  bool dedup_targets = false;
  double image_weight = 0.5, text_weight = 0.5;
  Temperature temperature{};
  bool operator==(const InfoNce&) const = default;

  static constexpr std::string_view name = "cg";
  static constexpr Needs<representation::ImageGlobal, representation::ImpressionGlobal> needs{};
  static constexpr bool compares_samples = true;

  template <class T, class B>
  struct State : TemperatureState<T, B> {
    explicit State(const InfoNce& o) : TemperatureState<T, B>(o.temperature) {}
  };
  template <class S>
  void constrain(S& state) const {
    state.constrain(temperature);
  }

  template <Value V, class N>
  V operator()(const Representations<V, N>& r,
               const State<scalar_of<V>, backend_of<V>>& state) const {
    const auto& image = get<representation::ImageGlobal>(r);
    const auto& text = get<representation::ImpressionGlobal>(r);
    const V s = scaled_similarity(normalize_rows(image.projected), normalize_rows(text.projected),
                                  use<V>(state.log_scale));
    const Index n = value(image.projected).rows();
    if (dedup_targets && n > 0 && text.keys.size() != n)
      fail("objective", "InfoNce",
           "dedup_targets needs one impression key per sample, got " +
               std::to_string(text.keys.size()));
    return symmetric_cross_entropy(s, dedup_targets ? text.keys : IndexTensor<backend_of<V>>(),
                                   label_smoothing, image_weight, text_weight);
  }
};

}  // namespace hybridmed::objective
