// expects: hybridmed: two values of different kinds: in bfloat16 a branch is widened before it is
// added, a parameter enters as use<Wide<V>>(p), or as V(use<V>(p)) where it is no factor of a
// product; see docs/policies/precision.md

#include <hybridmed/autograd/elementwise.hpp>
#include <hybridmed/autograd/parameter.hpp>
#include <hybridmed/backend/reference/backend.hpp>

using namespace hybridmed;
using V = Variable<bfloat16, Reference>;

void f(const V& x, const Wide<V>& stream, const Parameter<bfloat16, Reference>& p) {
#ifdef HYBRIDMED_CONTROL
  add(stream, widen(x));
  multiply(x, V(use<V>(p)));
#else
  add(stream, x);
  multiply(x, use<V>(p));
#endif
}
