// expects: hybridmed: the backend lacks adamw for this scalar; see BackendAdamW in
// hybridmed/backend/concept.hpp

// A backend without `adamw`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void adamw();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, float>;
