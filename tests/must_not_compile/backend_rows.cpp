// expects: hybridmed: the backend lacks a kernel on rows for this scalar; see BackendRows in
// hybridmed/backend/concept.hpp

// A backend without `scatter_add_rows`.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void scatter_add_rows();  // hides the kernel of that name
#endif
};
template struct hybridmed::RequireBackend<Lacking, float>;
