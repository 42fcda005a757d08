// expects: hybridmed: the backend lacks convert for this scalar; see BackendConversion in
// hybridmed/backend/concept.hpp

// A backend that computes in bf16 and cannot widen its results.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void convert();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, hybridmed::bfloat16>;
