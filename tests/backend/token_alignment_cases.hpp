#pragma once
// Cases of the token-wise contrast, and the data of one.
#include "backend/conformance.hpp"

namespace hybridmed::test {

struct TokenCase {
  const char* name;
  Index regions, dim;
  std::vector<Index> words;  // of each sample
};

inline const std::vector<TokenCase> token_cases{
    {"tokens: one of each", 1, 1, {1}},
    {"tokens: texts of one word", 5, 17, {1, 1, 1}},
    {"tokens: very different lengths", 17, 9, {1, 197, 3, 65, 1}},
    {"tokens: many regions", 197, 33, {17, 1, 3}},
    {"tokens: one region", 1, 7, {3, 17}},
    {"tokens: whole blocks", 64, 16, {64, 128}},
    {"tokens: no samples", 5, 3, {}},
};

template <class T>
struct TokenData {
  TokenData(const TokenCase& c, bool weighted) {
    for (Index n : c.words) offsets.push_back(static_cast<std::int32_t>(offsets.back() + n));
    words = offsets.back();
    const auto samples = static_cast<Index>(c.words.size());
    p = unit_rows(samples * c.regions, c.dim, 1);
    w = unit_rows(words, c.dim, 2);
    region_weights = above_zero(samples * c.regions, 3);
    word_weights = above_zero(words, 4);
    dp = random<T>(samples * c.regions * c.dim, 5);
    dw = random<T>(words * c.dim, 6);
    a.samples = samples;
    a.regions = c.regions;
    a.dim = c.dim;
    a.p = p.data();
    a.w = w.data();
    a.offsets = offsets.data();
    if (weighted) {
      a.region_weights = region_weights.data();
      a.word_weights = word_weights.data();
    }
  }
  std::vector<std::int32_t> offsets{0};
  Index words = 0;
  T upstream = T(-1.7);
  Values<T> p, w, region_weights, word_weights;
  Values<T> dp, dw;  // what the gradients are added to
  TokenArgs<T> a;

 private:
  static Values<T> unit_rows(Index rows, Index cols, std::uint64_t stream) {
    auto x = random<T>(rows * cols, stream);
    Values<T> norm(static_cast<std::size_t>(rows) + 1);
    Reference::normalize_rows(rows, cols, Values<T>(x).data(), x.data(), norm.data());
    return x;
  }
  static Values<T> above_zero(Index n, std::uint64_t stream) {
    auto x = random<T>(n, stream);
    for (T& v : x) v = std::abs(v) + T(0.1);
    return x;
  }
};

}  // namespace hybridmed::test
