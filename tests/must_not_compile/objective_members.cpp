// expects: hybridmed: an objective needs static constexpr members name (a string view) and needs
// (bits of objective::Needs); see docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;

struct Agreement {
  static constexpr std::string_view name = "agreement";
#ifdef HYBRIDMED_CONTROL
  static constexpr unsigned needs = objective::image_global;
#endif
  template <Value V>
  V operator()(const objective::Representations<V>& r) const {
    return r.image;
  }
};

void f() { static_cast<void>(0.5 * Agreement{}); }
