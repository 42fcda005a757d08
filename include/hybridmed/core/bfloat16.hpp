#pragma once
// bf16 as a storage scalar: the upper half of an IEEE float, rounded to nearest even.
#include <bit>
#include <cstdint>

namespace hybridmed {

struct bfloat16 {
  std::uint16_t bits = 0;

  constexpr bfloat16() = default;
  constexpr explicit bfloat16(float x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u)
      bits = static_cast<std::uint16_t>((u >> 16) | 0x40u);  // NaN stays NaN, made quiet
    else
      bits = static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
  }
  constexpr operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

}  // namespace hybridmed
