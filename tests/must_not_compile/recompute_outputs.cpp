// expects: hybridmed: recompute takes a function that returns Variables alone, or Tensors alone:
// one, or a pair, tuple or array of them

// An output that is neither would come from the first run, its gradient from nowhere.
#include <hybridmed/autograd/recompute.hpp>
#include <hybridmed/backend/reference/backend.hpp>

using namespace hybridmed;
using V = Variable<float, Reference>;

auto again(const V& x) {
#ifdef HYBRIDMED_CONTROL
  return recompute([](const V& h) { return std::pair(h, h); }, x);
#else
  return recompute([](const V& h) { return std::pair(h, h.tensor); }, x);
#endif
}
