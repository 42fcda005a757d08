// expects: hybridmed: this backend has no convolution or pooling for this scalar; see
// docs/policies/backend.md

// A convolution on a backend without one.
#include <hybridmed/autograd/convolution.hpp>
#include <hybridmed/backend/reference/backend.hpp>

struct B : hybridmed::Reference {
#ifndef HYBRIDMED_CONTROL
  static void max_pool();  // hides the kernel of that name
#endif
};
using X = hybridmed::Tensor<float, B>;
X call(const X& x, const X& w) { return hybridmed::conv2d(x, w, hybridmed::ConvShape{}); }
