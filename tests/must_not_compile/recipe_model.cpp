// expects: hybridmed: a recipe's own model is template <class T, class B> static auto model(const
// model::Config&); see docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

using namespace hybridmed;

/// Its model belongs to an object, and a recipe has none.
struct Recipe {
  static constexpr std::string_view name = "recipe";
  static auto stages(const model::Config& c) {
    return std::tuple{system::StageRecipe{"learns to align", 1.0 * system::info_nce(c)}};
  }
  template <class T, class B>
#ifdef HYBRIDMED_CONTROL
  static auto model(const model::Config& c){
#else
  auto model(const model::Config& c) const {
#endif
      return model::make_hybridmed<T, B>(c, system::needs_of_recipe<Recipe>);
}
}
;
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
