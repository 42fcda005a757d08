// Bad vocabularies.
#include "hybridmed/data/tokenizer.hpp"
#include "readers.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("vocabularies: without [UNK], or damaged otherwise") {
  using Use = std::function<void(const fs::path&)>;
  const Use as_wordpiece = [](const fs::path& p) { data::WordPiece::read(p); };
  const Use as_tokenizer = [](const fs::path& p) { data::Tokenizer::read(p); };
  for (const Use& use : {as_wordpiece, as_tokenizer}) {
    const auto vocabulary = [&](const std::string& name, const std::string& text,
                                std::vector<std::string> patterns) {
      return with_bytes(name, "vocab.txt", text, use, std::move(patterns));
    };
    check({
        vocabulary("no [UNK]", "[PAD]\n[BOS]\n[EOS]\nheart\n", {"no token \\[UNK\\]"}),
        vocabulary("[unk] in small letters", "[PAD]\n[BOS]\n[EOS]\n[unk]\nheart\n",
                   {"no token \\[UNK\\]"}),
        vocabulary("cut before [UNK]", "[PAD]\n[BOS]\n[EOS]\n[UN", {"no token \\[UNK\\]"}),
        vocabulary("no [PAD]", "[BOS]\n[EOS]\n[UNK]\nheart\n", {"no token \\[PAD\\]"}),
        vocabulary("neither [BOS] nor [CLS]", "[PAD]\n[UNK]\n[SEP]\n",
                   {"no token \\[BOS\\] or \\[CLS\\]"}),
        vocabulary("a token twice", "[PAD]\n[BOS]\n[EOS]\n[UNK]\nheart\nheart\n",
                   {"line 6", "'heart'", "twice"}),
        vocabulary("an empty line", "[PAD]\n[BOS]\n\n[EOS]\n[UNK]\n", {"line 3", "empty token"}),
        vocabulary("a token that is not UTF-8", "[PAD]\n[BOS]\n[EOS]\n[UNK]\nna\xefve\n",
                   {"line 5", "not UTF-8"}),
        vocabulary("an empty file", "", {"no token"}),
        {"a missing file",
         [](const fs::path& f) { return f / "vocab.txt"; },
         use,
         {"No such file"}},
    });
  }
}
