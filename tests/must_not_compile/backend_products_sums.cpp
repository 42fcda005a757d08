// expects: hybridmed: the backend lacks gemm, add_vector or column_sum for this scalar; see
// BackendProducts in hybridmed/backend/concept.hpp

// A backend that sums rows of bf16 and not of float, of which the gradient of a bias is the sum.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  using Half = hybridmed::bfloat16;
  static void column_sum(hybridmed::Index, hybridmed::Index, const Half*,
                         float*);  // hides all of that name
#endif
};
template struct hybridmed::RequireFeedForwardBackend<Lacking, hybridmed::bfloat16>;
