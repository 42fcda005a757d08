// expects: hybridmed: a representation is wanted that is not in the set of needs; see
// docs/policies/representation.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/objective/composition.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

#ifdef HYBRIDMED_CONTROL
using Set = representation::Needs<representation::ImageGlobal>;
#else
using Set = representation::Needs<representation::ImpressionGlobal>;
#endif

void f(representation::Representations<X, Set>& r) { r.want<representation::ImageGlobal>(); }
