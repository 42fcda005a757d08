// expects: hybridmed: the executor policy of Cpu<> lacks threads, set_threads or for_each; see
// docs/policies/executor.md

#include <hybridmed/backend/cpu/backend.hpp>

using namespace hybridmed;

struct Backwards {
  static constexpr const char* name = "backwards";
  static int threads() { return 1; }
#ifdef HYBRIDMED_CONTROL
  static void set_threads(int) {}
#endif
  template <class F>
  static void for_each(Index count, F&& f) {
    while (count > 0) f(--count);
  }
};
constexpr auto bytes = sizeof(Cpu<cpu::EigenGemm, Backwards>);
