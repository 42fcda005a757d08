#pragma once
// Which parts of the model a set of representations is computed by; image encoder and text encoder
// are always there.
#include "hybridmed/representation/tags.hpp"

namespace hybridmed::model {

/// Parts of HybridMed that objectives can do without.
struct Parts {
  bool image_global = false;   ///< proj.image_global
  bool text_global = false;    ///< proj.text_global
  bool regions = false;        ///< aggregator
  bool words = false;          ///< proj.text_local
  bool summarization = false;  ///< decoder, branch `sum`
  bool captioning = false;     ///< memory; decoder, branch `cap`

  /// Are all of these parts here too?
  bool hold(const Parts& o) const {
    return image_global >= o.image_global && text_global >= o.text_global && regions >= o.regions &&
           words >= o.words && summarization >= o.summarization && captioning >= o.captioning;
  }
};

/// The parts that compute these representations. One that HybridMed does not know needs none: the
/// model that sets it brings what it takes.
template <class... R>
constexpr Parts parts_of(representation::Needs<R...> needs) {
  using namespace representation;
  using N = decltype(needs);
  return {N::template has<ImageGlobal>,         N::template has<ImpressionGlobal>,
          N::template has<ImageTokens>,         N::template has<FindingsTokens>,
          N::template has<SummarizationLogits>, N::template has<CaptioningLogits>};
}

}  // namespace hybridmed::model
