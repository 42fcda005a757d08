// expects: hybridmed: the backend lacks gemm, add_vector or column_sum for this scalar; see
// BackendProducts in hybridmed/backend/concept.hpp

// A backend without `gemm`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void gemm();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, float>;
