// expects: hybridmed: the image encoder of HybridMed must be a module with LevelShapes levels()
// const and template <Value V> ImageFeatures<V> operator()(image, mode, levels) const; see
// docs/policies/image_encoder.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>

using namespace hybridmed;

/// Returns its global vector alone, not the feature maps.
struct Encoder {
  template <class F>
  void visit(F&&) {}
  model::LevelShapes levels() const { return {}; }
#ifdef HYBRIDMED_CONTROL
  template <Value V>
  model::ImageFeatures<V> operator()(const tensor_of<V>&, const nn::Mode&, model::Levels) const {
    return {};
  }
#else
  template <Value V>
  V operator()(const tensor_of<V>&, const nn::Mode&, model::Levels) const {
    return {};
  }
#endif
};
constexpr auto bytes = sizeof(model::HybridMed<float, Reference, Encoder>);
