#pragma once
// From pixels to tokens, and from fine tokens to coarse ones.
#include "hybridmed/nn/attention.hpp"

namespace hybridmed::nn {

/// Non-overlapping patches through one matrix product: (batch, 3, side, side) -> (batch * n * n,
/// width), n = side / patch, wide.
template <class T, class B>
struct PatchEmbed {
  Parameter<T, B> weight, bias;  // (width, 3, patch, patch), (width)
  Index patch = 16;

  PatchEmbed() = default;
  PatchEmbed(Index patch_, Index width)
      : weight({width, 3, patch_, patch_}, init::normal(0.02)),
        bias({width}, init::zeros()),
        patch(patch_) {
    if (patch < 1)
      fail("nn", "PatchEmbed",
           "expected a patch of at least 1 pixel, got " + std::to_string(patch));
  }
  template <class F>
  void visit(F&& f) {
    f("weight", weight);
    f("bias", bias);
  }
  template <Value V>
  Wide<V> embed(const Tensor<T, B>& image) const {
    hybridmed::detail::need_defined("PatchEmbed", image);
    const Shape& s = image.shape();
    if (s.rank() != 4 || s[1] != 3 || s[2] != s[3] || s[2] % patch != 0)
      fail("nn", "PatchEmbed",
           "expected square images (B, 3, S, S) with S a multiple of " + std::to_string(patch) +
               ", got " + s.str());
    const Index n = s[2] / patch, in = 3 * patch * patch;
    Tensor<T, B> rows({s[0] * n * n, in});
    B::patchify(s[0], 3, s[2], patch, image.data(), rows.data());
    const Wide<V> b = use<Wide<V>>(bias);
    return linear_as<Wide<V>>(V(rows), reshape(use<V>(weight), {weight.value.shape()[0], in}), &b);
  }
};

/// Four neighbouring tokens become one of twice the width (Swin): concatenation order (0,0), (1,0),
/// (0,1), (1,1) as (row, column). (batch * side * side, width) -> (batch * side / 2 * side / 2, 2
/// width).
template <class T, class B>
struct PatchMerging {
  LayerNorm<T, B> norm;
  Linear<T, B> reduction;
  Index side = 0;  // of the input map

  PatchMerging() = default;
  PatchMerging(Index width, Index side_, double eps)
      : norm(4 * width, eps), reduction(4 * width, 2 * width, false), side(side_) {
    ArenaVector<std::int32_t> neighbours;  // of one image
    for (Index i = 0; i < side; i += 2)
      for (Index j = 0; j < side; j += 2)
        for (Index k = 0; k < 4; ++k)
          neighbours.push_back(static_cast<std::int32_t>((i + k % 2) * side + j + k / 2));
    neighbours_ = IndexPattern<B>(neighbours, side * side);
  }
  template <class F>
  void visit(F&& f) {
    f("norm", norm);
    f("reduction", reduction);
  }
  template <Value W>
  W operator()(const W& x, Index batch) const {
    if (batch < 0 || side % 2 != 0 || value(x).rows() != batch * side * side)
      fail("nn", "PatchMerging",
           "expected rows of " + std::to_string(batch) + " maps of an even side " +
               std::to_string(side) + ", got " + value(x).shape().str());
    const Index width = value(x).cols();
    return reduction.wide(norm(
        reshape(gather_rows(x, neighbours_.times(batch)), {batch * side * side / 4, 4 * width})));
  }

 private:
  IndexPattern<B> neighbours_;
};

}  // namespace hybridmed::nn
