// expects: hybridmed: the model of a recipe has a type Batch, which is model::Batch<T, B>, and
// plan(findings, impression, keys) const, which makes the model::TextPlan<B> of a batch; see
// docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

using namespace hybridmed;

/// A model without plan().
template <class T_, class B_>
struct Own {
  using T = T_;
  using Scalar = T_;
  using Backend = B_;
  using B = B_;
  using Inner = decltype(model::make_hybridmed<T, B>(std::declval<const model::Config&>()));
  using Batch = typename Inner::Batch;
  Inner inner;

  template <class F>
  void visit(F&& f) {
    f("inner", inner);
  }
  template <Value V, class N>
  void represent(const Batch& batch, const nn::Mode& mode,
                 representation::Representations<V, N>& r) const {
    inner.represent(batch, mode, r);
  }
#ifdef HYBRIDMED_CONTROL
  model::TextPlan<B> plan(const SectionView& findings, const SectionView& impression,
                          std::span<const std::int32_t> keys) const {
    return inner.plan(findings, impression, keys);
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
    return Own<T, B>{model::make_hybridmed<T, B>(c)};
  }
};
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
