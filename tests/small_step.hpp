#pragma once
// What tests of whole steps train: a preset made small enough for a launcher, and three samples.
#include <string>
#include <vector>

#include "hybridmed/model/hybridmed.hpp"
#include "support.hpp"

namespace hybridmed::test {

inline model::Config small(const char* preset) {
  auto c = model::Config::preset(preset);
  c.image_size = std::string(preset) == "tiny-swin" ? 64 : 32;
  c.grid = 4;
  c.uni_blocks = c.dec_blocks = 1;
  c.prototypes = 5;
  c.vocab = 40;
  return c;
}

/// The texts of three samples as `planner`, a model or a system, plans them: both sections, no
/// findings, no impression.
template <class M>
auto three_texts(const M& planner) {
  const std::vector<std::int32_t> text{1, 20, 2, 1, 30, 31, 2}, at{0, 3, 7, 7},
      words{1, 7, 8, 2, 1, 9, 3, 2}, words_at{0, 4, 4, 8};
  return planner.plan({words, words_at}, {text, at}, {});
}
/// The same with pictures of that side.
template <class T, class B, class M>
model::Batch<T, B> three_samples(const M& planner, Index side) {
  return {tensor<T, B>(normal(3 * 3 * side * side, 3, 0.5), {3, 3, side, side}),
          three_texts(planner)};
}

}  // namespace hybridmed::test
