// expects: hybridmed: a system is made from a recipe with static members name and stages(config),
// a tuple of StageRecipe; see docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

using namespace hybridmed;

/// Says what it learns, and not how it is called.
struct Recipe {
#ifdef HYBRIDMED_CONTROL
  static constexpr std::string_view name = "recipe";
#endif
  static auto stages(const model::Config& c) {
    return std::tuple{system::StageRecipe{"learns to align", 1.0 * system::info_nce(c)}};
  }
};
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
