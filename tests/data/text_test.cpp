// Texts: cleaning against the reference in Python, WordPiece against tokenizers'
// BertWordPieceTokenizer, vocabularies.
#include <doctest/doctest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "hybridmed/data/clean_text.hpp"
#include "hybridmed/data/wordpiece.hpp"

using namespace hybridmed;
using hybridmed::test::error_of;
using hybridmed::test::holds;
using namespace hybridmed::data;
namespace fs = std::filesystem;

namespace {

const fs::path fixtures = HYBRIDMED_FIXTURES;
using Ids = std::vector<std::int32_t>;
using Tokens = std::vector<std::string>;

/// The rows of a table of make_fixtures.py: fields between tabs, with \\ \n \t \r \0 escaped.
std::vector<Tokens> table(const char* name) {
  std::ifstream in(fixtures / name, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), name);
  std::vector<Tokens> rows;
  for (std::string line; std::getline(in, line);) {
    Tokens row(1);
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '\t')
        row.emplace_back();
      else if (line[i] != '\\')
        row.back() += line[i];
      else {
        const char c = line[++i];
        row.back() += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == '0' ? '\0' : c;
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}
Ids numbers(const std::string& s) {
  std::istringstream in(s);
  Ids out;
  for (std::int32_t x; in >> x;) out.push_back(x);
  return out;
}
std::string text_of(const Ids& ids) {
  std::string s;
  for (auto i : ids) s += std::to_string(i) + " ";
  return s;
}

}  // namespace

// ---------------------------------------------------------------- cleaning

TEST_CASE("cleaning equals the reference") {
  const auto rows = table("clean.tsv");
  CHECK(rows.size() >= 80);
  for (const auto& row : rows) {
    REQUIRE(row.size() == 2);
    CAPTURE(row[0]);
    CHECK(clean_text(row[0]) == row[1]);
    CHECK(clean_text(row[0], Cleaning::none) == (has_words(row[0]) ? row[0] : ""));
  }
}

TEST_CASE("cleaning equals the reference where letters, digits or spaces are not ASCII") {
  for (const auto& row : table("clean_unicode.tsv")) {
    CAPTURE(row[0]);
    CHECK(clean_text(row[0]) == row[1]);
  }
}

TEST_CASE("cleaning keeps what the specification lists") {
  CHECK(clean_text("Cardiomegaly.") == "cardiomegaly.");  // one-word sentences stay
  CHECK(clean_text("1. A 2.5 cm nodule, 50%/T9-T10.\n2. XXXX effusion ___ .") ==
        "a 2.5 cm nodule, 50%/t9-t10. effusion .");
  CHECK(clean_text("") == "");
  CHECK(clean_text("XXXX ____") == "");
}

TEST_CASE(
    "the gloria rule: split at <digits>. and full stops, word runs, sentences of one word "
    "dropped") {
  const auto gloria = [](const char* s) { return clean_text(s, Cleaning::gloria); };
  CHECK(gloria("") == "");
  CHECK(gloria("Cardiomegaly.") == "");
  CHECK(gloria("Heart size is normal. Emphysema. No effusion.") ==
        "heart size is normal no effusion");
  CHECK(gloria("1. Heart size normal.\n2. No pneumothorax") == "heart size normal no pneumothorax");
  CHECK(gloria("No acute\ndisease") == "no acute disease");
  CHECK(gloria("A nodule of 2.5 cm.") == "a nodule of 5 cm");  // "2." splits, as in GLoRIA
  CHECK(gloria("T9-T10 (stable), 50%/x") == "t9 t10 stable 50 x");
  CHECK(gloria("seen on ___ by ____ today. ___ chest.") ==
        "seen on by today");  // all-underscore tokens go, and leave one word in the second sentence
  CHECK(gloria("a_b c") == "a_b c");
  CHECK(gloria("normal heart \xE2\x80\xA2 chest") == "normal heart chest");
  CHECK(gloria("... . .") == "");
  CHECK(gloria("ends without a stop") == "ends without a stop");
}

TEST_CASE("the gloria rule on word runs with letters that are not ASCII") {
  // A word is a run of word characters; then what is not ASCII is dropped from it.
  CHECK(clean_text("na\xC3\xAFve patient", Cleaning::gloria) == "nave patient");
  CHECK(clean_text("Kant\xC5\x8D study", Cleaning::gloria) == "kant study");
}

TEST_CASE("rules are found by name") {
  CHECK(cleaning_from("default") == Cleaning::standard);
  CHECK(cleaning_from("gloria") == Cleaning::gloria);
  CHECK(cleaning_from("none") == Cleaning::none);
  CHECK(holds(error_of([] { cleaning_from("glorai"); }), "glorai"));
}

// ---------------------------------------------------------------- WordPiece

TEST_CASE("WordPiece equals BertWordPieceTokenizer, lower-cased and without accents") {
  const WordPiece vocabulary = WordPiece::read(fixtures / "vocab.txt");
  const auto rows = table("wordpiece.tsv");
  CHECK(rows.size() >= 90);
  for (const auto& row : rows) {
    REQUIRE(row.size() == 2);
    CAPTURE(row[0]);
    const Ids expected = numbers(row[1]), got = vocabulary.encode(row[0]);
    CHECK_MESSAGE(got == expected, text_of(got), " instead of ", text_of(expected));
  }
}

TEST_CASE("line and paragraph separators are white space") {
  const WordPiece vocabulary = WordPiece::read(fixtures / "vocab.txt");
  for (const auto& row : table("wordpiece_separators.tsv")) {
    const Ids expected = numbers(row[1]), got = vocabulary.encode(row[0]);
    CHECK_MESSAGE(got == expected, text_of(got), " instead of ", text_of(expected));
  }
}

TEST_CASE("text that is not UTF-8 is read without harm") {
  const WordPiece vocabulary = WordPiece::read(fixtures / "vocab.txt");
  for (const std::string& bad :
       {std::string("\xFF\xFE"), std::string("the \xC3"), std::string("\xE2\x80"),
        std::string("\xF0\x9F\x98"), std::string("\xED\xA0\x80 heart"), std::string("\x80the")}) {
    const Ids ids = vocabulary.encode(bad);
    for (auto id : ids) CHECK(static_cast<std::size_t>(id) < vocabulary.size());
  }
  std::string bytes;
  for (int i = 0; i < 2000; ++i) bytes += static_cast<char>(i * 37 + i / 7);
  CHECK_NOTHROW(vocabulary.encode(bytes));
}

TEST_CASE("special tokens are found by name, in any order") {
  const WordPiece a(Tokens{"heart", "[EOS]", "[UNK]", "[PAD]", "[BOS]"});
  CHECK(a.pad == 3);
  CHECK(a.bos == 4);
  CHECK(a.eos == 1);
  CHECK(a.unk == 2);
  const WordPiece bert(Tokens{"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                              "heart"});  // a BERT vocabulary has neither BOS nor EOS
  CHECK(bert.bos == 2);
  CHECK(bert.eos == 3);
  CHECK(bert.encode_section("heart lungs", 10) == Ids{2, 4, 1, 3});
  const WordPiece both(
      Tokens{"[CLS]", "[SEP]", "[PAD]", "[UNK]", "[BOS]", "[EOS]"});  // BOS and EOS win
  CHECK(both.bos == 4);
  CHECK(both.eos == 5);
  CHECK(both.token(3) == "[UNK]");
}

TEST_CASE("a vocabulary with CRLF line ends reads as one with LF") {
  const WordPiece v =
      WordPiece::parse("[PAD]\r\n[BOS]\r\n[EOS]\r\n[UNK]\r\nheart\r\n##s\r\n", "crlf");
  CHECK(v.size() == 6);
  CHECK(v.token(4) == "heart");
  CHECK(v.encode("hearts") == Ids{4, 5});
}

TEST_CASE("write and read give the same vocabulary") {
  const fs::path path =
      fs::temp_directory_path() / ("hybridmed_text_test_" + std::to_string(::getpid()) + ".txt");
  const WordPiece v = WordPiece::read(fixtures / "vocab.txt");
  v.write(path);
  const WordPiece again = WordPiece::read(path);
  fs::remove(path);
  REQUIRE(again.size() == v.size());
  for (std::size_t i = 0; i < v.size(); ++i)
    CHECK(again.token(static_cast<std::int32_t>(i)) == v.token(static_cast<std::int32_t>(i)));
}

TEST_CASE("a section is BOS ... EOS within its limit; an empty one has no tokens") {
  const WordPiece v(Tokens{"[PAD]", "[BOS]", "[EOS]", "[UNK]", "a", "b", "c"});
  CHECK(v.encode_section("a b c", 64) == Ids{1, 4, 5, 6, 2});
  CHECK(v.encode_section("a b c", 5) == Ids{1, 4, 5, 6, 2});
  CHECK(v.encode_section("a b c", 4) == Ids{1, 4, 5, 2});
  CHECK(v.encode_section("a b c", 3) == Ids{1, 4, 2});
  CHECK(v.encode_section("a b c", 2) == Ids{1, 2});
  CHECK(v.encode_section("", 64).empty());
  CHECK(v.encode_section(" \n", 64).empty());
}

TEST_CASE("limits too small for BOS and EOS never give more tokens than asked for") {
  const WordPiece v(Tokens{"[PAD]", "[BOS]", "[EOS]", "[UNK]", "a", "b", "c"});
  for (std::size_t limit : {0, 1}) {
    CAPTURE(limit);
    std::size_t n = 0;
    const std::string e = error_of([&] { n = v.encode_section("a b c", limit).size(); });
    CHECK((!e.empty() || n <= limit));  // an Error or a section that fits
  }
}

TEST_CASE("decode joins pieces, attaches punctuation and leaves special tokens out") {
  const WordPiece v(Tokens{"[PAD]", "[BOS]", "[EOS]", "[UNK]", "heart", "##s", "are", "normal", ".",
                           ",", "50", "%", "cardio", "##meg", "##aly"});
  CHECK(v.decode({1, 4, 5, 6, 7, 8, 2, 0, 0}) == "hearts are normal.");
  CHECK(v.decode({12, 13, 14, 9, 10, 11, 8}) == "cardiomegaly, 50%.");
  CHECK(v.decode({}) == "");
  CHECK(v.decode({1, 2}) == "");
  const std::string text = "hearts are normal, 50%.";
  CHECK(v.decode(v.encode_section(text, 64)) == text);
}

// ---------------------------------------------------------------- training

TEST_CASE("a trained vocabulary is deterministic, respects its size and covers its corpus") {
  std::vector<std::string> corpus;
  for (const auto& row : table("clean.tsv")) corpus.push_back(row[1]);
  for (int i = 0; i < 5; ++i)
    corpus.push_back(
        "the heart size is normal. there is no pleural effusion or pneumothorax. kant\xC5\x8D "
        "\xE5\xBF\x83\xE8\x84\x8F");
  for (std::size_t size : {120, 200, 100000}) {
    CAPTURE(size);
    const WordPiece a = train_wordpiece(corpus, size), b = train_wordpiece(corpus, size);
    REQUIRE(a.size() == b.size());
    CHECK(a.size() <= size);
    std::set<std::string> tokens;
    bool same = true;
    for (std::size_t i = 0; i < a.size(); ++i) {
      same = same && a.token(static_cast<std::int32_t>(i)) == b.token(static_cast<std::int32_t>(i));
      tokens.insert(a.token(static_cast<std::int32_t>(i)));
    }
    CHECK(same);
    CHECK(tokens.size() == a.size());
    for (const auto& text : corpus)
      for (auto id : a.encode(text)) CHECK_MESSAGE(id != a.unk, text);
    for (const char* special : {"[PAD]", "[BOS]", "[EOS]", "[UNK]"})
      CHECK(tokens.count(special) == 1);
  }
  CHECK(train_wordpiece(corpus, 120).size() == 120);
  // The order of the texts is not part of the corpus.
  std::vector<std::string> turned(corpus.rbegin(), corpus.rend());
  const WordPiece a = train_wordpiece(corpus, 200), b = train_wordpiece(turned, 200);
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    CHECK(a.token(static_cast<std::int32_t>(i)) == b.token(static_cast<std::int32_t>(i)));
}

TEST_CASE(
    "training merges the most frequent pair first, ties alphabetically, and stops below the least "
    "count") {
  // ab x 4, cd x 2, ef x 2, gh x 1: merges ab, then cd before ef, never gh.
  const std::vector<std::string> corpus{"ab ab ab ab ef ef cd cd gh"};
  const auto holds_token = [](const WordPiece& v, const std::string& t) {
    for (std::size_t i = 0; i < v.size(); ++i)
      if (v.token(static_cast<std::int32_t>(i)) == t) return true;
    return false;
  };
  const std::size_t alphabet = 7 + 8;  // special tokens, and a ##b c ##d e ##f g ##h
  CHECK(train_wordpiece(corpus, alphabet).size() == alphabet);
  const WordPiece one = train_wordpiece(corpus, alphabet + 1),
                  two = train_wordpiece(corpus, alphabet + 2), all = train_wordpiece(corpus, 1000);
  CHECK(holds_token(one, "ab"));
  CHECK(holds_token(two, "cd"));
  CHECK(!holds_token(two, "ef"));
  CHECK(holds_token(all, "ef"));
  CHECK(!holds_token(all, "gh"));
  CHECK(all.size() == alphabet + 3);
  CHECK(all.encode("ab cd gh").size() == 4);
  // A word counts as often as it occurs, and runs of one letter merge from the left: a ##a ##a ##a
  // ##a -> a ##aa ##aa.
  const WordPiece runs = train_wordpiece({"aaaaa aaaaa"}, 7 + 2 + 1);
  CHECK(holds_token(runs, "##aa"));
  CHECK(runs.encode("aaaaa").size() == 3);
  const std::string e = error_of([&] { train_wordpiece(corpus, alphabet - 1); });
  CHECK_MESSAGE(holds(e, std::to_string(alphabet)), e);
}
