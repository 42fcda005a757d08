#pragma once
// What an image encoder is: a module that turns images into four feature maps and one global vector.
#include <array>
#include <variant>

#include "hybridmed/model/config.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::model {

/// Feature maps as channels-last rows: levels[l] (B * side_l * side_l, width_l); global (B, width_3).
/// Levels that were not asked for are undefined.
template <Value V>
struct ImageFeatures {
  std::array<V, 4> levels;
  V global;
};

/// Which levels a forward pass must return; the last is always computed.
enum class Levels { last, all };

/// A module that turns images (B, 3, S, S) into ImageFeatures, for recorded and plain values. See docs/policies/image_encoder.md.
template <class E, class T, class B>
concept ImageEncoder = nn::Module<E> && requires(const E& e, const Tensor<T, B>& image, const nn::Mode& mode, Levels want) {
  { e.template operator()<Tensor<T, B>>(image, mode, want) } -> std::same_as<ImageFeatures<Tensor<T, B>>>;
  { e.template operator()<Variable<T, B>>(image, mode, want) } -> std::same_as<ImageFeatures<Variable<T, B>>>;
};

/// An encoder chosen at run time among several, itself an image encoder.
template <class... Encoders>
struct AnyImageEncoder {
  std::variant<Encoders...> encoder;

  template <class F>
  void visit(F&& f) {
    std::visit([&](auto& e) { e.visit(f); }, encoder);
  }
  template <Value V>
  ImageFeatures<V> operator()(const tensor_of<V>& image, const nn::Mode& mode, Levels levels) const {
    static_assert((... && ImageEncoder<Encoders, scalar_of<V>, backend_of<V>>), "hybridmed: each encoder of AnyImageEncoder must be an image encoder; see docs/policies/image_encoder.md");
    return std::visit([&](const auto& e) { return e.template operator()<V>(image, mode, levels); }, encoder);
  }
};

}  // namespace hybridmed::model
