#pragma once
// Cleaning of report sections (method 3).
#include <cctype>
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
inline bool space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0 || (c >= '\x1c' && c <= '\x1f'); }
inline bool digit(char c) { return c >= '0' && c <= '9'; }
inline bool word(char c) { return digit(c) || (c >= 'a' && c <= 'z') || c == '_'; }
inline std::string lower(std::string_view s) {
  std::string out;
  for (char c : s) out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

/// Lower case; list numbers at line starts, de-identification blanks (xxxx, ____) and all characters but a-z 0-9 . , / % - dropped.
inline std::string clean_standard(std::string_view text) {
  const std::string t = lower(text);
  std::string s;
  for (std::size_t i = 0; i < t.size();) {
    if (i == 0 || t[i - 1] == '\n') {  // line start: spaces, digits, a full stop, a space
      std::size_t j = i;
      while (j < t.size() && space(t[j])) ++j;
      const std::size_t number = j;
      while (j < t.size() && digit(t[j])) ++j;
      if (j > number && j + 1 < t.size() && t[j] == '.' && space(t[j + 1])) {
        s += ' ';
        i = j + 2;
        continue;
      }
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
  const std::string t = lower(text);
  std::vector<std::vector<std::string>> sentences(1);
  for (std::size_t i = 0; i < t.size();) {
    if (t[i] == '.') {
      sentences.emplace_back();
      ++i;
    } else if (word(t[i])) {
      std::size_t j = i;
      bool digits = true, blank = true;
      for (; j < t.size() && word(t[j]); ++j) digits = digits && digit(t[j]), blank = blank && t[j] == '_';
      if (digits && j < t.size() && t[j] == '.') sentences.emplace_back();
      else if (!blank) sentences.back().push_back(t.substr(i, j - i));
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
