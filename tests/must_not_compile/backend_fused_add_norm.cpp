// expects: hybridmed: add_norm of a backend must return bool, false where it does not serve a
// shape; see BackendFusedAddNorm in hybridmed/backend/concept.hpp

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
  static Result add_norm(Index, Index, const T*, const T*, const T*, const T*, double, T*, T*, T*,
                         T*) {
    return Result();
  }
};
template struct hybridmed::RequireBackend<Fused, float>;
