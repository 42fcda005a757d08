// expects: hybridmed: models compute in double, float or bfloat16

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>

using namespace hybridmed;

#ifdef HYBRIDMED_CONTROL
using T = double;
#else
using T = int;
#endif
constexpr auto bytes = sizeof(model::HybridMed<T, Reference, model::Vit<T, Reference>>);
