#pragma once
// What an image encoder is: a module that turns images into four feature maps and one global
// vector.
#include <array>
#include <variant>

#include "hybridmed/model/part_configs.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::model {

/// Feature maps as channels-last rows: levels[l] (B * side_l * side_l, width_l); global (B,
/// width_3). Levels that were not asked for are undefined. Several parts read them, so they are
/// wide.
template <Value V>
struct ImageFeatures {
  std::array<Wide<V>, 4> levels;
  Wide<V> global;
};

/// @throws Error unless `image` is (B, 3, side, side).
template <class T, class B>
void need_images(std::string_view encoder, const Tensor<T, B>& image, Index side) {
  const Shape& s = image.shape();
  if (!image.defined()) fail("model", encoder, "the images are an undefined tensor");
  if (s.rank() != 4 || s[1] != 3 || s[2] != side || s[3] != side)
    fail("model", encoder,
         "expected images (B, 3, S, S) with S = image_size = " + std::to_string(side) + ", got " +
             s.str(),
         "resize and crop them to the size that the model was configured for; grey images go in "
         "three equal channels");
}

/// Which levels a forward pass must return; the last is always computed.
enum class Levels { last, all };

/// A module that turns images (B, 3, S, S) into ImageFeatures, for recorded and plain values, and
/// says the shapes of its levels. See docs/policies/image_encoder.md.
template <class E, class T, class B>
concept ImageEncoder = nn::Module<E> &&
    requires(const E& e, const Tensor<T, B>& image, const nn::Mode& mode, Levels want) {
  { e.levels() } -> std::same_as<LevelShapes>;
  {
    e.template operator()<Tensor<T, B>>(image, mode, want)
    } -> std::same_as<ImageFeatures<Tensor<T, B>>>;
  {
    e.template operator()<Variable<T, B>>(image, mode, want)
    } -> std::same_as<ImageFeatures<Variable<T, B>>>;
};

/// An encoder chosen at run time among several, itself an image encoder.
template <class... Encoders>
struct AnyImageEncoder {
  std::variant<Encoders...> encoder;

  template <class F>
  void visit(F&& f) {
    std::visit([&](auto& e) { e.visit(f); }, encoder);
  }
  LevelShapes levels() const {
    return std::visit([](const auto& e) { return e.levels(); }, encoder);
  }
  template <Value V>
  ImageFeatures<V> operator()(const tensor_of<V>& image, const nn::Mode& mode, Levels want) const {
    static_assert((... && ImageEncoder<Encoders, scalar_of<V>, backend_of<V>>),
                  "hybridmed: each encoder of AnyImageEncoder must be an image encoder; see "
                  "docs/policies/image_encoder.md");
    return std::visit([&](const auto& e) { return e.template operator()<V>(image, mode, want); },
                      encoder);
  }
};

}  // namespace hybridmed::model
