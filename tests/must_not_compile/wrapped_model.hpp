#pragma once
// A model of one's own around one of the library, without what a run asks of a recipe's model
// besides.
#include <hybridmed/system/hybridmed.hpp>

template <class T_, class B_>
struct WrappedModel {
  using T = T_;
  using B = B_;
  using Scalar = T;
  using Backend = B;
  using Inner = decltype(hybridmed::model::make_hybridmed<T, B>(
      std::declval<const hybridmed::model::Config&>()));
  using Batch = typename Inner::Batch;
  Inner inner;

  template <class F>
  void visit(F&& f) {
    f("inner", inner);
  }
  template <hybridmed::Value V, class N>
  void represent(const Batch& batch, const hybridmed::nn::Mode& mode,
                 hybridmed::representation::Representations<V, N>& r) const {
    inner.represent(batch, mode, r);
  }
};
