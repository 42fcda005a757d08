// expects: hybridmed: an objective needs a representation that this model does not compute; see
// docs/policies/representation.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>
#include <hybridmed/system/composed.hpp>

using namespace hybridmed;
using Model = model::HybridMed<float, Reference, model::Vit<float, Reference>>;

struct StudyVector {
  static constexpr std::string_view name = "study_vector";
  static constexpr unsigned reads = representation::an_image;
  template <Value V>
  struct Of {
    V projected;
    template <class F>
    void visit(F&& f) {
      f(projected);
    }
  };
};
#ifdef HYBRIDMED_CONTROL
using Read = representation::ImageGlobal;
#else
using Read = StudyVector;
#endif

struct Agreement {
  static constexpr std::string_view name = "agreement";
  static constexpr objective::Needs<Read> needs{};
  template <Value V, class N>
  V operator()(const objective::Representations<V, N>& r) const {
    return get<Read>(r).projected;
  }
};

void f(Model& m) { system::Composed composed(m, 1.0 * Agreement{}); }
