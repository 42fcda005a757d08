// expects: hybridmed: the backend lacks layer_norm or layer_norm_backward for this scalar;
// see BackendLayerNorm in hybridmed/backend/concept.hpp

// A backend that norms rows to bf16 and not to float, as the levels of an image encoder are.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  using Half = hybridmed::bfloat16;
  template <class X>  // hides all of that name
  static void layer_norm(hybridmed::Index, hybridmed::Index, const X*, const float*, const float*,
                         double, Half*, float*, float*);
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, hybridmed::bfloat16>;
