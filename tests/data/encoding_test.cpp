// Tables in other encodings than UTF-8.
#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "data/table_text.hpp"
#include "data/utf16.hpp"
#include "errors.hpp"
#include "hybridmed/data/csv.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;

TEST_CASE("UTF-8 is read with and without its mark") {
  for (const std::string mark : {"", "\xEF\xBB\xBF"}) {
    CAPTURE(mark.size());
    const Table t = parse_csv(mark + "k\xC3\xBCrzel,b\n\xE5\xBF\x83,\xF0\x9F\x98\x80\n", "t");
    CHECK(t.columns == Row{"k\xC3\xBCrzel", "b"});
    CHECK(t.rows == std::vector<Row>{{"\xE5\xBF\x83", "\xF0\x9F\x98\x80"}});
  }
}

TEST_CASE("UTF-16 is read by its mark, in both orders of bytes") {
  for (const bool big : {false, true}) {
    CAPTURE(big);
    // Tabs and CRLF: what spreadsheets call Unicode text. Two, three and four bytes of UTF-8.
    const std::u16string text = u"k\u00FCrzel\tb\r\n\u5FC3\t\U0001F600\r\n\"x\ty\"\t\r\n";
    const Table t = parse_csv(utf16(text, big), "t");
    CHECK(t.delimiter == '\t');
    CHECK(t.columns == Row{"k\xC3\xBCrzel", "b"});
    REQUIRE(t.rows.size() == 2);
    CHECK(t.rows[0] == Row{"\xE5\xBF\x83", "\xF0\x9F\x98\x80"});
    CHECK(t.rows[1] == Row{"x\ty", ""});
    CHECK(t.lines == std::vector<std::size_t>{2, 3});
    // A byte 0x0A inside a letter is no line end (U+010A, U+0A05), 0x2C no comma (U+012C).
    const Table letters = parse_csv(utf16(u"a,b\n\u010A\u0A05,\u012C\n", big), "t");
    CHECK(letters.rows == std::vector<Row>{{"\xC4\x8A\xE0\xA8\x85", "\xC4\xAC"}});
  }
}

TEST_CASE("a byte that is no UTF-8 names source, line, byte and what to set") {
  for (const std::string end : {"\n", "\r\n"}) {
    CAPTURE(end.size());
    const std::string text = "a,b" + end + "x,Herz" + end + "x,gr\xFC" + "n" + end;
    const std::string e = parse_error(text);
    CHECK_MESSAGE(holds(e, "reports.csv"), e);
    CHECK_MESSAGE(holds(e, "line 3"), e);
    CHECK_MESSAGE(holds(e, "0xFC"), e);
    CHECK_MESSAGE(holds(e, "Latin-1"), e);
    CHECK_MESSAGE(holds(e, "--set encoding=latin-1"), e);
  }
  const std::string header = parse_error("a,gr\xE4\n1,2\n");
  CHECK_MESSAGE(holds(header, "line 1"), header);
  CHECK_MESSAGE(holds(header, "0xE4"), header);
  // A letter cut off by the end or by a quote, a byte without its first, an overlong form, a
  // surrogate, a number above U+10FFFF.
  const Row bads{"\xC3", "\x80", "\xE2\x82", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80"};
  for (const std::string& bad : bads) {
    for (const std::string end : {"", "\n", "\"\n"}) {
      const std::string begin = end == "\"\n" ? "a,b\nx,\"" : "a,b\nx,";
      const std::string e = parse_error(begin + bad + end);
      CHECK_MESSAGE(holds(e, "line 2"), e);
      CHECK_MESSAGE(holds(e, "--set encoding=latin-1"), e);
    }
  }
}

TEST_CASE("zero bytes are an error that names UTF-16, and utf-16le then reads them") {
  const std::string little = utf16(u"a,b\nx,gr\u00FCn\n", false, false);
  std::string e = parse_error(little);
  CHECK_MESSAGE(holds(e, "reports.csv"), e);
  CHECK_MESSAGE(holds(e, "UTF-16"), e);
  CHECK_MESSAGE(holds(e, "encoding=utf-16le"), e);
  const Table t = parse_csv(little, "t", {.encoding = "utf-16le"});
  CHECK(t.columns == Row{"a", "b"});
  CHECK(t.rows == std::vector<Row>{{"x", "gr\xC3\xBCn"}});

  const std::string big = utf16(u"a,b\nx,gr\u00FCn\n", true, false);
  e = parse_error(big);
  CHECK_MESSAGE(holds(e, "UTF-16"), e);
  CHECK(parse_csv(big, "t", {.encoding = "utf-16be"}).rows == t.rows);

  // One zero byte in a table of UTF-8.
  e = parse_error(std::string("a,b\nx,\0\n", 8));
  CHECK_MESSAGE(holds(e, "UTF-16"), e);
}

TEST_CASE("a UTF-16 file with an odd number of bytes is an error") {
  const std::u16string text = u"a,b\n1,2\n";
  for (const bool big : {false, true}) {
    CAPTURE(big);
    const std::string e = parse_error(utf16(text, big) + "x");
    CHECK_MESSAGE(holds(e, "reports.csv"), e);
    CHECK(parse_csv(utf16(text, big), "t").rows == std::vector<Row>{{"1", "2"}});
  }
  const std::string e = parse_error(utf16(text, false, false) + "x", {.encoding = "utf-16le"});
  CHECK_MESSAGE(holds(e, "reports.csv"), e);
}

TEST_CASE("latin-1 reads Windows-1252") {
  const std::string text =
      "gr\xFC"
      "n,b\n\x80,it\x92s \xE9t\xE9\x99\n";
  const Table t = parse_csv(text, "t", {.encoding = "latin-1"});
  CHECK(t.columns == Row{"gr\xC3\xBCn", "b"});
  REQUIRE(t.rows.size() == 1);
  CHECK(t.rows[0][0] == "\xE2\x82\xAC");
  CHECK(t.rows[0][1] == "it\xE2\x80\x99s \xC3\xA9t\xC3\xA9\xE2\x84\xA2");
}

TEST_CASE("utf-8 takes bytes that are no UTF-8 as they are") {
  const Table t = parse_csv("a,b\ngr\xFCn,\x80\n", "t", {.encoding = "utf-8"});
  CHECK(t.rows == std::vector<Row>{{"gr\xFCn", "\x80"}});
}

TEST_CASE("other encodings are read by name, before the fields are cut") {
  const Table t = parse_csv("a,b\n\xD5\xFD\xB3\xA3,x\n", "t", {.encoding = "gb18030"});
  CHECK(t.rows == std::vector<Row>{{"\xE6\xAD\xA3\xE5\xB8\xB8", "x"}});
  // The second byte of this letter is '|', the delimiter.
  const Table bar = parse_csv("a|b\n\x81\x7C|x\n", "t", {.delimiter = "|", .encoding = "gb18030"});
  CHECK(bar.rows == std::vector<Row>{{"\xE4\xBA\x85", "x"}});
}

TEST_CASE("an unknown encoding is an error that lists examples, whatever the bytes are") {
  for (const std::string name : {"klingon", "", "latin/1", "ascii//TRANSLIT", "/"}) {
    const std::string e = parse_error("a,b\n1,2\n", {.encoding = name});
    CHECK_MESSAGE(holds(e, "encoding"), "'", name, "': ", e);
    CHECK_MESSAGE(holds(e, "latin-1"), "'", name, "': ", e);
    int others = 0;
    for (const std::string example : {"utf-8", "utf-16le", "gb18030", "shift_jis"}) {
      others += holds(e, example);
    }
    CHECK_MESSAGE(others >= 1, "'", name, "': ", e);
  }
  const std::string e = parse_error("a,b\n1,2\n", {.encoding = "klingon"});
  CHECK_MESSAGE(holds(e, "klingon"), e);
}

TEST_CASE(
    "an encoding that holds its last letter back loses none; a byte-order mark promises UTF-8") {
  const TableFormat vietnamese{.encoding = "cp1258"};
  CHECK(parse_csv("id,split\ns1,vali\nt1,train", "t", vietnamese).rows[1][1] == "train");
  const std::string marked = "\xEF\xBB\xBFid,x\n1,M\xFCller\n";
  CHECK(holds(error_of([&] { parse_csv(marked, "t.csv", {.encoding = "latin-1"}); }), "0xFC"));
}

TEST_CASE("wide encodings without a mark are told apart, and the key that is named reads them") {
  const std::string text = "study_id,split\ns1,train\n";
  for (const std::string name : {"utf-16le", "utf-16be", "utf-32le", "utf-32be"}) {
    const bool four = name.starts_with("utf-32"), big = name.ends_with("be");
    std::string bytes;
    for (const char c : text) {
      const std::string zeros(four ? 3 : 1, '\0');
      bytes += big ? zeros + c : c + zeros;
    }
    const std::string e = parse_error(bytes);
    CHECK_MESSAGE(holds(e, "--set encoding=" + name + " reads"), name, ": ", e);
    CHECK(parse_csv(bytes, "t", {.encoding = name}).rows[0] == Row{"s1", "train"});
  }
}
