#pragma once
// Analytic cost of a step: 2 x multiply-adds of every matrix product, attention as the full T x T
// rectangle, everything at full length; the same count as the reference's `count_flops`, so that
// utilisation figures compare.
#include <algorithm>

#include "hybridmed/model/config.hpp"

namespace hybridmed::model {

struct Flops {
  double image = 0, aggregator = 0, memory = 0, text = 0, decoder = 0, heads = 0, alignment = 0,
         teacher = 0;
  /// Forward and backward (three times the forward) of what is trained, and the teacher's forward.
  double step() const {
    return 3 * (image + aggregator + memory + text + decoder + heads + alignment) + teacher;
  }
};

/// `batch` samples at full section lengths.
inline Flops count_flops(const Config& c, Index batch) {
  const auto real = [](Index x) { return static_cast<double>(x); };
  const auto stack = [](double tokens, double d, double depth, double ratio) {
    return depth * tokens * (8 + 4 * ratio) * d * d;
  };
  const auto attend = [](double q, double k, double d) { return 4 * q * k * d; };
  const double b = real(batch), t_i = real(c.t_impression), t_f = real(c.t_findings), d = real(c.d),
               t = t_i - 1, n_target = b * t, n_words = t_f - 2;
  const double regions = real(c.grid * c.grid), ratio = real(c.mlp_ratio), v = real(c.vocab),
               d_e = real(c.d_e), d_a = real(c.d_a);
  const LevelShapes level = c.levels();
  Flops f;
  const double side0 = real(level[0].side), w = real(c.image_width);
  f.image = 2 * b * side0 * side0 * 3 * real(c.patch * c.patch) * w;
  if (c.encoder == "vit") {
    const double n = side0 * side0 + 1;
    f.image += stack(b * n, w, real(c.image_depth), real(c.image_mlp_ratio)) +
               real(c.image_depth) * b * attend(n, n, w);
  } else if (c.encoder == "resnet") {
    f.image = 2 * b * real((c.image_size / 2) * (c.image_size / 2)) * 3 *
              real(c.resnet_stem * c.resnet_stem) * w;
    for (int l = 0; l < 4; ++l) {
      const double n = real(level[static_cast<std::size_t>(l)].side *
                            level[static_cast<std::size_t>(l)].side),
                   width = real(c.image_width << l),
                   out = real(level[static_cast<std::size_t>(l)].width);
      for (Index i = 0; i < c.resnet_depths[static_cast<std::size_t>(l)]; ++i) {
        const double in = i   ? out
                          : l ? real(level[static_cast<std::size_t>(l - 1)].width)
                              : w,
                     big = l && i == 0 ? n * 4 : n;
        f.image += c.resnet_block == "basic"
                       ? 2 * b * n * 9 * (in * width + width * out)
                       : 2 * b * (big * in * width + n * 9 * width * width + n * width * out);
        if (in != out || (l && i == 0)) f.image += 2 * b * n * in * out;
      }
    }
  } else {
    for (int l = 0; l < 4; ++l) {
      const double n = real(level[static_cast<std::size_t>(l)].side *
                            level[static_cast<std::size_t>(l)].side),
                   side = real((std::min)(c.window, level[static_cast<std::size_t>(l)].side)),
                   area = side * side, width = real(level[static_cast<std::size_t>(l)].width);
      const double depth = real(c.swin_depths[static_cast<std::size_t>(l)]);
      f.image += stack(b * n, width, depth, real(c.image_mlp_ratio)) +
                 depth * b * (n / area) * attend(area, area, width);
      if (l) f.image += 2 * b * n * 4 * real(level[static_cast<std::size_t>(l - 1)].width) * width;
    }
  }
  for (int l = 0; l < 4; ++l) {
    const double s = real((std::min)(level[static_cast<std::size_t>(l)].side, c.grid));
    f.aggregator += 2 * b * s * s * real(level[static_cast<std::size_t>(l)].width) * d_a;
  }
  f.aggregator += 2 * b * regions * d_a * (d_a + d_e);
  const double uni = real(c.uni_blocks), m = real(level[3].side * level[3].side),
               c3 = real(level[3].width);
  f.text = stack(b * (t_f + t_i + 1), d, uni, ratio) +
           uni * b * (attend(t_f, t_f, d) + attend(t_i + 1, t_i + 1, d));
  const auto decoder = [&](std::initializer_list<double> memories) {
    const double k = real(static_cast<Index>(memories.size()));
    double total = 0;
    for (Index block = 0; block < c.dec_blocks; ++block) {
      total +=
          (block ? k : 1) * b * (t * 8 * d * d + attend(t, t, d)) + k * b * t * 4 * ratio * d * d;
      for (double mem : memories)
        total += b * (t * 4 * d * d + mem * 4 * d * d + attend(t, mem, d));
    }
    return total + k * 2 * n_target * d * v;
  };
  f.decoder = decoder({t_f, m});
  f.memory = 2 * b * m * c3 * d;
  f.heads = 2 * b * c3 * d_e + 2 * b * d * d_e + 2 * b * t_f * d * d_e;
  f.alignment = 2 * b * b * d_e + b * b * 4 * regions * n_words * d_e;
  f.teacher = stack(b * (t_f + t_i - 1), d, uni, ratio) +
              uni * b * (attend(t_f, t_f, d) + attend(t, t, d)) + decoder({t_f});
  return f;
}

}  // namespace hybridmed::model
