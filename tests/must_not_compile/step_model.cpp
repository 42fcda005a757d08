// expects: hybridmed: a model that is trained is a module with types Scalar, Backend and Batch,
// and template <Value V, class N> void represent(const Batch&, const nn::Mode&,
// Representations<V, N>&) const; see docs/policies/system.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/alignment/info_nce.hpp>
#include <hybridmed/train/step.hpp>

using namespace hybridmed;
using T = float;
using B = Reference;

struct Model {
  using Scalar = T;
  using Backend = B;
  using Batch = Tensor<T, B>;
  template <class F>
  void visit(F&&) {}
#ifdef HYBRIDMED_CONTROL
  template <Value V, class N>
  void represent(const Batch&, const nn::Mode&, objective::Representations<V, N>&) const {}
#else
  template <Value V, class N>
  objective::Representations<V, N> represent(const Batch&) const {
    return {};
  }
#endif
};

void f(Model& m, const Tensor<T, B>& batch, optim::AdamW<T, B>& optimizer, Tape& tape) {
  system::Composed composed(m, 1.0 * objective::InfoNce{});
  train::train_step(composed, batch, optimizer, 1e-3, tape, nn::Mode::training());
}
