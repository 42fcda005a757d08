// expects: hybridmed: parameters of another scalar or backend: an optimizer, a copy or a visitor is
// of the model's backend and of the master scalar of its precision

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/nn/layers.hpp>
#include <hybridmed/optim/adamw.hpp>

using namespace hybridmed;

#ifdef HYBRIDMED_CONTROL
using M = float;
#else
using M = double;
#endif
void f(nn::Linear<bfloat16, Reference>& layer) { optim::AdamW<M, Reference> optimizer(layer, {}); }
