// expects: hybridmed: a backend with a Recording needs record, replay, move and the dropout_mask of
// random numbers in its memory; see BackendReplay in hybridmed/backend/concept.hpp

// A recorded step could not draw its masks.
#include <hybridmed/backend/concept.hpp>
#include <hybridmed/backend/reference/backend.hpp>

using namespace hybridmed;

struct Recorder : Reference {
  struct Recording {};
  static Recording record(const std::function<void()>&) { return {}; }
  static void replay(const Recording&) {}
  static void move(const void*, void*, std::size_t) {}
#ifdef HYBRIDMED_CONTROL
  using Reference::dropout_mask;
  template <class T>
  static void dropout_mask(Index, const Philox*, std::uint64_t, double, T*) {}
#endif
};
template struct hybridmed::RequireBackend<Recorder, float>;
