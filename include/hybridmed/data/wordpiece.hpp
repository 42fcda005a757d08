#pragma once
// WordPiece tokens (Devlin et al., BERT, NAACL 2019), lower-cased, accents stripped; Unicode
// through utf8proc. Special tokens are found by name. Also a trainer for new vocabularies.
#include <utf8proc.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/data/clean_text.hpp"
#include "hybridmed/io/file.hpp"

namespace hybridmed::data {

namespace detail {
inline void append_utf8(std::string& s, utf8proc_int32_t c) {
  utf8proc_uint8_t buffer[4];
  const auto n = utf8proc_encode_char(c, buffer);
  s.append(reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(n));
}
inline bool cjk(utf8proc_int32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B820 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}
inline bool punctuation(utf8proc_int32_t c) {
  if ((c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
      (c >= 123 && c <= 126))
    return true;
  const auto k = utf8proc_category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}
}  // namespace detail

/// BERT's basic tokenizer: words and single punctuation marks, lower-cased, accents stripped.
inline std::vector<std::string> basic_tokens(std::string_view text) {
  std::vector<std::string> words(1);
  const auto cut = [&] {
    if (!words.back().empty()) words.emplace_back();
  };
  const auto* p = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    utf8proc_int32_t c = 0;
    const auto n = utf8proc_iterate(p + i, static_cast<utf8proc_ssize_t>(text.size() - i), &c);
    if (n <= 0) {  // not UTF-8: skip the byte
      ++i;
      continue;
    }
    i += static_cast<std::size_t>(n);
    const auto category = utf8proc_category(c);
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || category == UTF8PROC_CATEGORY_ZS ||
        category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP) {
      cut();
      continue;
    }
    if (c == 0 || c == 0xFFFD ||
        (category >= UTF8PROC_CATEGORY_CC && category <= UTF8PROC_CATEGORY_CO))
      continue;
    utf8proc_int32_t parts[16];
    int last = 0;
    const auto count =
        utf8proc_decompose_char(utf8proc_tolower(c), parts, 16, UTF8PROC_DECOMPOSE, &last);
    for (utf8proc_ssize_t k = 0; k < std::min<utf8proc_ssize_t>(count, 16); ++k) {
      if (utf8proc_category(parts[k]) == UTF8PROC_CATEGORY_MN) continue;
      const bool alone = detail::cjk(parts[k]) || detail::punctuation(parts[k]);
      if (alone) cut();
      detail::append_utf8(words.back(), parts[k]);
      if (alone) cut();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

/// Number of characters of well-formed UTF-8.
inline std::size_t characters_in(std::string_view s) {
  return static_cast<std::size_t>(std::count_if(
      s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

namespace detail {
/// @throws Error for an id outside a vocabulary of `size` tokens.
inline void check_token_id(std::int32_t id, std::size_t size) {
  if (id < 0 || static_cast<std::size_t>(id) >= size)
    fail("data", "vocabulary",
         "expected a token id from 0 to " + std::to_string(size - 1) + ", got " +
             std::to_string(id));
}
inline void check_section_limit(std::size_t limit) {
  if (limit < 2)
    fail("data", "encode_section",
         "a limit of " + std::to_string(limit) + " tokens has no room for BOS and EOS");
}
/// The ids of a text between BOS and EOS, cut to `limit` in all; of no ids none.
inline std::vector<std::int32_t> section_of(std::vector<std::int32_t> ids, std::int32_t bos,
                                            std::int32_t eos, std::size_t limit, bool* cut) {
  if (cut) *cut = ids.size() > limit - 2;
  if (ids.empty()) return ids;
  if (ids.size() > limit - 2) ids.resize(limit - 2);
  ids.insert(ids.begin(), bos);
  ids.push_back(eos);
  return ids;
}
}  // namespace detail

class WordPiece {
 public:
  static constexpr std::size_t longest_word =
      100;  ///< characters; a longer word is unknown, as BERT's

  std::int32_t pad = 0, bos = 0, eos = 0, unk = 0;

  WordPiece() = default;
  explicit WordPiece(std::vector<std::string> tokens, const std::string& source = "vocabulary")
      : tokens_(std::move(tokens)) {
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      if (tokens_[i].empty())
        fail("data", "vocabulary", source + ", line " + std::to_string(i + 1) + ": an empty token");
      if (!is_utf8(tokens_[i]))
        fail("data", "vocabulary", source + ", line " + std::to_string(i + 1) + ": not UTF-8",
             "save the vocabulary as UTF-8 text, one token a line");
      if (!ids_.emplace(tokens_[i], static_cast<std::int32_t>(i)).second)
        fail("data", "vocabulary",
             source + ", line " + std::to_string(i + 1) + ": the token '" + tokens_[i] +
                 "' stands twice");
    }
    const auto special = [&](std::initializer_list<const char*> names) {
      std::string all;
      for (const char* n : names) {
        if (const auto it = ids_.find(n); it != ids_.end()) return it->second;
        all += (all.empty() ? "" : " or ") + std::string(n);
      }
      fail("data", "vocabulary", source + ": no token " + all);
    };
    pad = special({"[PAD]"});
    bos = special({"[BOS]", "[CLS]"});
    eos = special({"[EOS]", "[SEP]"});
    unk = special({"[UNK]"});
  }
  /// One token a line; the line number minus one is its id.
  static WordPiece parse(std::string_view text, const std::string& source) {
    std::vector<std::string> tokens;
    while (!text.empty()) {
      const auto end = text.find('\n');
      std::string_view line = text.substr(0, end);
      if (line.ends_with('\r')) line.remove_suffix(1);
      tokens.emplace_back(line);
      text.remove_prefix(end == text.npos ? text.size() : end + 1);
    }
    return WordPiece(std::move(tokens), source);
  }
  static WordPiece read(const std::filesystem::path& path) {
    return parse(io::read_text(path), path.string());
  }
  void write(const std::filesystem::path& path) const {
    std::string s;
    for (const auto& t : tokens_) s += t + "\n";
    io::write_text_atomically(path, s);
  }

  std::size_t size() const { return tokens_.size(); }
  /// @throws Error for an id outside the vocabulary.
  const std::string& token(std::int32_t id) const {
    detail::check_token_id(id, tokens_.size());
    return tokens_[static_cast<std::size_t>(id)];
  }

  /// Token ids without BOS and EOS.
  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> out;
    for (const std::string& word : basic_tokens(text)) append(word, out);
    return out;
  }
  /// BOS ... EOS, cut to `limit` tokens in all; an empty text gives none. `cut`, if given, says
  /// whether something was cut off.
  std::vector<std::int32_t> encode_section(std::string_view text, std::size_t limit,
                                           bool* cut = nullptr) const {
    detail::check_section_limit(limit);
    return detail::section_of(encode(text), bos, eos, limit, cut);
  }
  /// The text again, but for case, accents and blanks: word pieces are joined, punctuation is
  /// attached as in prose ("2.5 cm, left-sided"). Special tokens are left out, but for the unknown
  /// one. basic_tokens(decode(encode(x))) are those of x.
  std::string decode(const std::vector<std::int32_t>& ids) const {
    std::string s;
    const std::string* before = nullptr;  // the token before, and the one before that
    const std::string* before_that = nullptr;
    for (std::int32_t id : ids) {
      const std::string& t = token(id);
      if (id == pad || id == bos || id == eos || t == "[CLS]" || t == "[SEP]" || t == "[MASK]")
        continue;
      if (t.starts_with("##"))
        s += t.substr(2);
      else
        s += (before && blank_between(before_that, *before, t) ? " " : "") + t;
      before_that = std::exchange(before, &t);
    }
    return s;
  }

 private:
  static bool wordlike(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           static_cast<unsigned char>(c) >= 128;
  }
  /// Is there a blank between `left` and `right` in prose? `earlier` stands before `left`, or is
  /// null.
  static bool blank_between(const std::string* earlier, const std::string& left,
                            const std::string& right) {
    static constexpr std::string_view closing = ".,;:!?%)]}", joining = "-/'";
    const auto is = [](const std::string& t, std::string_view set) {
      return t.size() == 1 && set.find(t[0]) != set.npos;
    };
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (is(right, closing) || left == "(" || left == "[" || left == "{") return false;
    if (is(right, joining)) return !wordlike(left.back());
    if (!earlier) return true;
    if (is(left, joining))
      return !wordlike(earlier->back()) || !wordlike(right.front());  // left-sided, but: . - right
    if (left == "." || left == ":")
      return !digit(earlier->back()) || !digit(right.front());  // 2.5, 10:30
    return true;
  }

  void append(const std::string& word, std::vector<std::int32_t>& out) const {
    std::vector<std::size_t> starts;  // of the characters
    for (std::size_t i = 0; i < word.size(); ++i)
      if ((static_cast<unsigned char>(word[i]) & 0xC0) != 0x80) starts.push_back(i);
    if (starts.size() > longest_word) return out.push_back(unk);
    starts.push_back(word.size());
    const std::size_t before = out.size();
    for (std::size_t from = 0; from + 1 < starts.size();) {
      std::size_t to = starts.size() - 1;
      for (; to > from; --to) {
        const std::string piece =
            (from ? "##" : "") + word.substr(starts[from], starts[to] - starts[from]);
        if (const auto it = ids_.find(piece); it != ids_.end()) {
          out.push_back(it->second);
          break;
        }
      }
      if (to == from) {
        out.resize(before);
        return out.push_back(unk);
      }
      from = to;
    }
  }

  std::vector<std::string> tokens_;
  std::unordered_map<std::string, std::int32_t> ids_;
};

/// Learns a vocabulary from words that `encode` would look up: special tokens, the alphabet, then
/// the most frequent pair merged again and again (ties: the alphabetically first), until `size`
/// tokens or until no pair occurs `min_count` times.
inline WordPiece train_wordpiece(const std::vector<std::string>& texts, std::size_t size,
                                 std::size_t min_count = 2) {
  std::map<std::string, std::size_t> counts;
  for (const auto& t : texts) {
    check_interrupt("the vocabulary is learned");
    for (auto& w : basic_tokens(t))
      if (characters_in(w) <= WordPiece::longest_word) ++counts[w];
  }
  struct Word {
    std::vector<std::string> pieces;
    std::size_t count;
  };
  std::vector<Word> words;
  std::map<std::string, std::size_t> alphabet;
  for (const auto& [w, n] : counts) {
    Word word{{}, n};
    for (std::size_t i = 0; i < w.size();) {
      std::size_t j = i + 1;
      while (j < w.size() && (static_cast<unsigned char>(w[j]) & 0xC0) == 0x80) ++j;
      word.pieces.push_back((i ? "##" : "") + w.substr(i, j - i));
      alphabet[word.pieces.back()] += n;
      i = j;
    }
    words.push_back(std::move(word));
  }
  std::vector<std::string> tokens{"[PAD]", "[BOS]", "[EOS]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (const auto& [piece, n] : alphabet) tokens.push_back(piece);
  if (tokens.size() > size)
    fail("data", "train_wordpiece",
         "a vocabulary of " + std::to_string(size) + " is smaller than the alphabet of " +
             std::to_string(tokens.size()),
         "raise vocab_size");
  using Pair = std::pair<std::string, std::string>;
  std::map<Pair, std::size_t> pairs;
  std::map<Pair, std::vector<std::size_t>> where;  // words that held the pair at some time
  const auto add_pairs = [&](std::size_t w, bool remove) {
    const auto& p = words[w].pieces;
    for (std::size_t i = 0; i + 1 < p.size(); ++i) {
      const Pair pair{p[i], p[i + 1]};
      if (remove) {
        pairs[pair] -= words[w].count;
      } else {
        pairs[pair] += words[w].count;
        where[pair].push_back(w);
      }
    }
  };
  for (std::size_t w = 0; w < words.size(); ++w) add_pairs(w, false);
  while (tokens.size() < size) {
    check_interrupt("the vocabulary is learned");
    const auto best =
        std::max_element(pairs.begin(), pairs.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == pairs.end() || best->second < min_count) break;
    const Pair pair = best->first;
    const std::string merged = pair.first + pair.second.substr(2);
    if (std::find(tokens.begin(), tokens.end(), merged) == tokens.end()) tokens.push_back(merged);
    std::vector<std::size_t> at = std::move(where[pair]);
    std::sort(at.begin(), at.end());
    at.erase(std::unique(at.begin(), at.end()), at.end());
    for (std::size_t w : at) {
      add_pairs(w, true);
      auto& p = words[w].pieces;
      for (std::size_t i = 0; i + 1 < p.size(); ++i)
        if (p[i] == pair.first && p[i + 1] == pair.second) {
          p[i] = merged;
          p.erase(p.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
      add_pairs(w, false);
    }
    pairs.erase(pair);
    where.erase(pair);
  }
  return WordPiece(std::move(tokens), "trained vocabulary");
}

}  // namespace hybridmed::data
