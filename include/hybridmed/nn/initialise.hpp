#pragma once
// Initial weights: each parameter knows its own (autograd/variable.hpp); the layers follow the
// method, section 2.6.
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::nn {

namespace detail {
/// Normal numbers. A device gets them from the host: its own log and cos differ in the last digit,
/// and training begins with the same weights on every backend.
template <class T, class B>
void draw_normal(const Philox& random, double stddev, Tensor<T, B>& t) {
  if constexpr (HostMemory<B>) {
    B::fill_normal(t.size(), random, stddev, t.data());
  } else {
    ArenaVector<T> drawn(static_cast<std::size_t>(t.size()));
    for (std::size_t i = 0; i < drawn.size(); ++i)
      drawn[i] = static_cast<T>(stddev * random.normal(i));
    t = Tensor<T, B>::from_host(std::span<const T>(drawn.data(), drawn.size()), t.shape());
  }
}
}  // namespace detail

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
                         detail::draw_normal(random, p.initial.value, p.value);
                       if (p.initial.kind == Initial::Kind::unit_rows) {
                         if constexpr (BackendRows<B, T>)
                           p.value = normalize_rows(p.value);
                         else
                           fail("nn", "initialise", name + ": this backend normalises no rows");
                       }
                     });
}

}  // namespace hybridmed::nn
