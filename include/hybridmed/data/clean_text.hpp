#pragma once
// Cleaning of report sections (method 3).
#include <utf8proc.h>

#include <string>
#include <string_view>
#include <vector>

#include "hybridmed/core/error.hpp"

namespace hybridmed::data {

enum class Cleaning { standard, gloria, none };

inline Cleaning cleaning_from(const std::string& name) {
  if (name == "default") return Cleaning::standard;
  if (name == "gloria") return Cleaning::gloria;
  if (name == "none") return Cleaning::none;
  fail("data", "cleaning", "unknown rule '" + name + "'", "default, gloria or none");
}

namespace detail {
inline bool digit(char c) { return (c >= '0' && c <= '9') || c == '\x01'; }
inline bool word(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '_'; }

/// Lower case in one byte a character: ASCII as it is, white space as ' ' (line feeds stay), other digits \x01, other
/// letters and numbers \x02, everything else \x03.
inline std::string fold(std::string_view s) {
  std::string out;
  const auto* p = reinterpret_cast<const utf8proc_uint8_t*>(s.data());
  for (std::size_t i = 0; i < s.size();) {
    utf8proc_int32_t c = 0;
    const auto n = utf8proc_iterate(p + i, static_cast<utf8proc_ssize_t>(s.size() - i), &c);
    i += n > 0 ? static_cast<std::size_t>(n) : 1;
    if (n <= 0) c = 0xFFFD;
    if (c == 0x130) {  // its lower case is an i and a combining dot
      out += "i\x03";
      continue;
    }
    c = utf8proc_tolower(c);
    const auto k = utf8proc_category(c);
    if (c == '\n') out += '\n';
    else if ((c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP) out += ' ';
    else if (c < 128) out += static_cast<char>(c < 4 ? 3 : c);
    else if (k == UTF8PROC_CATEGORY_ND) out += '\x01';
    else if ((k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO) out += '\x02';
    else out += '\x03';
  }
  return out;
}

/// Lower case; list numbers at line starts, de-identification blanks (xxxx, ____) and all characters but a-z 0-9 . , / % - dropped.
inline std::string clean_standard(std::string_view text) {
  const std::string t = fold(text);
  std::string s;
  std::size_t none_before = 0;  // no list number starts before this: blank lines are looked through once
  for (std::size_t i = 0; i < t.size();) {
    if (i >= none_before && (i == 0 || t[i - 1] == '\n')) {  // line start: spaces, digits, a full stop, a space
      std::size_t j = i;
      while (j < t.size() && (t[j] == ' ' || t[j] == '\n')) ++j;
      const std::size_t number = j;
      while (j < t.size() && digit(t[j])) ++j;
      if (j > number && j + 1 < t.size() && t[j] == '.' && (t[j + 1] == ' ' || t[j + 1] == '\n')) {
        s += ' ';
        i = j + 2;
        continue;
      }
      none_before = number + 1;
    }
    const char c = t[i++];
    s += word(c) || c == '.' || c == ',' || c == '/' || c == '%' || c == '-' ? c : ' ';
  }
  std::string out;
  for (std::size_t i = 0; i < s.size();) {
    if (!word(s[i])) {
      const char c = s[i++];
      if (c != ' ') out += c;
      else if (!out.empty() && out.back() != ' ') out += ' ';
      continue;
    }
    std::size_t j = i;
    bool blank = true;
    for (; j < s.size() && word(s[j]); ++j) blank = blank && s[j] == 'x';
    if (blank && j - i >= 2) {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else {
      for (; i < j; ++i) {
        if (s[i] != '_') out += s[i];
        else if (!out.empty() && out.back() != ' ') out += ' ';
      }
    }
    i = j;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

/// GLoRIA's and MGCA's rule: sentences split at numbers and full stops, words only, sentences of one word dropped.
inline std::string clean_gloria(std::string_view text) {
  const std::string t = fold(text);
  std::vector<std::vector<std::string>> sentences(1);
  for (std::size_t i = 0; i < t.size();) {
    if (t[i] == '.') {
      sentences.emplace_back();
      ++i;
    } else if (word(t[i]) || t[i] == '\x01' || t[i] == '\x02') {
      std::size_t j = i;
      bool digits = true, blank = true;
      std::string ascii;  // other letters are dropped from the word
      for (; j < t.size() && (word(t[j]) || t[j] == '\x01' || t[j] == '\x02'); ++j) {
        digits = digits && digit(t[j]), blank = blank && t[j] == '_';
        if (word(t[j])) ascii += t[j];
      }
      if (digits && j < t.size() && t[j] == '.') sentences.emplace_back();
      else if (!blank && !ascii.empty()) sentences.back().push_back(ascii);
      i = j;
    } else {
      ++i;
    }
  }
  std::string out;
  for (const auto& s : sentences)
    if (s.size() > 1)
      for (const auto& w : s) out += (out.empty() ? "" : " ") + w;
  return out;
}
}  // namespace detail

/// The text as the model reads it; references of BLEU and ROUGE-L are cleaned the same way.
inline std::string clean_text(std::string_view text, Cleaning rule = Cleaning::standard) {
  switch (rule) {
    case Cleaning::standard: return detail::clean_standard(text);
    case Cleaning::gloria: return detail::clean_gloria(text);
    default: return std::string(text);
  }
}

}  // namespace hybridmed::data
