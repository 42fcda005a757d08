// expects: hybridmed: the backend lacks a kernel on rows for this scalar; see BackendRows in
// hybridmed/backend/concept.hpp

// A backend that normalises rows of bf16 and not of float, as objectives do.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  using Half = hybridmed::bfloat16;
  static void normalize_rows(hybridmed::Index, hybridmed::Index, const Half*, Half*,
                             float*);  // hides all of that name
#endif
};
template struct hybridmed::RequireBackend<Lacking, hybridmed::bfloat16>;
