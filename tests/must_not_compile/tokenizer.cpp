// expects: hybridmed: a tokenizer has the members pad, bos, eos and unk, and size(), token(id),
// encode(text), decode(ids) and write(path), all const; see docs/policies/tokenizer.md

#include <hybridmed/data/tokenizer.hpp>

using namespace hybridmed;

/// Reads, and does not write.
struct Bytes {
  static constexpr std::int32_t pad = 256, bos = 257, eos = 258, unk = -1;
  std::size_t size() const { return 259; }
  std::string token(std::int32_t id) const { return std::to_string(id); }
  std::vector<std::int32_t> encode(std::string_view text) const {
    return {text.begin(), text.end()};
  }
#ifdef HYBRIDMED_CONTROL
  std::string decode(const std::vector<std::int32_t>& ids) const {
    return {ids.begin(), ids.end()};
  }
#endif
  void write(const std::filesystem::path&) const {}
};
const data::Tokenizer tokenizer(Bytes{});
