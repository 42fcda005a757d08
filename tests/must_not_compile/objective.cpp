// expects: hybridmed: an objective needs template <Value V> V operator()(const
// Representations<V>&) const; see docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;

struct Agreement {
  static constexpr std::string_view name = "agreement";
  static constexpr unsigned needs = objective::image_global;
#ifdef HYBRIDMED_CONTROL
  template <Value V>
  V operator()(const objective::Representations<V>& r) const {
    return r.image;
  }
#else
  template <Value V>
  double operator()(const objective::Representations<V>&) const {
    return 0;
  }
#endif
};

auto f(const objective::Representations<Tensor<float, Reference>>& r) {
  return (0.5 * Agreement{})(r);
}
