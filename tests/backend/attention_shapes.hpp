#pragma once
// Cases of attention that every backend is tested with.
#include <string>
#include <vector>

#include "hybridmed/core/shape.hpp"

namespace hybridmed::test {

struct AttentionCase {
  const char* name;
  std::vector<Index> queries, keys;  // of each segment
  Index heads, head_dim;
  bool causal;
  bool bias;
  Index windows;  // 0: no mask
  Index area;
};

inline std::vector<Index> repeat(Index length, Index count) {
  return std::vector<Index>(static_cast<std::size_t>(count), length);
}

inline const std::vector<AttentionCase> attention_cases{
    {"one row", {1}, {1}, 1, 1, false, false, 0, 0},
    {"ragged", {3, 17, 65, 1, 197}, {3, 17, 65, 1, 197}, 3, 17, false, false, 0, 0},
    {"ragged, other keys", {3, 17, 65, 1}, {197, 1, 3, 65}, 3, 5, false, false, 0, 0},
    {"causal", {3, 17, 65, 1, 197}, {3, 17, 65, 1, 197}, 3, 17, true, false, 0, 0},
    {"causal, fewer keys than queries", {70, 197, 3}, {5, 66, 1}, 2, 3, true, false, 0, 0},
    {"causal, more keys than queries", {5, 66, 1, 64}, {70, 197, 3, 65}, 2, 3, true, false, 0, 0},
    {"no segments", {}, {}, 2, 3, false, false, 0, 0},
    {"no segments, bias", {}, {}, 2, 3, false, true, 2, 5},
    {"segments without keys", {3, 17, 65}, {0, 17, 0}, 2, 3, false, false, 0, 0},
    {"segments without queries", {0, 3, 0}, {5, 3, 17}, 2, 3, false, false, 0, 0},
    {"nothing at all", {0, 0}, {0, 0}, 2, 3, false, false, 0, 0},
    {"causal segments without keys", {3, 0}, {0, 3}, 2, 3, true, false, 0, 0},
    {"bias", repeat(17, 6), repeat(17, 6), 3, 5, false, true, 0, 17},
    {"bias, segments of its group of eight and more", repeat(9, 19), repeat(9, 19), 2, 3, false,
     true, 0, 9},
    {"bias larger than the segments",
     {3, 65, 1, 0, 49},
     {65, 3, 1, 17, 49},
     2,
     3,
     false,
     true,
     0,
     65},
    {"bias over several blocks of rows", {131, 65}, {131, 65}, 2, 3, false, true, 0, 131},
    {"mask", repeat(9, 7), repeat(9, 7), 2, 3, false, false, 3, 9},
    {"bias and mask", repeat(49, 8), repeat(49, 8), 3, 5, false, true, 4, 49},
    {"bias and mask, causal", {17, 3, 17, 1, 9}, {17, 3, 17, 1, 9}, 2, 3, true, true, 2, 17},
};

}  // namespace hybridmed::test
