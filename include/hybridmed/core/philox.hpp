#pragma once
// Counter-based random numbers: Philox-4x32-10 (Salmon et al., SC 2011).
// Number i of stream k is a pure function of (k, i): the same on every backend, for any thread
// count, and a resumed run needs no generator state beyond its seed and step.
#include <array>
#include <cmath>
#include <cstdint>

#include "hybridmed/core/host_device.hpp"

namespace hybridmed {

/// A stream of random numbers addressed by index; copies are free and share nothing.
class Philox {
 public:
  HYBRIDMED_HOST_DEVICE constexpr explicit Philox(std::uint64_t seed = 0, std::uint64_t stream = 0)
      : seed_(seed), stream_(stream) {}

  /// Four independent 32-bit words at position `index`.
  HYBRIDMED_HOST_DEVICE constexpr std::array<std::uint32_t, 4> block(std::uint64_t index) const {
    std::array<std::uint32_t, 4> c{lo(index), hi(index), lo(stream_), hi(stream_)};
    std::uint32_t k0 = lo(seed_), k1 = hi(seed_);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
      c = {hi(p1) ^ c[1] ^ k0, lo(p1), hi(p0) ^ c[3] ^ k1, lo(p0)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return c;
  }

  /// Uniform in [0, 1) with 53 random bits.
  HYBRIDMED_HOST_DEVICE constexpr double uniform(std::uint64_t index) const {
    const auto b = block(index);
    return static_cast<double>(((static_cast<std::uint64_t>(b[0]) << 32) | b[1]) >> 11) * 0x1.0p-53;
  }

  /// Standard normal (Box-Muller on one block).
  HYBRIDMED_HOST_DEVICE double normal(std::uint64_t index) const {
    const auto b = block(index);
    const double u =
        (static_cast<double>(((static_cast<std::uint64_t>(b[0]) << 32) | b[1]) >> 11) + 0.5) *
        0x1.0p-53;
    const double v =
        static_cast<double>(((static_cast<std::uint64_t>(b[2]) << 32) | b[3]) >> 11) * 0x1.0p-53;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

  /// Uniform integer in [0, bound), bound > 0.
  HYBRIDMED_HOST_DEVICE constexpr std::uint64_t below(std::uint64_t index,
                                                      std::uint64_t bound) const {
    return static_cast<std::uint64_t>(uniform(index) * static_cast<double>(bound));
  }

  /// An independent stream derived from this one, e.g. per epoch or per parameter.
  HYBRIDMED_HOST_DEVICE constexpr Philox fork(std::uint64_t id) const {
    const auto b = block(id ^ 0xF0F0F0F0F0F0F0F0ull);
    return Philox((static_cast<std::uint64_t>(b[0]) << 32) | b[1],
                  (static_cast<std::uint64_t>(b[2]) << 32) | b[3]);
  }

 private:
  HYBRIDMED_HOST_DEVICE static constexpr std::uint32_t lo(std::uint64_t x) {
    return static_cast<std::uint32_t>(x);
  }
  HYBRIDMED_HOST_DEVICE static constexpr std::uint32_t hi(std::uint64_t x) {
    return static_cast<std::uint32_t>(x >> 32);
  }
  std::uint64_t seed_, stream_;
};

}  // namespace hybridmed
