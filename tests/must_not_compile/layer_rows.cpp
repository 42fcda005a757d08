// expects: hybridmed: this backend picks and mixes no rows for this scalar; see
// docs/policies/backend.md

// An embedding on a backend that picks no rows.
#include <hybridmed/autograd/rows.hpp>
#include <hybridmed/backend/cuda/backend.hpp>
#include <hybridmed/backend/reference/backend.hpp>

#ifdef HYBRIDMED_CONTROL
using B = hybridmed::Reference;
#else
using B = hybridmed::Cuda;
#endif
using X = hybridmed::Tensor<float, B>;
X call(const X& x, const hybridmed::IndexTensor<B>& i) { return hybridmed::gather_rows(x, i); }
