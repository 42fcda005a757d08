// expects: hybridmed: the text encoder of HybridMed must be a module with width(), causal(),
// template <Value V> Wide<V> operator()(plan) const and Wide<V> global(states, cls_rows) const; see
// docs/policies/text_encoder.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>

using namespace hybridmed;

/// Does not pool its sections.
struct Text {
  template <class F>
  void visit(F&&) {}
  Index width() const { return 8; }
  bool causal() const { return true; }
  template <Value V>
  V operator()(const model::TextPlan<Reference>&) const {
    return {};
  }
#ifdef HYBRIDMED_CONTROL
  template <Value V>
  V global(const V& states, const IndexTensor<Reference>&) const {
    return states;
  }
#endif
};
constexpr auto bytes =
    sizeof(model::HybridMed<float, Reference, model::Vit<float, Reference>, Text>);
