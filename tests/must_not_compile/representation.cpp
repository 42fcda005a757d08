// expects: hybridmed: a representation is a tag type with static constexpr members name and
// reads, and template <Value V> struct Of; see docs/policies/representation.md

#include <hybridmed/representation/needs.hpp>

using namespace hybridmed;

/// Says what it is computed from, and not which values it has.
struct StudyVector {
  static constexpr std::string_view name = "study_vector";
  static constexpr unsigned reads = representation::an_image | representation::impression;
#ifdef HYBRIDMED_CONTROL
  template <Value V>
  struct Of {
    V vectors;
    template <class F>
    void visit(F&& f) {
      f(vectors);
    }
  };
#endif
};
constexpr representation::Needs<StudyVector> needs{};
