// expects: hybridmed: the backend lacks layer_norm or layer_norm_backward for this scalar; see
// BackendLayerNorm in hybridmed/backend/concept.hpp

// A backend without `layer_norm_backward`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void layer_norm_backward();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, float>;
