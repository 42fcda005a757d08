// expects: hybridmed: a training step takes a weighted sum of objectives: write 1.0 * objective

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>
#include <hybridmed/objective/alignment/info_nce.hpp>
#include <hybridmed/system/composed.hpp>

using namespace hybridmed;
using Model = model::HybridMed<float, Reference, model::Vit<float, Reference>>;

void f(Model& m) {
#ifdef HYBRIDMED_CONTROL
  const auto objective = 1.0 * objective::InfoNce{};
#else
  const auto objective = objective::InfoNce{};
#endif
  system::Composed composed(m, objective);
}
