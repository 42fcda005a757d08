// Any bytes as a file that a tokenizer is read from. What follows the last zero byte is a text to
// encode; without one, the file itself is.
#include "hybridmed/data/tokenizer.hpp"
#include "target.hpp"

using namespace hybridmed;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all = fuzz::text_of(data, size);
  const auto zero = all.rfind('\0');
  const std::string_view file = all.substr(0, zero),
                         text = zero == all.npos ? all : all.substr(zero + 1);
  fuzz::guarded("vocab.txt", [&] {
    const auto vocabulary = data::Tokenizer::parse(file, "vocab.txt");
    const auto n = static_cast<std::int32_t>(vocabulary.size());
    const auto inside = [&](std::int32_t id) { return id >= 0 && id < n; };
    for (const std::int32_t id : {vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk}) {
      fuzz::require(inside(id), "special tokens have ids");
    }
    const auto ids = vocabulary.encode(text);
    fuzz::require(std::all_of(ids.begin(), ids.end(), inside), "encoded ids are in the vocabulary");
    const auto section = vocabulary.encode_section(text, 8);
    const std::size_t length = ids.empty() ? 0 : std::min<std::size_t>(ids.size() + 2, 8);
    fuzz::require(section.size() == length, "a section has the length its text and limit give");
    if (!section.empty())
      fuzz::require(section.front() == vocabulary.bos && section.back() == vocabulary.eos,
                    "a section is BOS ... EOS");
    const std::string decoded = vocabulary.decode(ids);
    (void)vocabulary.encode(decoded);
  });
  return 0;
}
