// Tokenizer: what WordPiece gives, what a user's own class gives, copies, files, threads.
#include "hybridmed/data/tokenizer.hpp"

#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <thread>

#include "errors.hpp"
#include "hybridmed/data/dataset.hpp"
#include "policies/archetypes.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using data::Tokenizer;
using data::WordPiece;
namespace fs = std::filesystem;

namespace {

const fs::path fixtures = HYBRIDMED_FIXTURES;
using Ids = std::vector<std::int32_t>;

const std::vector<std::string> texts{"",
                                     " \n",
                                     "The heart is normal.",
                                     "left-sided effusion, 2.5 x 3.0 cm; no pneumothorax",
                                     "caf\xC3\xA9 \xE5\xBF\x83\xE8\x84\x8F t9-t10",
                                     "\xFF\xFE not UTF-8 \x80",
                                     std::string(300, 'q')};

WordPiece learned() {
  return data::train_wordpiece({"the heart is normal. left - sided effusion, 2.5 cm; no edema.",
                                "the lungs are clear. no effusion."},
                               120, 1);
}

/// A user's own: a token a word. Its ids are data members, and token(id) is no std::string.
struct Words {
  std::int32_t pad, bos = 2, eos = 3, unk = 0;
  std::vector<std::string> words;
  std::map<std::string, std::int32_t, std::less<>> ids;

  explicit Words(std::vector<std::string> known) : pad(1), words{"?", "", "<", ">"} {
    words.insert(words.end(), known.begin(), known.end());
    for (std::size_t i = 4; i < words.size(); ++i) ids[words[i]] = static_cast<std::int32_t>(i);
  }
  std::size_t size() const { return words.size(); }
  const char* token(std::int32_t id) const { return words[static_cast<std::size_t>(id)].c_str(); }
  Ids encode(std::string_view text) const {
    Ids out;
    while (!text.empty()) {
      const auto end = std::min(text.find(' '), text.size());
      const auto it = ids.find(text.substr(0, end));
      if (end > 0) out.push_back(it == ids.end() ? unk : it->second);
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
  }
  std::string decode(const Ids& all) const {
    std::string s;
    for (const std::int32_t id : all)
      if (id != pad && id != bos && id != eos) s += (s.empty() ? "" : " ") + std::string(token(id));
    return s;
  }
  void write(const fs::path& path) const {
    std::string s = "words\n";
    for (const auto& w : words) s += w + "\n";
    io::write_text_atomically(path, s);
  }
};

static_assert(data::TokenizerModel<WordPiece>);
static_assert(data::TokenizerModel<Words>);
static_assert(data::TokenizerModel<archetype::Tokenizer>);
static_assert(!data::TokenizerModel<std::string>);
static_assert(std::is_convertible_v<WordPiece, Tokenizer>);
static_assert(!std::is_convertible_v<std::string, Tokenizer>);
static_assert(!std::is_default_constructible_v<Tokenizer>);

void check_equal(const Tokenizer& t, const WordPiece& w) {
  CHECK(t.pad == w.pad);
  CHECK(t.bos == w.bos);
  CHECK(t.eos == w.eos);
  CHECK(t.unk == w.unk);
  REQUIRE(t.size() == w.size());
  Ids all;
  for (std::int32_t id = 0; id < static_cast<std::int32_t>(w.size()); ++id) {
    CHECK(t.token(id) == w.token(id));
    all.push_back(id);
  }
  CHECK(t.decode(all) == w.decode(all));
  for (const std::string& text : texts) {
    CAPTURE(text);
    const Ids ids = w.encode(text);
    CHECK(t.encode(text) == ids);
    CHECK(t.decode(ids) == w.decode(ids));
    for (const std::size_t limit : {2, 3, 5, 8, 64}) {
      CAPTURE(limit);
      bool a = false;
      bool b = true;
      CHECK(t.encode_section(text, limit, &a) == w.encode_section(text, limit, &b));
      CHECK(a == b);
    }
  }
  for (const std::int32_t bad : {-1, static_cast<std::int32_t>(w.size())}) {
    CHECK(error_of([&] { t.token(bad); }) == error_of([&] { w.token(bad); }));
    CHECK(error_of([&] { t.decode({0, bad}); }) == error_of([&] { w.decode({0, bad}); }));
    CHECK(holds(error_of([&] { t.token(bad); }), "token id"));
  }
  for (const std::size_t limit : {0, 1})
    CHECK(error_of([&] { t.encode_section("a", limit); }) ==
          error_of([&] { w.encode_section("a", limit); }));
}

data::DatasetOptions small_options() {
  data::DatasetOptions o;
  o.t_findings = 5;
  o.t_impression = 8;
  return o;
}

}  // namespace

TEST_CASE("a Tokenizer of a WordPiece gives what the WordPiece gives") {
  check_equal(learned(), learned());
  check_equal(Tokenizer::read(fixtures / "vocab.txt"), WordPiece::read(fixtures / "vocab.txt"));
  const WordPiece bert({"heart", "[SEP]", "[PAD]", "[UNK]", "[CLS]", "##s", "[MASK]"});
  check_equal(bert, bert);
  const std::string crlf = "[PAD]\r\n[BOS]\r\n[EOS]\r\n[UNK]\r\nheart\r\n##s\r\n";
  check_equal(Tokenizer::parse(crlf, "crlf"), WordPiece::parse(crlf, "crlf"));
  const std::string no_end = "[BOS]\n[EOS]\n[UNK]\nheart\n[PAD]\r";
  check_equal(Tokenizer::parse(no_end, "no end"), WordPiece::parse(no_end, "no end"));
}

TEST_CASE("a run's file has the bytes that WordPiece writes, and is read again") {
  const ScratchFolder f;
  const WordPiece w = learned();
  w.write(f.path / "wordpiece.txt");
  const Tokenizer t = w;
  t.write(f.path / "vocab.txt");
  CHECK(io::read_text(f.path / "vocab.txt") == io::read_text(f.path / "wordpiece.txt"));
  const Tokenizer again = Tokenizer::read(f.path / "vocab.txt");
  check_equal(again, w);
  again.write(f.path / "again.txt");
  CHECK(io::read_text(f.path / "again.txt") == io::read_text(f.path / "vocab.txt"));
}

TEST_CASE("a tokenizer of the user's own") {
  const Words words({"no", "effusion", "heart"});
  const Tokenizer t = words;
  CHECK(t.pad == 1);
  CHECK(t.bos == 2);
  CHECK(t.eos == 3);
  CHECK(t.unk == 0);
  CHECK(t.size() == 7);
  CHECK(t.token(5) == "effusion");
  CHECK(t.encode("no  large effusion") == Ids{4, 0, 5});
  CHECK(t.decode({2, 4, 5, 3, 1, 1}) == "no effusion");
  bool cut = false;
  CHECK(t.encode_section("no effusion heart", 4, &cut) == Ids{2, 4, 5, 3});
  CHECK(cut);
  CHECK(t.encode_section("no effusion", 4, &cut) == Ids{2, 4, 5, 3});
  CHECK_FALSE(cut);
  CHECK(t.encode_section("", 4, &cut).empty());
  CHECK_FALSE(cut);
  CHECK(holds(error_of([&] { t.encode_section("no", 1); }), "no room for BOS and EOS"));
  // Words looks nothing up before it indexes: Tokenizer does.
  CHECK(holds(error_of([&] { t.token(7); }), "from 0 to 6, got 7"));
  CHECK(holds(error_of([&] { t.decode({4, -1}); }), "from 0 to 6, got -1"));
  const ScratchFolder f;
  t.write(f.path / "words.txt");
  CHECK(io::read_text(f.path / "words.txt").starts_with("words\n?\n"));

  const std::vector<data::Study> studies{
      data::make_study("a", {"a"}, "no large effusion no heart", "heart")};
  const data::ReadImage none = [](const std::string&) { return data::Image(); };
  const data::Dataset d(studies, t, small_options(), none);
  CHECK(d.findings(0) == Ids{2, 4, 0, 5, 3});
  CHECK(d.impression(0) == Ids{2, 6, 3});
  CHECK(d.cut_findings() == 1);
  const data::Dataset same(studies, words, small_options(), none);  // made a Tokenizer on the way
  CHECK(same.findings(0) == d.findings(0));
}

TEST_CASE("the archetype: no more is asked for than the page says") {
  const Tokenizer t(archetype::Tokenizer("word"));
  CHECK(t.unk == -1);
  CHECK(t.encode_section("one two three", 4) == Ids{1, 3, 3, 2});
  CHECK(t.decode({1, 3, 2}) == "word");
  t.write("nowhere");
}

TEST_CASE("special tokens that are none of the tokens are refused, by name") {
  const auto with = [](std::int32_t Words::*special, std::int32_t id) {
    Words w({"heart"});
    w.*special = id;
    return error_of([&] { const Tokenizer t(w); });
  };
  CHECK(with(&Words::unk, 4).empty());
  CHECK(with(&Words::unk, -1).empty());
  CHECK(holds(with(&Words::unk, -2), "unk is -2"));
  CHECK(holds(with(&Words::pad, -1), "pad is -1"));
  CHECK(holds(with(&Words::bos, 5), "bos is 5: expected 0 to below 5"));
  CHECK(holds(with(&Words::eos, 1000), "eos is 1000"));
  CHECK(holds(error_of([] { const Tokenizer t{WordPiece()}; }), "[hybridmed.data] tokenizer"));
}

TEST_CASE("copies are independent values, and what was moved from is as it was") {
  const WordPiece w = learned();
  std::optional<Tokenizer> original = Tokenizer(w);
  Tokenizer copy = *original;
  copy.eos = copy.pad;
  CHECK(original->eos == w.eos);
  CHECK(copy.encode_section("heart", 8).back() == w.pad);
  CHECK(original->encode_section("heart", 8).back() == w.eos);
  const Tokenizer moved = std::move(*original);
  check_equal(moved, w);
  check_equal(*original, w);
  copy = *original;
  original.reset();
  check_equal(copy, w);
  copy = Words({"heart"});
  CHECK(copy.encode("heart") == Ids{4});
  CHECK(copy.eos == 3);
  check_equal(moved, w);
  // The model that it was made of is its own.
  Words words({"heart"});
  const Tokenizer t = words;
  words.words[4] = "lung";
  CHECK(t.token(4) == "heart");
}

TEST_CASE("files that are no vocabulary: the error names file, reason and what is read") {
  const ScratchFolder f;
  const auto error = [&](const std::string& bytes) {
    f.write("file", bytes);
    const std::string e = error_of([&] { Tokenizer::read(f.path / "file"); });
    CHECK_MESSAGE(e.starts_with("[hybridmed.data] vocabulary: "), e);
    CHECK_MESSAGE(holds(e, (f.path / "file").string()), e);
    return e;
  };
  const std::pair<std::string, std::string> none[] = {
      {"", "no token: the file is empty"},
      {"\n", "no token [PAD]"},
      {"the heart is normal\n", "no token [PAD]"},
      {"the token [PAD]\n[PAD] pads\n", "no token [PAD]"},
      {"[BOS]\n[EOS]\n[UNK]\nheart\n", "no token [PAD]"},
      {"#version: 0.2\n\xC4\xA0 t\nh e\n", "no token [PAD]"},
      {"\xEF\xBB\xBF[PAD]\n[BOS]\n[EOS]\n[UNK]\n", "no token [PAD]"},
      {"{\"[PAD]\": 0, \"[UNK]\": 1}", "JSON"},
      {"{\n  \"version\": \"1.0\", \"model\": {\"type\": \"BPE\"}}\n", "JSON"},
      {" {}\n", "JSON"},
      {"[\n \"[PAD]\",\n \"[UNK]\"]", "JSON"},
      {"\x89PNG\r\n\x1A\n", "no UTF-8 text at byte 0"},
      {std::string("ab\0c", 4), "no UTF-8 text at byte 2"},
      {std::string("\xFF\xFE[\0P\0A\0D\0]\0\n\0", 14), "no UTF-8 text at byte 0"},
      {"c\xF4t\xE9\n", "no UTF-8 text at byte 1"}};
  for (const auto& [bytes, reason] : none) {
    CAPTURE(bytes);
    const std::string e = error(bytes);
    CHECK_MESSAGE(holds(e, reason), e);
    CHECK_MESSAGE(holds(e, "what is read is a WordPiece vocabulary"), e);
  }
  // A damaged vocabulary is still one: the error is WordPiece's own.
  for (const char* bytes :
       {"[PAD]\n[BOS]\n[EOS]\nheart\n", "[PAD]\n[UNK]\n[SEP]\n", "{\n\"\n[PAD]\n",
        "[PAD]\n[BOS]\n\n[EOS]\n[UNK]\n", "[PAD]\n[BOS]\n[EOS]\n[UNK]\nna\xEFve\n",
        "[PAD]\r\n[BOS]\n[EOS]\n[UNK]\nheart\nheart\n"}) {
    CAPTURE(bytes);
    const std::string e = error(bytes);
    CHECK(e == error_of([&] { WordPiece::read(f.path / "file"); }));
  }
  CHECK(error_of([&] { Tokenizer::read(f.path); }) == error_of([&] { WordPiece::read(f.path); }));
  CHECK(holds(error_of([&] { Tokenizer::read(f.path / "absent"); }), "No such file"));
}

TEST_CASE("one tokenizer and its copies are used by several threads at once") {
  const Tokenizer shared = learned();
  const WordPiece expected = learned();
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t k = 0; k < wrong.size(); ++k)
    threads.emplace_back([&, k] {
      for (int round = 0; round < 20; ++round) {
        const Tokenizer copy = shared;
        const Tokenizer& used = round % 2 ? shared : copy;
        for (const std::string& text : texts) {
          const Ids ids = expected.encode(text);
          wrong[k] += used.encode(text) != ids;
          wrong[k] += used.decode(ids) != expected.decode(ids);
          wrong[k] += used.encode_section(text, 8) != expected.encode_section(text, 8);
        }
      }
    });
  for (auto& t : threads) t.join();
  CHECK(wrong == std::vector<int>(4, 0));
}
