// expects: hybridmed: the backend lacks a kernel of the objectives for this scalar; see
// BackendObjectives in hybridmed/backend/concept.hpp

// A backend without `local_scores`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void local_scores();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireBackend<Lacking, float>;
