// expects: hybridmed: this backend picks and mixes no rows for this scalar; see
// docs/policies/backend.md

// An embedding on a backend that picks no rows.
#include <hybridmed/autograd/rows.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct B : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void gather_rows();  // hides the kernel of that name
#endif
};
using X = hybridmed::Tensor<float, B>;
X call(const X& x, const hybridmed::IndexTensor<B>& i) { return hybridmed::gather_rows(x, i); }
