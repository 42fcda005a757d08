// expects: hybridmed: the backend lacks fill_normal, dropout_mask, squared_norm, clamp or adamw
// for this scalar; see BackendParameters in hybridmed/backend/concept.hpp

// A backend without `adamw`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void adamw();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, float>;
