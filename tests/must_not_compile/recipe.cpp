// expects: hybridmed: a system is made from a recipe with static members name and stages(config),
// a tuple of StageRecipe; see docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

using namespace hybridmed;

/// Says how it is called, and not what it learns.
struct Recipe {
  static constexpr std::string_view name = "recipe";
#ifdef HYBRIDMED_CONTROL
  static auto stages(const model::Config& c) {
    return std::tuple{system::StageRecipe{"learns to align", 1.0 * system::info_nce(c)}};
  }
#endif
};
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
