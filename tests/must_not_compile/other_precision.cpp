// expects: hybridmed: a value of another precision: what computes in T takes values in T and in
// accumulator_of<T>; see docs/policies/precision.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/layers.hpp>

using namespace hybridmed;

#ifdef HYBRIDMED_CONTROL
using Input = float;
#else
using Input = double;
#endif
auto f(const nn::Linear<bfloat16, Reference>& layer, const Tensor<Input, Reference>& x) {
  return layer(x);
}
