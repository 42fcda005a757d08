#pragma once
// Run-time tensor extents, at most five of them, without heap memory.
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "hybridmed/core/error.hpp"

namespace hybridmed {

using Index = std::int64_t;

/// Extents of a dense row-major tensor; rank 0 is a scalar (one element).
class Shape {
 public:
  static constexpr int max_rank = 5;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<Index> extents) {
    for (Index e : extents) push_back(e);
  }

  constexpr void push_back(Index extent) {
    if (rank_ == max_rank) fail("core", "Shape", "more than 5 dimensions");
    if (extent < 0) fail("core", "Shape", "a negative extent");
    extents_[static_cast<std::size_t>(rank_++)] = extent;
    Index n = 8;  // bytes of the widest scalar: the whole tensor must be addressable
    for (int i = 0; i < rank_; ++i)
      if (extents_[static_cast<std::size_t>(i)] != 0 &&
          __builtin_mul_overflow(n, extents_[static_cast<std::size_t>(i)], &n))
        fail("core", "Shape", "the product of the extents overflows");
  }

  constexpr int rank() const { return rank_; }
  constexpr Index operator[](int i) const {
    return extents_[static_cast<std::size_t>(i < 0 ? rank_ + i : i)];
  }
  constexpr Index size() const {
    Index n = 1;
    for (int i = 0; i < rank_; ++i) n *= extents_[static_cast<std::size_t>(i)];
    return n;
  }
  /// The tensor seen as a matrix: the last extent is the columns, all others together the rows.
  constexpr Index cols() const { return rank_ == 0 ? 1 : (*this)[-1]; }
  constexpr Index rows() const {
    Index n = 1;
    for (int i = 0; i + 1 < rank_; ++i) n *= extents_[static_cast<std::size_t>(i)];
    return n;
  }

  friend constexpr bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a[i] != b[i]) return false;
    return true;
  }

  std::string str() const {
    std::string s = "(";
    for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string((*this)[i]);
    return s + ")";
  }

 private:
  std::array<Index, max_rank> extents_{};
  int rank_ = 0;
};

}  // namespace hybridmed
