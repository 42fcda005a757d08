#pragma once
// Row indices that repeat from one batch item to the next: windows, shifts, class tokens. The
// pattern of one item lies in backend memory from the start, so that a forward pass uploads
// nothing.
#include <limits>

#include "hybridmed/autograd/attention.hpp"

namespace hybridmed {

/// The numbers of one item, and again shifted by `period` for each further one: (0 1), period 2, 3
/// items -> 0 1 2 3 4 5. Negative numbers stay as they are. Copies share the pattern, which never
/// changes.
template <class B>
class IndexPattern {
 public:
  IndexPattern() = default;
  IndexPattern(const ArenaVector<std::int32_t>& first, Index period)
      : first_(row_indices<B>(first)), period_(period) {}

  /// @throws Error where the items have more rows than 32 bits tell apart.
  IndexTensor<B> times(Index items) const {
    if (items < 0 || (period_ > 0 && items > (std::numeric_limits<std::int32_t>::max)() / period_))
      fail("autograd", "IndexPattern",
           std::to_string(items) + " times " + std::to_string(period_) +
               " rows are more than 32 bits tell apart",
           "a smaller batch");
    IndexTensor<B> all({first_.size() * items});
    B::repeat_indices(first_.size(), first_.data(), items, period_, all.data());
    return all;
  }

 private:
  IndexTensor<B> first_;
  Index period_ = 0;
};

/// Segments of `length` rows each, one behind the other.
template <class B>
class EqualSegments {
 public:
  EqualSegments() = default;
  /// @throws Error for a negative length.
  explicit EqualSegments(Index length)
      : ends_({0, static_cast<std::int32_t>(length)}, length), length_(length) {
    if (length < 0)
      fail("autograd", "EqualSegments",
           "expected a length of at least 0, got " + std::to_string(length));
  }
  /// @throws Error for a negative number, or for more rows than 32 bits tell apart.
  Segments<B> times(Index count) const {
    return {ends_.times(count).view({count, 2}), count, count * length_, length_, true};
  }

 private:
  IndexPattern<B> ends_;
  Index length_ = 0;
};

}  // namespace hybridmed
