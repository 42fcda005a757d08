#pragma once
// The scratch memory of one call, cut into arrays. Never included by a host compiler.
#include <cstddef>

#include "hybridmed/core/shape.hpp"

namespace hybridmed::cuda {

/// Hands out aligned arrays one after the other; of no memory, to count the bytes.
class Pieces {
 public:
  explicit Pieces(std::byte* memory) : memory_(memory) {}
  /// n elements; null for none.
  template <class T>
  void take(T*& p, Index n) {
    p = memory_ && n > 0 ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
    bytes_ += (static_cast<std::size_t>(n) * sizeof(T) + 255) / 256 * 256;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  std::size_t bytes_ = 0;
};

}  // namespace hybridmed::cuda
