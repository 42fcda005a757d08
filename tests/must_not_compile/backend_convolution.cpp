// expects: hybridmed: the backend lacks a convolution, BatchNorm or pooling kernel for this
// scalar; see BackendConvolution in hybridmed/backend/concept.hpp

// A backend without `max_pool`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void max_pool();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireBackend<Lacking, float>;
