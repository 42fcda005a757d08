// expects: hybridmed: a training step takes a weighted sum of objectives: write 1.0 * objective

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/train/step.hpp>

using namespace hybridmed;
using T = float;
using B = Reference;
using Model = model::HybridMed<T, B, model::Vit<T, B>>;

void f(Model& m, const model::Batch<T, B>& batch, const model::Teacher<T, B>* teacher,
       optim::AdamW<T, B>& optimizer, Tape& tape) {
#ifdef HYBRIDMED_CONTROL
  const auto objective = 1.0 * objective::InfoNce{};
#else
  const auto objective = objective::InfoNce{};
#endif
  train::train_step(m, objective, batch, teacher, optimizer, 1e-3, tape, nn::Mode::training());
}
