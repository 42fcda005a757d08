// expects: hybridmed: a model whose objectives read TeacherLogits has snapshot(), which makes a
// model::Teacher<T, B>; see docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/system/hybridmed.hpp>

using namespace hybridmed;

/// A model without snapshot().
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
  model::TextPlan<B> plan(const SectionView& findings, const SectionView& impression,
                          std::span<const std::int32_t> keys) const {
    return inner.plan(findings, impression, keys);
  }
#ifdef HYBRIDMED_CONTROL
  auto snapshot() { return inner.snapshot(); }
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
    return Own<T, B>{model::make_hybridmed<T, B>(c)};
  }
};
constexpr auto bytes = sizeof(system::SystemOf<Recipe, float, Reference>);
