// expects: hybridmed: Widened adds bfloat16 to a backend in host memory that is complete for float;
// see docs/policies/backend.md

#include <hybridmed/backend/reference/backend.hpp>

struct Lacking : hybridmed::reference::Kernels {
#ifndef HYBRIDMED_CONTROL
  static void conv2d();  // hides the kernel of that name
#endif
};
constexpr auto bytes = sizeof(hybridmed::Widened<Lacking>);
