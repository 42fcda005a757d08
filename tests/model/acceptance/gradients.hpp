#pragma once
// An objective run backward through a model.
#include "acceptance.hpp"

namespace hybridmed::test {

template <class M>
void drop_gradients(M& module) {
  nn::for_each_parameter(module, [](const std::string&, auto& p) { p.slot.grad = {}; });
}
/// Runs the objective of `composed` backward and leaves the gradients in it and in its model.
template <class C>
double differentiate(C& composed, const Batch& b, const nn::Mode& mode = nn::Mode::inspection()) {
  drop_gradients(composed);
  Tape tape;
  RecordOn on(tape);
  typename C::Losses losses;
  const V loss = composed.template total<V>(b, mode, losses);
  backward(loss);
  return loss.tensor.item();
}

}  // namespace hybridmed::test
