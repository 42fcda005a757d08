// expects: hybridmed: add_norm_backward of a backend must return bool, false where it does not
// serve a shape; see BackendAddNormGradient in hybridmed/backend/concept.hpp

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
  static Result add_norm_backward(Index, Index, const T*, const T*, const T*, const T*, const T*,
                                  const T*, T*, T*, T*) {
    return Result();
  }
};
template struct hybridmed::RequireBackend<Fused, float>;
