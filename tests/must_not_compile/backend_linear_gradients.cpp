// expects: hybridmed: linear_backward of a backend must return bool, false where it does not serve
// its arguments; see BackendLinearGradients in hybridmed/backend/concept.hpp

// An optional kernel of another form would never be called.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

using namespace hybridmed;

#ifdef HYBRIDMED_CONTROL
using Result = bool;
#else
using Result = void;
#endif
struct Fused : Reference {
  template <class T>
  static Result linear_backward(const LinearGradients<T>&) {
    return Result();
  }
};
template struct hybridmed::RequireBackend<Fused, float>;
