// expects: hybridmed: models compute in float or double

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>

using namespace hybridmed;

#ifdef HYBRIDMED_CONTROL
using T = double;
#else
using T = int;
#endif
constexpr auto bytes = sizeof(model::HybridMed<T, Reference, model::Vit<T, Reference>>);
