// expects: hybridmed: the model of a recipe has a type Batch, which is model::Batch<T, B>, and
// plan(findings, impression, keys) const, which makes the model::TextPlan<B> of a batch; see
// docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

#include "wrapped_model.hpp"

using namespace hybridmed;

/// A model without plan().
template <class T, class B>
struct Own : WrappedModel<T, B> {
#ifdef HYBRIDMED_CONTROL
  model::TextPlan<B> plan(const SectionView& findings, const SectionView& impression,
                          std::span<const std::int32_t> keys) const {
    return this->inner.plan(findings, impression, keys);
  }
#endif
};
struct Recipe {
  static constexpr std::string_view name = "recipe";
  static auto stages(const model::Config& c) {
    return std::tuple{system::StageRecipe{"learns to align", 1.0 * system::info_nce(c)}};
  }
  template <class T, class B>
  static auto model(const model::Config& c) {
    return Own<T, B>{{model::make_hybridmed<T, B>(c)}};
  }
};
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
