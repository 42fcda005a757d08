#pragma once
// The Aggregated Module `fpn_sum` (method 2.2): per level a 1x1 lateral, resampled to G x G, plus a
// level embedding; summed; LayerNorm; a two-layer perceptron. Also the captioning memory and the
// projections into the joint space.
#include <algorithm>
#include <numeric>

#include "hybridmed/model/image_encoder.hpp"
#include "hybridmed/model/mean_pool.hpp"
#include "hybridmed/model/parts.hpp"
#include "hybridmed/nn/transformer.hpp"

namespace hybridmed::model {

/// Resampling of a square map to G x G: adaptive average where it is larger, bilinear (half-pixel)
/// where smaller.
template <class T, class B>
RowMixing<T, B> resample_to_grid(Index side, Index grid) {
  // one axis: (grid, side)
  std::vector<double> axis(static_cast<std::size_t>(grid * side), 0.0);
  const auto at = [&](Index o, Index i) -> double& {
    return axis[static_cast<std::size_t>(o * side + i)];
  };
  for (Index o = 0; o < grid; ++o) {
    if (side > grid) {
      const Index begin = o * side / grid, end = ((o + 1) * side + grid - 1) / grid;
      for (Index i = begin; i < end; ++i) at(o, i) = 1.0 / static_cast<double>(end - begin);
    } else {
      const double x = (std::max)(0.0, (static_cast<double>(o) + 0.5) * static_cast<double>(side) /
                                               static_cast<double>(grid) -
                                           0.5);
      const Index i = (std::min)(static_cast<Index>(x), side - 1),
                  next = (std::min)(i + 1, side - 1);
      at(o, i) += 1 - (x - static_cast<double>(i));
      at(o, next) += x - static_cast<double>(i);
    }
  }
  return RowMixing<T, B>::of_squares(grid, side, axis);
}

template <class T, class B>
struct FpnSum {
  std::vector<nn::Linear<T, B>> lateral;
  Parameter<T, B> level_embed;  // (4, d_a)
  nn::LayerNorm<T, B> norm;
  nn::FeedForward<T, B> mlp;
  std::vector<RowMixing<accumulator_of<T>, B>> resample;
  std::vector<Index> sides;
  Index grid = 0;

  FpnSum() = default;
  FpnSum(const AggregatorConfig& c, const LevelShapes& levels)
      : level_embed({4, c.width}, init::normal(0.01), no_decay),
        norm(c.width, c.ln_eps),
        mlp(c.width, c.width, c.joint),
        grid(c.grid),
        sum_levels_(1, 4, {1, 1, 1, 1}) {
    if (grid < 1)
      fail("model", "FpnSum", "expected a grid of at least 1, got " + std::to_string(grid));
    for (const LevelShape& level : levels) {
      lateral.emplace_back(level.width, c.width);
      sides.push_back(level.side);
      resample.push_back(resample_to_grid<accumulator_of<T>, B>(level.side, grid));
    }
  }
  template <class F>
  void visit(F&& f) {
    f("lateral", lateral);
    f("level_embed", level_embed);
    f("norm", norm);
    mlp.visit(f);
  }
  /// levels -> (B * G * G, d_e), both wide. Lateral and resampling commute, so the cheaper order is
  /// used.
  template <Value W>
  W operator()(const std::array<W, 4>& levels) const {
    if (lateral.size() != 4)
      fail("model", "FpnSum", "the model was built without the aggregator",
           "build it with representation::everything, or with the needs of an objective that "
           "reads image tokens");
    Index batch = -1;
    for (std::size_t l = 0; l < 4; ++l) {
      hybridmed::detail::need_defined("FpnSum", levels[l]);
      const Index places = sides[l] * sides[l], width = lateral[l].weight.value.cols(),
                  rows = value(levels[l]).rows();
      if (value(levels[l]).cols() != width || rows % places != 0 ||
          (batch >= 0 && rows != batch * places))
        fail("model", "FpnSum",
             "level " + std::to_string(l) + ": expected (" +
                 (batch < 0 ? "B" : std::to_string(batch)) + " * " + std::to_string(places) + ", " +
                 std::to_string(width) + "), got " + value(levels[l]).shape().str(),
             "image encoder and aggregator must agree about the sides and widths of the levels");
      batch = rows / places;
    }
    W total;
    for (std::size_t l = 0; l < 4; ++l) {
      W y = sides[l] > grid ? mix_rows(levels[l], resample[l]) : levels[l];
      y = lateral[l].wide(y);
      if (sides[l] < grid) y = mix_rows(y, resample[l]);
      total = l ? add(total, y) : y;
    }
    const W embed = mix_rows(use<W>(level_embed), sum_levels_);  // (1, d_a)
    return mlp(norm(add_row_vector(total, embed)));
  }

 private:
  RowMixing<accumulator_of<T>, B> sum_levels_;
};

/// Linear(F^4) plus a learned row per position: (B * M, C_3) -> (B * M, d).
template <class T, class B>
struct CaptionMemory {
  nn::Linear<T, B> proj;
  Parameter<T, B> pos;  // (M, d)

  CaptionMemory() = default;
  /// From the last level of an encoder to rows of the decoder's width.
  CaptionMemory(const LevelShape& last, Index width)
      : proj(last.width, width), pos({last.places(), width}, init::normal(0.01), no_decay) {
    ArenaVector<std::int32_t> places(static_cast<std::size_t>(last.places()));
    std::iota(places.begin(), places.end(), 0);
    places_ = IndexPattern<B>(places, 0);
  }
  template <class F>
  void visit(F&& f) {
    f("proj", proj);
    f("pos", pos);
  }
  /// The decoder reads it as it reads its own stream: wide.
  template <Value W>
  W operator()(const W& level) const {
    const Index rows = value(level).rows(), places = pos.value.rows();
    if (rows % places != 0)
      fail("model", "CaptionMemory",
           "expected rows of whole maps of " + std::to_string(places) + " places, got " +
               value(level).shape().str());
    return proj.onto(gather_rows(use<W>(pos), places_.times(rows / places)), level);
  }

 private:
  IndexPattern<B> places_;
};

/// Linear maps without bias into the joint space of width d_e.
template <class T, class B>
struct Projections {
  nn::Linear<T, B> image_global, text_global, text_local;

  Projections() = default;
  /// From the widths of the global image vector and of a text token to that of the joint space.
  Projections(Index image, Index text, Index joint, const Parts& parts) {
    if (parts.image_global) image_global = nn::Linear<T, B>(image, joint, false);
    if (parts.text_global) text_global = nn::Linear<T, B>(text, joint, false);
    if (parts.words) text_local = nn::Linear<T, B>(text, joint, false);
  }
  template <class F>
  void visit(F&& f) {
    const auto part = [&](const char* name, auto& linear) {
      if (linear.weight.value.defined()) f(name, linear);
    };
    part("image_global", image_global);
    part("text_global", text_global);
    part("text_local", text_local);
  }
};

}  // namespace hybridmed::model
