// expects: hybridmed: the backend lacks allocate, deallocate, copy_from_host or copy_to_host;
// see hybridmed/backend/concept.hpp

// A backend without `copy_to_host`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void copy_to_host();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, float>;
