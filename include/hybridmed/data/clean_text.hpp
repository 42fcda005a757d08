#pragma once
// Cleaning of report sections (method 3).
#include <utf8proc.h>

#include <algorithm>
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

/// Where the first byte stands that is no UTF-8; npos where there is none.
inline std::size_t first_not_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    utf8proc_int32_t c = 0;
    const auto n = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                                    static_cast<utf8proc_ssize_t>(text.size() - at), &c);
    if (n < 1) return at;
    at += static_cast<std::size_t>(n);
  }
  return text.npos;
}
/// Is every character well-formed?
inline bool is_utf8(std::string_view text) { return first_not_utf8(text) == text.npos; }

namespace detail {
inline bool digit(char c) { return (c >= '0' && c <= '9') || c == '\x01'; }
inline bool word(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '_'; }

/// Lower case in one byte a character: ASCII as it is, white space as ' ' (line feeds stay), other
/// digits \x01, other letters and numbers \x02, everything else \x03.
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
    if (c == '\n')
      out += '\n';
    else if ((c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 ||
             k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP)
      out += ' ';
    else if (c < 128)
      out += static_cast<char>(c < 4 ? 3 : c);
    else if (k == UTF8PROC_CATEGORY_ND)
      out += '\x01';
    else if ((k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
             k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO)
      out += '\x02';
    else
      out += '\x03';
  }
  return out;
}

/// Lower case; list numbers at line starts, de-identification blanks (xxxx, ____) and all
/// characters but a-z 0-9 . , / % - dropped.
inline std::string clean_standard(std::string_view text) {
  const std::string t = fold(text);
  std::string s;
  std::size_t none_before =
      0;  // no list number starts before this: blank lines are looked through once
  for (std::size_t i = 0; i < t.size();) {
    if (i >= none_before &&
        (i == 0 || t[i - 1] == '\n')) {  // line start: spaces, digits, a full stop, a space
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
      if (c != ' ')
        out += c;
      else if (!out.empty() && out.back() != ' ')
        out += ' ';
      continue;
    }
    std::size_t j = i;
    bool blank = true;
    for (; j < s.size() && word(s[j]); ++j) blank = blank && s[j] == 'x';
    if (blank && j - i >= 2) {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else {
      for (; i < j; ++i) {
        if (s[i] != '_')
          out += s[i];
        else if (!out.empty() && out.back() != ' ')
          out += ' ';
      }
    }
    i = j;
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

/// GLoRIA's and MGCA's rule: sentences split at <digits>. and at full stops, words of letters,
/// digits and underscores; sentences of one word are dropped, then what is not ASCII. Unlike there,
/// words of underscores alone (de-identification blanks) are none.
inline std::string clean_gloria(std::string_view text) {
  const std::string t = fold(text);
  const auto in_word = [](char c) { return word(c) || c == '\x01' || c == '\x02'; };
  std::string out;
  for (std::size_t begin = 0; begin <= t.size();) {
    const std::size_t stop = (std::min)(t.find('.', begin), t.size());
    std::size_t end = stop;
    if (stop < t.size())
      while (end > begin && t[end - 1] >= '0' && t[end - 1] <= '9')
        --end;  // the digits belong to the separator: "t10." leaves "t"
    std::vector<std::string> words;
    for (std::size_t i = begin; i < end; ++i) {
      if (!in_word(t[i])) continue;
      if (i == begin || !in_word(t[i - 1])) words.emplace_back();
      words.back() += t[i];
    }
    std::erase_if(words, [](const std::string& w) { return w.find_first_not_of('_') == w.npos; });
    if (words.size() > 1)
      for (auto& w : words) {
        std::erase_if(w, [](char c) { return !word(c); });
        if (!w.empty()) out += (out.empty() ? "" : " ") + w;
      }
    begin = stop + 1;
  }
  return out;
}

/// Calls f(character) for every character, f(-1) for every byte that is no UTF-8.
template <class F>
void each_character(std::string_view text, F&& f) {
  const auto* p = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    utf8proc_int32_t c = 0;
    const auto n = utf8proc_iterate(p + i, static_cast<utf8proc_ssize_t>(text.size() - i), &c);
    f(n > 0 ? c : -1);
    i += n > 0 ? static_cast<std::size_t>(n) : 1;
  }
}
inline bool letter_or_number(utf8proc_int32_t c) {
  const auto k = utf8proc_category(c);
  return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
         (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}
}  // namespace detail

/// Does the text hold a letter or a digit of any script?
inline bool has_words(std::string_view text) {
  bool found = false;
  detail::each_character(
      text, [&](utf8proc_int32_t c) { found = found || (c >= 0 && detail::letter_or_number(c)); });
  return found;
}

/// The text as the model reads it; empty where no letter or digit is left.
inline std::string clean_text(std::string_view text, Cleaning rule = Cleaning::standard) {
  std::string out = rule == Cleaning::standard ? detail::clean_standard(text)
                    : rule == Cleaning::gloria ? detail::clean_gloria(text)
                                               : std::string(text);
  if (!has_words(out)) out.clear();
  return out;
}

/// What a rule takes from a text besides punctuation.
struct CleaningLoss {
  std::size_t letters = 0;  ///< letters and digits beyond ASCII; `none` keeps them
  std::size_t bytes = 0;    ///< bytes that are no UTF-8: no rule can read them

  CleaningLoss& operator+=(const CleaningLoss& more) {
    letters += more.letters;
    bytes += more.bytes;
    return *this;
  }
};
inline CleaningLoss cleaning_loss(std::string_view text, Cleaning rule) {
  CleaningLoss loss;
  detail::each_character(text, [&](utf8proc_int32_t c) {
    if (c < 0)
      ++loss.bytes;
    else if (c > 127 && rule != Cleaning::none && detail::letter_or_number(c))
      ++loss.letters;
  });
  return loss;
}

}  // namespace hybridmed::data
