#pragma once
// Sibling systems as compositions of the same parts: an objective, and the parts of the model that
// it reads. Each says where it differs from the original architecture; the losses are the
// originals'.
#include "hybridmed/model/hybridmed.hpp"

namespace hybridmed::model {

namespace detail {
template <class T, class B, class System>
auto make_system(const System& system, const Config& c) {
  return make_hybridmed<T, B>(c, decltype(system.objective())::needs);
}
template <class T, class B, class System>
auto make_fixed_temperature(const System& system, Config c) {
  c.log_scale_init = -std::log(system.temperature);
  auto m = make_system<T, B>(system, c);
  m.log_scale.trainable = false;
  return m;
}
}  // namespace detail

/// CLIP (Radford et al., ICML 2021): symmetric InfoNCE with a learnable, clamped temperature. Here
/// the text is the impression, its vector the state of a CLS token (CLIP: of the end-of-text token)
/// of a model trained from scratch.
struct Clip {
  auto objective() const { return 1.0 * objective::InfoNce{}; }
  template <class T, class B>
  auto model(const Config& c) const {
    return detail::make_system<T, B>(*this, c);
  }
};

/// ConVIRT (Zhang et al., MLHC 2022): .75 image to text + .25 text to image at a fixed temperature
/// of .1. Here the projections are one linear layer (ConVIRT: two with a ReLU), and the text is the
/// impression (ConVIRT: a random sentence of the report).
struct ConVirt {
  double image_weight = 0.75, temperature = 0.1;
  auto objective() const {
    return 1.0 * objective::InfoNce{.image_weight = image_weight, .text_weight = 1 - image_weight};
  }
  template <class T, class B>
  auto model(const Config& c) const {
    return detail::make_fixed_temperature<T, B>(*this, c);
  }
};

/// GLoRIA (Huang et al., ICCV 2021): global InfoNCE and attention-pooled local contrast,
/// log-sum-exp over words, fixed temperature 1/10, each the plain sum of both directions. Here
/// local image features come from four levels (GLoRIA: one), the global text is the impression and
/// the words are the findings' (GLoRIA: one text for both).
struct Gloria {
  double temperature = 0.1;
  auto objective() const {
    return 1.0 * objective::InfoNce{.image_weight = 1, .text_weight = 1} +
           1.0 * objective::LocalAlignment{.score = {4, 5, LocalAggregation::sum},
                                           .gamma3 = 10,
                                           .image_weight = 1,
                                           .text_weight = 1};
  }
  template <class T, class B>
  auto model(const Config& c) const {
    return detail::make_fixed_temperature<T, B>(*this, c);
  }
};

/// CoCa (Yu et al., TMLR 2022): InfoNCE and captioning, 1 : 2. Here the decoder reads a projected
/// feature map (CoCa: learned queries pooled by attention), and every decoder block holds both
/// self- and cross-attention.
struct CoCa {
  double caption_weight = 2;
  auto objective() const {
    return 1.0 * objective::InfoNce{} + caption_weight * objective::Captioning{};
  }
  template <class T, class B>
  auto model(const Config& c) const {
    return detail::make_system<T, B>(*this, c);
  }
};

}  // namespace hybridmed::model
