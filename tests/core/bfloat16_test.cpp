// bfloat16: rounding, special values, the way through float.
#include "hybridmed/core/bfloat16.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "hybridmed/core/philox.hpp"

using namespace hybridmed;

TEST_CASE("bfloat16 rounds to nearest even and keeps special values") {
  const auto bits = [](std::uint32_t u) { return bfloat16(std::bit_cast<float>(u)).bits; };
  CHECK(bits(0x3F800000u) == 0x3F80u);
  CHECK(bits(0x3F807FFFu) == 0x3F80u);  // just below the middle
  CHECK(bits(0x3F808000u) == 0x3F80u);  // the middle, even below
  CHECK(bits(0x3F808001u) == 0x3F81u);  // just above
  CHECK(bits(0x3F818000u) == 0x3F82u);  // the middle, even above
  CHECK(bits(0xBF818000u) == 0xBF82u);
  CHECK(bits(0x3FFFFFFFu) == 0x4000u);  // carries into the exponent
  CHECK(bits(0x00000000u) == 0x0000u);
  CHECK(bits(0x80000000u) == 0x8000u);
  CHECK(bits(0x00018000u) == 0x0002u);  // subnormal
  CHECK(bits(0x7F7FFFFFu) == 0x7F80u);  // the largest float becomes infinity
  CHECK(bits(0x7F800000u) == 0x7F80u);
  CHECK(bits(0xFF800000u) == 0xFF80u);
  for (std::uint32_t nan : {0x7FC00000u, 0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu}) {
    const bfloat16 b(std::bit_cast<float>(nan));
    CHECK(std::isnan(static_cast<float>(b)));
    CHECK((b.bits & 0x40u) != 0);          // quiet
    CHECK((b.bits >> 15) == (nan >> 31));  // same sign
  }
  bool exact = true;  // every bfloat16 that is a number survives the way through float
  for (std::uint32_t u = 0; u < 0x10000u; ++u) {
    bfloat16 b;
    b.bits = static_cast<std::uint16_t>(u);
    if (!std::isnan(static_cast<float>(b)))
      exact = exact && bfloat16(static_cast<float>(b)).bits == b.bits;
  }
  CHECK(exact);
  bool nearest = true;  // against the distance to both neighbours
  const Philox random(5);
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const auto u = random.block(i)[0];
    const float x = std::bit_cast<float>(u);
    if (!(std::abs(x) < 1e38f)) continue;
    bfloat16 low, high;
    low.bits = static_cast<std::uint16_t>(u >> 16);
    high.bits = static_cast<std::uint16_t>((u >> 16) + 1);
    const double down = std::abs(static_cast<double>(x) -
                                 static_cast<double>(static_cast<float>(low))),
                 up = std::abs(static_cast<double>(static_cast<float>(high)) -
                               static_cast<double>(x));
    nearest = nearest && bfloat16(x).bits == (down < up       ? low.bits
                                              : up < down     ? high.bits
                                              : low.bits & 1u ? high.bits
                                                              : low.bits);
  }
  CHECK(nearest);
}

TEST_CASE("the limits of bfloat16") {
  using L = std::numeric_limits<bfloat16>;
  static_assert(L::is_specialized && L::has_infinity && L::digits == 8);
  CHECK(std::isinf(static_cast<float>(L::infinity())));
  CHECK(std::isnan(static_cast<float>(L::quiet_NaN())));
  CHECK(static_cast<float>(L::lowest()) == -static_cast<float>(L::max()));
  CHECK(bfloat16(static_cast<float>(L::max()) * 1.01f).bits == L::infinity().bits);
  const float next = std::nextafter(1.0f + static_cast<float>(L::epsilon()) / 2, 2.0f);
  CHECK(static_cast<float>(bfloat16(next)) == 1 + static_cast<float>(L::epsilon()));
  CHECK(static_cast<float>(L::min()) == std::numeric_limits<float>::min());
  CHECK(static_cast<float>(L::denorm_min()) > 0);
}
