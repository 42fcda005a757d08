// Philox: the known answers, and what is derived from its blocks.
#include "hybridmed/core/philox.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdint>

using namespace hybridmed;

TEST_CASE("Philox-4x32-10 reproduces the Random123 known answers") {
  using Words = std::array<std::uint32_t, 4>;
  // index: counter words 0 and 1; stream: words 2 and 3; seed: the key; low word first.
  CHECK(Philox(0, 0).block(0) == Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(Philox(~0ull, ~0ull).block(~0ull) ==
        Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  // The digits of pi; every word differs, so a swapped pair of words shows.
  CHECK(Philox(0x299f31d0a4093822ull, 0x0370734413198a2eull).block(0x85a308d3243f6a88ull) ==
        Words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("Philox derives doubles, normals and integers from the block") {
  const Philox p(7, 3);
  double sum = 0, squares = 0;
  const int n = 20000;
  bool inside = true, whole = true;
  std::array<int, 5> counts{};
  for (int i = 0; i < n; ++i) {
    const auto k = static_cast<std::uint64_t>(i);
    const double u = p.uniform(k), z = p.normal(k);
    const auto b = p.block(k);
    inside = inside && u >= 0 && u < 1;
    whole =
        whole &&
        u == std::ldexp(
                 static_cast<double>(((static_cast<std::uint64_t>(b[0]) << 32) | b[1]) >> 11), -53);
    sum += z;
    squares += z * z;
    const auto below = p.below(k, 5);
    inside = inside && below < 5;
    ++counts[below % 5];
  }
  CHECK(inside);
  CHECK(whole);
  CHECK(std::abs(sum / n) < 4 / std::sqrt(n));  // four standard errors
  CHECK(std::abs(squares / n - 1) < 4 * std::sqrt(2.0 / n));
  for (int c : counts) CHECK(std::abs(c - n / 5) < 4 * std::sqrt(n * 0.16));
  CHECK(p.below(0, 1) == 0);
  CHECK(Philox(7, 3).block(11) == p.block(11));  // a pure function of (seed, stream, index)
  CHECK(p.fork(1).block(0) == p.fork(1).block(0));
  CHECK(p.fork(1).block(0) != p.fork(2).block(0));
  CHECK(p.fork(0).block(0) != p.block(0));
}
