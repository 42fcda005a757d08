// expects: hybridmed: a backend with an AdamWList needs assign of it, gradient_norm and adamw for
// this scalar; see BackendAdamWList in hybridmed/backend/concept.hpp

// A list without the norm that is to be taken of it would never be used.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

using namespace hybridmed;

struct Listed : Reference {
  template <class T>
  struct AdamWList {
    void assign(std::span<const AdamWTensor<T>>) {}
  };
#ifdef HYBRIDMED_CONTROL
  template <class T>
  static void gradient_norm(const AdamWList<T>&, const T*, StepState*) {}
#endif
  using Reference::adamw;
  template <class T>
  static void adamw(const AdamWList<T>&, const AdamWArgs&) {}
};
template struct hybridmed::RequireBackend<Listed, float>;
