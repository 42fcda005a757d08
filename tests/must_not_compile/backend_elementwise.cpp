// expects: hybridmed: the backend lacks an element-wise kernel for this scalar; see
// BackendElementwise in hybridmed/backend/concept.hpp

// A backend without `activation_backward`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void activation_backward();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, float>;
