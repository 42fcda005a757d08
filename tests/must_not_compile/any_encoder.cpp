// expects: hybridmed: each encoder of AnyImageEncoder must be an image encoder; see
// docs/policies/image_encoder.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/vit.hpp>

using namespace hybridmed;
using X = Tensor<float, Reference>;

struct Encoder {
  template <class F>
  void visit(F&&) {}
  model::LevelShapes levels() const { return {}; }
#ifdef HYBRIDMED_CONTROL
  template <Value V>
  model::ImageFeatures<V> operator()(const tensor_of<V>&, const nn::Mode&, model::Levels) const {
    return {};
  }
#endif
};
void f(const model::AnyImageEncoder<model::Vit<float, Reference>, Encoder>& e, const X& image) {
  e.operator()<X>(image, {}, model::Levels::all);
}
