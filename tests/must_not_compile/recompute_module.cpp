// expects: hybridmed: recompute keeps a copy of its function: pass a lambda that refers to the
// module, not the module

// The copy's parameters would get the gradients.
#include <hybridmed/autograd/recompute.hpp>
#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/layers.hpp>

using namespace hybridmed;
using V = Variable<float, Reference>;

V again(const nn::Linear<float, Reference>& layer, const V& x) {
#ifdef HYBRIDMED_CONTROL
  return recompute([&layer](const V& h) { return layer(h); }, x);
#else
  return recompute(layer, x);
#endif
}
