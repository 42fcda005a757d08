#pragma once
// Texts as token ids by any tokenizer: a value over WordPiece, over kinds that come, and over a
// user's own (docs/policies/tokenizer.md).
#include <concepts>
#include <memory>
#include <type_traits>

#include "hybridmed/data/wordpiece.hpp"

namespace hybridmed::data {

/// What a Tokenizer is made of; its const members are called from several threads at once. See
/// docs/policies/tokenizer.md.
template <class M>
concept TokenizerModel = std::move_constructible<M> &&
    requires(const M& m, std::string_view text, std::int32_t id,
             const std::vector<std::int32_t>& ids, const std::filesystem::path& path) {
  { m.pad } -> std::convertible_to<std::int32_t>;
  { m.bos } -> std::convertible_to<std::int32_t>;
  { m.eos } -> std::convertible_to<std::int32_t>;
  { m.unk } -> std::convertible_to<std::int32_t>;
  { m.size() } -> std::convertible_to<std::size_t>;
  { m.token(id) } -> std::convertible_to<std::string>;
  { m.encode(text) } -> std::convertible_to<std::vector<std::int32_t>>;
  { m.decode(ids) } -> std::convertible_to<std::string>;
  m.write(path);
};

class Tokenizer;

namespace detail {
/// What `Tokenizer::parse` reads.
inline constexpr std::string_view tokenizer_kinds =
    "what is read is a WordPiece vocabulary: UTF-8 text, a token a line, among them [PAD], [BOS] "
    "or [CLS], [EOS] or [SEP], and [UNK]";

/// Is there a line [PAD]? JSON, tables and lists of merges have none.
inline bool is_wordpiece(std::string_view text) {
  constexpr std::string_view pad = "[PAD]";
  for (auto at = text.find(pad); at != text.npos; at = text.find(pad, at + 1)) {
    std::string_view rest = text.substr(at + pad.size());
    if (rest.starts_with('\r')) rest.remove_prefix(1);
    if ((at == 0 || text[at - 1] == '\n') && (rest.empty() || rest[0] == '\n')) return true;
  }
  return false;
}
/// Does a text begin as a JSON object or list does? [BOS] begins with a bracket too, but goes on
/// with a letter.
inline bool begins_as_json(std::string_view text) {
  constexpr const char* blanks = " \t\r\n";
  const auto first = text.find_first_not_of(blanks);
  if (first == text.npos) return false;
  const auto second = text.find_first_not_of(blanks, first + 1);
  if (second == text.npos) return false;
  const std::string_view follow = text[first] == '{' ? "\"}" : text[first] == '[' ? "\"{[]" : "";
  return follow.find(text[second]) != follow.npos;
}
/// From which classes a Tokenizer is made, and to which it says what they lack; itself it copies.
template <class M>
concept HeldByTokenizer = !std::derived_from<M, Tokenizer> && TokenizerModel<M>;
template <class M>
concept NoTokenizer = std::is_class_v<M> && !std::derived_from<M, Tokenizer> && !TokenizerModel<M>;
}  // namespace detail

/// A tokenizer as everything above data/ holds it: copied freely, never empty, and const in use, by
/// any number of threads.
///
/// What it was made of lies behind a shared const interface and not in a std::variant: users bring
/// kinds of their own, a copy counts a reference and copies no vocabulary, and the price is one
/// virtual call a text, none a token.
class Tokenizer {
 public:
  std::int32_t pad = 0, bos = 0, eos = 0;
  std::int32_t unk = 0;  ///< -1 where nothing is unknown

  /// Not explicit: whoever has a WordPiece, or a tokenizer of his own, has a Tokenizer.
  /// @throws Error where a special token is none of its tokens.
  template <detail::HeldByTokenizer M>
  Tokenizer(M model)
      : pad(model.pad),
        bos(model.bos),
        eos(model.eos),
        unk(model.unk),
        model_(std::make_shared<const Adapter<M>>(std::move(model))) {
    check_special("pad", pad, 0);
    check_special("bos", bos, 0);
    check_special("eos", eos, 0);
    check_special("unk", unk, -1);
  }
  /// For a class that is no tokenizer: the sentence that says why.
  template <detail::NoTokenizer M>
  explicit Tokenizer(const M&) {
    static_assert(TokenizerModel<M>,
                  "hybridmed: a tokenizer has the members pad, bos, eos and unk, and size(), "
                  "token(id), encode(text), decode(ids) and write(path), all const; see "
                  "docs/policies/tokenizer.md");
  }
  // Moved from, it would be empty: a move is a copy.
  Tokenizer(const Tokenizer&) = default;
  Tokenizer& operator=(const Tokenizer&) = default;
  ~Tokenizer() = default;

  /// Tells the kind of a file by its bytes. So far: a WordPiece vocabulary, one token a line.
  /// @throws Error that names `source`, and the kinds that are read where it is none of them.
  static Tokenizer parse(std::string_view text, const std::string& source) {
    if (detail::is_wordpiece(text)) return WordPiece::parse(text, source);
    std::string reason = "no token [PAD]";
    if (const auto at = (std::min)(text.find('\0'), first_not_utf8(text)); at != text.npos)
      reason = "no UTF-8 text at byte " + std::to_string(at);
    else if (text.empty())
      reason = "no token: the file is empty";
    else if (detail::begins_as_json(text))
      reason = "JSON, which is no vocabulary that is read";
    fail("data", "vocabulary", source + ": " + reason, detail::tokenizer_kinds);
  }
  static Tokenizer read(const std::filesystem::path& path) {
    return parse(io::read_text(path), path.string());
  }
  /// As a run folder keeps it.
  void write(const std::filesystem::path& path) const { model_->write(path); }

  std::size_t size() const { return model_->size(); }
  /// @throws Error for an id outside the vocabulary.
  std::string token(std::int32_t id) const {
    detail::check_token_id(id, size());
    return model_->token(id);
  }

  /// Token ids without BOS and EOS.
  std::vector<std::int32_t> encode(std::string_view text) const { return model_->encode(text); }
  /// BOS ... EOS, cut to `limit` tokens in all; a text without tokens gives none. `cut`, if given,
  /// says whether something was cut off.
  std::vector<std::int32_t> encode_section(std::string_view text, std::size_t limit,
                                           bool* cut = nullptr) const {
    detail::check_section_limit(limit);
    return detail::section_of(encode(text), bos, eos, limit, cut);
  }
  /// The text again, as far as the tokenizer keeps it; special tokens but the unknown one are left
  /// out.
  /// @throws Error for an id outside the vocabulary.
  std::string decode(const std::vector<std::int32_t>& ids) const {
    const std::size_t tokens = size();
    for (const std::int32_t id : ids) detail::check_token_id(id, tokens);
    return model_->decode(ids);
  }

 private:
  struct Interface {
    virtual ~Interface() = default;
    virtual std::size_t size() const = 0;
    virtual std::string token(std::int32_t id) const = 0;
    virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
    virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;
    virtual void write(const std::filesystem::path& path) const = 0;
  };
  template <class M>
  struct Adapter final : Interface {
    M model;
    explicit Adapter(M m) : model(std::move(m)) {}
    std::size_t size() const override { return model.size(); }
    std::string token(std::int32_t id) const override { return model.token(id); }
    std::vector<std::int32_t> encode(std::string_view text) const override {
      return model.encode(text);
    }
    std::string decode(const std::vector<std::int32_t>& ids) const override {
      return model.decode(ids);
    }
    void write(const std::filesystem::path& path) const override { model.write(path); }
  };

  void check_special(const char* name, std::int32_t id, std::int32_t least) const {
    if (id < least || (id >= 0 && static_cast<std::size_t>(id) >= size()))
      fail("data", "tokenizer",
           std::string(name) + " is " + std::to_string(id) + ": expected " + std::to_string(least) +
               " to below " + std::to_string(size()) + ", the number of tokens");
  }

  std::shared_ptr<const Interface> model_;
};

}  // namespace hybridmed::data
