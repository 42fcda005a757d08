#pragma once
// Texts in UTF-16, for tests of encodings.
#include <string>
#include <string_view>

namespace hybridmed::test {

/// UTF-16 with or without its mark.
inline std::string utf16(std::u16string_view text, bool big, bool mark = true) {
  std::string out;
  const auto put = [&](char16_t unit) {
    const char high = static_cast<char>(unit >> 8);
    const char low = static_cast<char>(unit & 255);
    out += big ? high : low;
    out += big ? low : high;
  };
  if (mark) {
    put(u'\xFEFF');
  }
  for (const char16_t unit : text) {
    put(unit);
  }
  return out;
}

}  // namespace hybridmed::test
