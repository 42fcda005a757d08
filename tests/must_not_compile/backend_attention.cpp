// expects: hybridmed: the backend lacks attention or attention_backward for this scalar; see
// BackendAttention in hybridmed/backend/concept.hpp

// A backend without `attention_backward`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void attention_backward();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireBackend<Lacking, float>;
