// expects: hybridmed: the backend lacks a softmax or sigmoid cross-entropy for this scalar; see
// BackendCrossEntropy in hybridmed/backend/concept.hpp

// A backend without `cross_entropy`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void cross_entropy();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, float>;
