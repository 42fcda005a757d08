#pragma once
// A section of several reports as token ids, packed without padding.
#include <span>
#include <string>
#include <string_view>

#include "hybridmed/core/error.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed {

/// One section of every sample in host memory: sample b owns ids[offsets[b], offsets[b + 1]), BOS
/// ... EOS; absent: none. In a batch where no sample has the section, ids are empty and offsets are
/// batch + 1 zeros.
struct SectionView {
  std::span<const std::int32_t> ids;
  std::span<const std::int32_t> offsets;  // (B + 1)

  /// @throws Error unless the offsets begin at 0, never fall, and end at the number of ids.
  void check(std::string_view section) const {
    const auto bad = [&](const std::string& why) {
      fail("core", "SectionView", std::string(section) + ": " + why,
           "sample b owns ids [offsets[b], offsets[b + 1]): batch + 1 offsets from 0 to the number "
           "of ids, all 0 where no sample has the section");
    };
    if (offsets.empty()) bad("no offsets");
    if (offsets.front() != 0)
      bad("expected offsets that begin at 0, got " + std::to_string(offsets.front()));
    for (std::size_t b = 1; b < offsets.size(); ++b)
      if (offsets[b] < offsets[b - 1])
        bad("offset " + std::to_string(b) + " is " + std::to_string(offsets[b]) + ", below " +
            std::to_string(offsets[b - 1]) + " before it");
    if (static_cast<std::size_t>(offsets.back()) != ids.size())
      bad("the last offset is " + std::to_string(offsets.back()) + ", but there are " +
          std::to_string(ids.size()) + " ids");
  }

  Index batch() const { return static_cast<Index>(offsets.size()) - 1; }
  Index length(Index b) const {
    return offsets[static_cast<std::size_t>(b + 1)] - offsets[static_cast<std::size_t>(b)];
  }
  std::int32_t id(Index b, Index t) const {
    return ids[static_cast<std::size_t>(offsets[static_cast<std::size_t>(b)] + t)];
  }
};

}  // namespace hybridmed
