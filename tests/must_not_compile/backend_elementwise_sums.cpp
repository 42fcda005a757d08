// expects: hybridmed: the backend lacks an element-wise kernel for this scalar; see
// BackendElementwise in hybridmed/backend/concept.hpp

// A backend that adds in bf16 and not in float, which residual streams are in.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  using Half = hybridmed::bfloat16;
  static void add(hybridmed::Index, const Half*, const Half*, Half*);  // hides all of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, hybridmed::bfloat16>;
