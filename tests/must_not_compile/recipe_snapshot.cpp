// expects: hybridmed: a model whose objectives read TeacherLogits has snapshot(), which makes a
// model::Teacher<T, B>; see docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

#include "wrapped_model.hpp"

using namespace hybridmed;

/// A model without snapshot().
template <class T, class B>
struct Own : WrappedModel<T, B> {
  model::TextPlan<B> plan(const SectionView& findings, const SectionView& impression,
                          std::span<const std::int32_t> keys) const {
    return this->inner.plan(findings, impression, keys);
  }
#ifdef HYBRIDMED_CONTROL
  auto snapshot() { return this->inner.snapshot(); }
#endif
};
struct Recipe {
  static constexpr std::string_view name = "recipe";
  static auto stages(const model::Config& c) {
    return std::tuple{
        system::StageRecipe{"is taught", 1.0 * objective::LogitDistillation{c.tau_d}}};
  }
  template <class T, class B>
  static auto model(const model::Config& c) {
    return Own<T, B>{{model::make_hybridmed<T, B>(c)}};
  }
};
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
