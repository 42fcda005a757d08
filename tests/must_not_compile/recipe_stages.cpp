// expects: hybridmed: a system is made from a recipe with static members name and stages(config),
// a tuple of StageRecipe; see docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

using namespace hybridmed;

/// Its only stage stands alone, not in a tuple.
struct Recipe {
  static constexpr std::string_view name = "recipe";
  static auto stages(const model::Config& c) {
    system::StageRecipe stage{"learns to align", 1.0 * system::info_nce(c)};
#ifdef HYBRIDMED_CONTROL
    return std::tuple{stage};
#else
    return stage;
#endif
  }
};
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
