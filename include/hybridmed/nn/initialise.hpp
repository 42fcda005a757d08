#pragma once
// Initial weights: each parameter knows its own (autograd/variable.hpp); the layers follow the
// method, section 2.6.
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::nn {

/// Fills every parameter as it says itself. Each has a random stream of its own, by its place in
/// the model, so one part does not depend on another's size.
template <Module M>
void initialise(M& model, std::uint64_t seed) {
  std::uint64_t stream = 0;
  for_each_parameter(model,
                     [&]<class T, class B>(const std::string& name, MasterParameter<T, B>& p) {
                       check_interrupt("the model is initialised");
                       const Philox random = Philox(seed).fork(++stream);
                       if (p.initial.kind == Initial::Kind::constant)
                         B::fill(p.value.size(), static_cast<T>(p.initial.value), p.value.data());
                       else
                         B::fill_normal(p.value.size(), random, p.initial.value, p.value.data());
                       if (p.initial.kind == Initial::Kind::unit_rows) {
                         if constexpr (BackendRows<B, T>)
                           p.value = normalize_rows(p.value);
                         else
                           fail("nn", "initialise", name + ": this backend normalises no rows");
                       }
                     });
}

}  // namespace hybridmed::nn
