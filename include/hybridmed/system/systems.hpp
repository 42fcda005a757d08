#pragma once
// The systems of this library, by name.
#include "hybridmed/core/host.hpp"
#include "hybridmed/core/key.hpp"
#include "hybridmed/system/clip.hpp"
#include "hybridmed/system/coca.hpp"
#include "hybridmed/system/convirt.hpp"
#include "hybridmed/system/gloria.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/system/mgca.hpp"
#include "hybridmed/system/siglip.hpp"

namespace hybridmed::system {

/// What a run folder's reader needs to know of a system.
struct Facts {
  std::string_view name;
  model::Parts parts;  ///< of its model
  std::size_t stages = 0;
  std::vector<std::string> parameters;  ///< of its objectives
  std::optional<double> gamma1{};       ///< of local scores, where the configuration's is not read
};

inline constexpr std::string_view names = "hybridmed|clip|siglip|convirt|gloria|mgca|coca";

namespace detail {
/// Calls f.operator()<Recipe>() for the recipe of that name.
/// @throws Error that lists the names.
template <class F>
auto with_recipe(std::string_view name, F&& f) {
  if (name == HybridMed::name) return f.template operator()<HybridMed>();
  if (name == Clip::name) return f.template operator()<Clip>();
  if (name == SigLip::name) return f.template operator()<SigLip>();
  if (name == ConVirt::name) return f.template operator()<ConVirt>();
  if (name == Gloria::name) return f.template operator()<Gloria>();
  if (name == Mgca::name) return f.template operator()<Mgca>();
  if (name == CoCa::name) return f.template operator()<CoCa>();
  fail("system", "name",
       "system: expected " + range_text(one_of(names)) + ", got '" + std::string(name) + "'");
}
}  // namespace detail

/// The system that a configuration describes, all weights as initialised by nn::initialise later.
/// @throws Error for another name.
template <class T, class B>
std::unique_ptr<System<T, B>> make_system(std::string_view name, const model::Config& config) {
  return detail::with_recipe(name, [&]<class R>() -> std::unique_ptr<System<T, B>> {
    return std::make_unique<SystemOf<R, T, B>>(config);
  });
}

/// The stages of the system that a configuration describes; nothing is built.
/// @throws Error for another name.
inline std::vector<Stage> stages_of_system(std::string_view name, const model::Config& config) {
  return detail::with_recipe(name, [&]<class R>() {
    return std::apply(
        [](const auto&... recipe) { return std::vector<Stage>{described(recipe)...}; },
        R::stages(config));
  });
}

template <class R>
Facts facts_of_recipe() {
  Facts facts{R::name, model::parts_of(needs_of_recipe<R>), 0, {}};
  if constexpr (has_scored_gamma1<R>) facts.gamma1 = R::scored_gamma1;
  const auto note = [&]<class Objective>(const StageRecipe<Objective>& recipe) {
    ++facts.stages;
    objective::States<float, Host, Objective> states(recipe.objective);  // made, never used
    nn::for_each_parameter(states,
                           [&](const std::string& key, auto&) { facts.parameters.push_back(key); });
  };
  std::apply([&](const auto&... recipe) { (note(recipe), ...); },
             R::stages(model::Config::preset("tiny")));
  return facts;
}

/// @throws Error for another name.
inline Facts facts_of(std::string_view name) {
  return detail::with_recipe(name, []<class R>() { return facts_of_recipe<R>(); });
}

}  // namespace hybridmed::system
