// expects: hybridmed: a representation is a tag type with static constexpr members name and
// reads, and template <Value V> struct Of; see docs/policies/representation.md

#include <hybridmed/representation/needs.hpp>

using namespace hybridmed;

/// Does not say what it is computed from.
struct StudyVector {
  static constexpr std::string_view name = "study_vector";
#ifdef HYBRIDMED_CONTROL
  static constexpr unsigned reads = representation::an_image | representation::impression;
#endif
  template <Value V>
  struct Of {
    V vectors;
    template <class F>
    void visit(F&& f) {
      f(vectors);
    }
  };
};
constexpr representation::Needs<StudyVector> needs{};
