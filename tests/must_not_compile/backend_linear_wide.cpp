// expects: hybridmed: linear of a backend must return bool, false where it does not serve its
// arguments; see BackendLinear in hybridmed/backend/concept.hpp

// A backend that fuses products in bf16 whose result is a sum, and does not say whether it did.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

using namespace hybridmed;

struct Fusing : Reference {
#ifndef HYBRIDMED_CONTROL
  static void linear(const LinearArgs<bfloat16, float>&);
#else
  static bool linear(const LinearArgs<bfloat16, float>&);
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Fusing, bfloat16>;
