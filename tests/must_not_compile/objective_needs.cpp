// expects: hybridmed: an objective needs what HybridMed does not compute: its needs are bits of
// objective::Needs; see docs/policies/objective.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;
using Model = model::HybridMed<float, Reference, model::Vit<float, Reference>>;

#ifdef HYBRIDMED_CONTROL
constexpr unsigned needs = objective::image_global;
#else
constexpr unsigned needs = 1024;
#endif
void f(const Model& m, const model::Batch<float, Reference>& batch) {
  m.represent<needs, X>(batch, nullptr, {});
}
