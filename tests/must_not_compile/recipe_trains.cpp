// expects: hybridmed: what a recipe trains is static bool trains(std::size_t stage,
// std::string_view parameter); see docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

using namespace hybridmed;

/// Its choice cannot be called with a view.
struct Recipe {
  static constexpr std::string_view name = "recipe";
  static auto stages(const model::Config& c) {
    return std::tuple{system::StageRecipe{"learns to align", 1.0 * system::info_nce(c)}};
  }
#ifdef HYBRIDMED_CONTROL
  static bool trains(std::size_t, std::string_view) { return true; }
#else
  static bool trains(std::size_t, const std::string&) { return true; }
#endif
};
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
