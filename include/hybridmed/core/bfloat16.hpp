#pragma once
// bf16 as a storage scalar: the upper half of an IEEE float, rounded to nearest even.
#include <bit>
#include <cstdint>
#include <limits>

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

/// What generic code asks of a floating-point type.
template <>
struct std::numeric_limits<hybridmed::bfloat16> : std::numeric_limits<float> {
 private:
  static constexpr hybridmed::bfloat16 of_bits(std::uint16_t bits) {
    hybridmed::bfloat16 x;
    x.bits = bits;
    return x;
  }

 public:
  static constexpr int digits = 8, digits10 = 2, max_digits10 = 4;
  static constexpr bool is_iec559 = false;  // rounds as such, and has no arithmetic of its own
  static constexpr hybridmed::bfloat16(min)() noexcept { return of_bits(0x0080); }
  static constexpr hybridmed::bfloat16(max)() noexcept { return of_bits(0x7F7F); }
  static constexpr hybridmed::bfloat16 lowest() noexcept { return of_bits(0xFF7F); }
  static constexpr hybridmed::bfloat16 epsilon() noexcept { return of_bits(0x3C00); }
  static constexpr hybridmed::bfloat16 round_error() noexcept { return of_bits(0x3F00); }
  static constexpr hybridmed::bfloat16 infinity() noexcept { return of_bits(0x7F80); }
  static constexpr hybridmed::bfloat16 quiet_NaN() noexcept { return of_bits(0x7FC0); }
  static constexpr hybridmed::bfloat16 signaling_NaN() noexcept { return of_bits(0x7FA0); }
  static constexpr hybridmed::bfloat16 denorm_min() noexcept { return of_bits(0x0001); }
};
