// Tables as people have them: delimiters, encodings, names in other case, lists of labels, memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "hybridmed/data/loader.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;
namespace fs = std::filesystem;

namespace {

using Row = std::vector<std::string>;
using Names = std::set<std::string>;

struct Folder : ScratchFolder {
  void write(const std::string& name, const std::string& text) const {
    const fs::path file = path / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
  }
};

Row ids(const std::vector<Study>& studies) {
  Row out;
  for (const Study& s : studies) {
    out.push_back(s.id);
  }
  return out;
}

/// UTF-16 with or without its mark.
std::string utf16(std::u16string_view text, bool big, bool mark = true) {
  std::string out;
  const auto put = [&](char16_t unit) {
    const char high = static_cast<char>(unit >> 8);
    const char low = static_cast<char>(unit & 255);
    out += big ? high : low;
    out += big ? low : high;
  };
  if (mark) {
    put(u'\xFEFF');
  }
  for (const char16_t unit : text) {
    put(unit);
  }
  return out;
}

std::string parse_error(const std::string& bytes, const TableFormat& format = {}) {
  return error_of([&] { parse_csv(bytes, "reports.csv", format); });
}

/// How often a part stands in a text.
int count(const std::string& text, const std::string& part) {
  int n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++n;
  }
  return n;
}

}  // namespace

// ---------------------------------------------------------------- delimiters

TEST_CASE("the delimiter is the one that stands most often in the header outside quotes") {
  const Table semicolons = parse_csv("a;b;c\n1;2,5;x, y, z, w\n", "t");
  CHECK(semicolons.delimiter == ';');
  CHECK(semicolons.columns == Row{"a", "b", "c"});
  REQUIRE(semicolons.rows.size() == 1);
  CHECK(semicolons.rows[0] == Row{"1", "2,5", "x, y, z, w"});

  const Table tabs = parse_csv("a\tb\tc\n1\t2;3\t4,5\n", "t");
  CHECK(tabs.delimiter == '\t');
  CHECK(tabs.rows.at(0) == Row{"1", "2;3", "4,5"});

  const Table commas = parse_csv("a,b,c\n1,2;3,4\t5\n", "t");
  CHECK(commas.delimiter == ',');
  CHECK(commas.rows.at(0) == Row{"1", "2;3", "4\t5"});

  // One comma and two semicolons.
  const Table more = parse_csv("a,b;c;d\n1;2;3\n", "t");
  CHECK(more.delimiter == ';');
  CHECK(more.columns == Row{"a,b", "c", "d"});

  // The commas are inside quotes and do not count.
  const Table quoted = parse_csv("\"a,b,c,d\";e\n1;2\n", "t");
  CHECK(quoted.delimiter == ';');
  CHECK(quoted.columns == Row{"a,b,c,d", "e"});
  CHECK(quoted.rows.at(0) == Row{"1", "2"});

  // Only the header counts.
  const Table header = parse_csv("a,b\n1;2;3;4,5;6;7\n", "t");
  CHECK(header.delimiter == ',');
  CHECK(header.rows.at(0) == Row{"1;2;3;4", "5;6;7"});

  const Table one = parse_csv("a\nx\n", "t");
  CHECK(one.columns == Row{"a"});
  CHECK(one.rows == std::vector<Row>{{"x"}});
}

TEST_CASE("quotes and line breaks inside quotes hold with every delimiter") {
  for (const char d : {',', ';', '\t'}) {
    CAPTURE(d);
    std::string text = "a_b_c\n\"x,y;z\tw\"_\"he said \"\"no\"\"\"_\"two\nlines\"\n1_2_3\n";
    std::replace(text.begin(), text.end(), '_', d);
    const Table t = parse_csv(text, "t");
    CHECK(t.delimiter == d);
    REQUIRE(t.rows.size() == 2);
    CHECK(t.rows[0] == Row{"x,y;z\tw", "he said \"no\"", "two\nlines"});
    CHECK(t.rows[1] == Row{"1", "2", "3"});
    CHECK(t.lines == std::vector<std::size_t>{2, 4});
  }
}

TEST_CASE("a first line sep= sets the delimiter and is no row") {
  // The header has more commas than semicolons.
  const Table t = parse_csv("sep=;\na,x,y,z;b\n1;2\n", "t");
  CHECK(t.delimiter == ';');
  CHECK(t.columns == Row{"a,x,y,z", "b"});
  CHECK(t.rows == std::vector<Row>{{"1", "2"}});
  CHECK(t.lines == std::vector<std::size_t>{3});

  const Table marked = parse_csv("\xEF\xBB\xBFsep=;\r\na,x,y,z;b\r\n1;2\r\n", "t");
  CHECK(marked.columns == Row{"a,x,y,z", "b"});
  CHECK(marked.rows == std::vector<Row>{{"1", "2"}});
  CHECK(marked.lines == std::vector<std::size_t>{3});

  const Table tabs = parse_csv("sep=\t\na,x\tb\n1\t2\n", "t");
  CHECK(tabs.delimiter == '\t');
  CHECK(tabs.columns == Row{"a,x", "b"});

  const Table commas = parse_csv("sep=,\na;x;y,b\n1,2\n", "t");
  CHECK(commas.delimiter == ',');
  CHECK(commas.columns == Row{"a;x;y", "b"});

  // It is no row where the delimiter is told, either.
  const Table told = parse_csv("sep=;\na;b\n1;2\n", "t", {.delimiter = "semicolon"});
  CHECK(told.columns == Row{"a", "b"});
  CHECK(told.rows == std::vector<Row>{{"1", "2"}});

  // Further down it is a cell like any other.
  const Table later = parse_csv("a,b\nsep=;,2\n", "t");
  CHECK(later.delimiter == ',');
  CHECK(later.rows == std::vector<Row>{{"sep=;", "2"}});
}

TEST_CASE("a delimiter that is told wins over what the header looks like") {
  const std::vector<std::pair<std::string, char>> names{
      {"comma", ','}, {"semicolon", ';'}, {"tab", '\t'}, {",", ','}, {";", ';'},
      {"|", '|'},     {"^", '^'}};
  for (const auto& [name, d] : names) {
    CAPTURE(name);
    const std::string cut(1, d);
    const Table t = parse_csv("a" + cut + "b\n1" + cut + "2\n", "t", {.delimiter = name});
    CHECK(t.delimiter == d);
    CHECK(t.columns == Row{"a", "b"});
    CHECK(t.rows == std::vector<Row>{{"1", "2"}});
  }
  const Table comma = parse_csv("a;b;c\n1;2\n", "t", {.delimiter = "comma"});
  CHECK(comma.columns == Row{"a;b;c"});
  CHECK(comma.rows == std::vector<Row>{{"1;2"}});
  const Table pipe = parse_csv("a,x,y|b\n1|2,3\n", "t", {.delimiter = "|"});
  CHECK(pipe.columns == Row{"a,x,y", "b"});
  CHECK(pipe.rows == std::vector<Row>{{"1", "2,3"}});
}

TEST_CASE("what can be no delimiter is an error") {
  for (const std::string name : {"a", "Z", "7", "\"", " ", "\n", "", "||", "pipe", "\xC3\xA9"}) {
    const std::string e = parse_error("a,b\n1,2\n", {.delimiter = name});
    CHECK_MESSAGE(holds(e, "delimiter"), "'", name, "': ", e);
  }
  const std::string e = parse_error("a,b\n1,2\n", {.delimiter = "pipe"});
  CHECK_MESSAGE(holds(e, "pipe"), e);
}

TEST_CASE("a row with another number of fields names source, line and both numbers") {
  const std::string header = "a,b,c,d,e,f,g\n";
  std::string e = parse_error(header + "p,p,p,p,p,p,p\nq,q,q,q,q,q,q,q,q,q,q,q\n");
  CHECK_MESSAGE(holds(e, "reports.csv"), e);
  CHECK_MESSAGE(holds(e, "line 3"), e);
  CHECK_MESSAGE(holds(e, "7"), e);
  CHECK_MESSAGE(holds(e, "12"), e);
  CHECK_MESSAGE(holds(e, "--set delimiter="), e);

  // Fewer fields; the line is where the row begins, behind a field of two lines.
  e = parse_error(header + "p,p,p,\"p\np\",p,p,p\nq,q,q,q,q\n");
  CHECK_MESSAGE(holds(e, "reports.csv"), e);
  CHECK_MESSAGE(holds(e, "line 4"), e);
  CHECK_MESSAGE(holds(e, "7"), e);
  CHECK_MESSAGE(holds(e, "5"), e);
  CHECK_MESSAGE(holds(e, "--set delimiter="), e);

  // The line of sep= counts as a line of the file.
  e = parse_error("sep=;\na;b;c\nx;y\n");
  CHECK_MESSAGE(holds(e, "line 3"), e);
}

TEST_CASE("a quote inside an unquoted field is an error with its line") {
  for (const std::string row : {"u,2\"v\n", "u\"v,w\n", "u,v\"\n", "u \"v\",w\n"}) {
    CAPTURE(row);
    const std::string e = parse_error("a,b\nx,y\nx,y\n" + row + "x,y\n");
    CHECK_MESSAGE(holds(e, "reports.csv"), e);
    CHECK_MESSAGE(holds(e, "line 4"), e);
    CHECK_MESSAGE(holds(e, "quote"), e);
  }
}

// ---------------------------------------------------------------- encodings

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
  const std::string text = "gr\xFC" "n,b\n\x80,it\x92s \xE9t\xE9\x99\n";
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

// ---------------------------------------------------------------- columns and names

TEST_CASE("columns are found without case and without blanks around them") {
  const Table t = parse_csv(" Study_ID ,FINDINGS,Impression  \n1,2,3\n", "t");
  CHECK(t.find("study_id") == 0);
  CHECK(t.find("STUDY_ID ") == 0);
  CHECK(t.find("findings") == 1);
  CHECK(t.find(" Findings") == 1);
  CHECK(t.find("impression") == 2);
  CHECK(t.find("finding") == Table::npos);
  CHECK(t.find("study id") == Table::npos);
  CHECK(t.column("Study_Id") == 0);
  CHECK(t.column("findings", "column_findings") == 1);
}

TEST_CASE("of columns that differ only in case an exact match wins, and no exact one is an error") {
  const Table t = parse_csv("Findings,findings,FINDINGS\n1,2,3\n", "t");
  CHECK(t.column("Findings") == 0);
  CHECK(t.column("findings") == 1);
  CHECK(t.column("FINDINGS") == 2);
  CHECK(t.find("findings") == 1);
  CHECK(parse_csv(" findings,findings\n1,2\n", "t").find("findings") == 1);

  const Table two = parse_csv("a,Findings,findings\n1,2,3\n", "reports.csv");
  const std::string e = error_of([&] { two.column("FINDINGS"); });
  CHECK_MESSAGE(holds(e, "'Findings'"), e);
  CHECK_MESSAGE(holds(e, "'findings'"), e);
  CHECK_MESSAGE(holds(e, "reports.csv"), e);
}

TEST_CASE("a column that is not there: its name, the columns there are, the nearest, what to set") {
  const Table t = parse_csv("study,Report_Text,sex\n1,2,3\n", "reports.csv");
  const std::string e = error_of([&] { t.column("report_txt", "column_findings"); });
  CHECK_MESSAGE(holds(e, "reports.csv"), e);
  CHECK_MESSAGE(holds(e, "'report_txt'"), e);
  CHECK_MESSAGE(holds(e, "study"), e);
  CHECK_MESSAGE(holds(e, "sex"), e);
  CHECK_MESSAGE(holds(e, "--set column_findings='Report_Text'"), e);
  const std::string keyless = error_of([&] { t.column("report_txt"); });
  CHECK_MESSAGE(holds(keyless, "'Report_Text'"), keyless);
  CHECK_MESSAGE(holds(keyless, "study"), keyless);
  CHECK_MESSAGE(!holds(keyless, "--set"), keyless);
}

TEST_CASE("the nearest name has the smallest edit distance without case") {
  CHECK(nearest_name("trian", {"test", "valid", "train"}) == "train");
  CHECK(nearest_name("EFFUSION", {"edema", "effusion", "infusion"}) == "effusion");
  // With case both would be 3 away: 'abd' is 1, 'ABXYZ' 3.
  CHECK(nearest_name("ABC", {"ABXYZ", "abd"}) == "abd");
  CHECK(nearest_name("ABC", {"abd", "ABXYZ"}) == "abd");
  // One letter more is 1 away, one less too; 'able' is 3 away from 'label'.
  CHECK(nearest_name("label", {"able", "labels"}) == "labels");
  CHECK(nearest_name("labels", {"tables", "label"}) == "label");
}

TEST_CASE("a written field reads back, as a cell and as the name of a column") {
  const Row fields{"plain",      "a,b",      "a;b;c;d", "tab\tand\ttab\there", "say \"no\"", "\"",
                   "two\nlines", "cr\rhere", "end\r\n", " blanks ",           "\xC3\xBC",   "'",
                   "back\\slash"};
  for (const std::string& field : fields) {
    CAPTURE(field);
    const Table cell = parse_csv("a,b\n" + csv_field(field) + ",x\n", "t");
    REQUIRE(cell.rows.size() == 1);
    CHECK(cell.rows[0] == Row{field, "x"});
    // In the header the other delimiters must not count, either.
    const Table name = parse_csv(csv_field(field) + ",x\n1,2\n", "t");
    CHECK(name.delimiter == ',');
    CHECK(name.columns == Row{field, "x"});
  }
  CHECK(parse_csv("a,b\n" + csv_field("") + ",x\n", "t").rows == std::vector<Row>{{"", "x"}});
  CHECK(csv_field("plain") == "plain");
  CHECK(csv_field("a,b") == "\"a,b\"");
  CHECK(csv_field("say \"no\"") == "\"say \"\"no\"\"\"");
}

TEST_CASE("control characters are shown, everything else stays") {
  CHECK(printable("a\tb\nc\rd\\e") == "a\\tb\\nc\\rd\\\\e");
  CHECK(printable("\x1B[31mred\x07") == "\\x1B[31mred\\x07");
  CHECK(printable(std::string_view("a\0b", 3)) == "a\\x00" "b");
  CHECK(printable("\x01\x1F\x7F") == "\\x01\\x1F\\x7F");
  CHECK(printable("") == "");
  CHECK(printable("'\" ,;|\xC3\xBC\xE5\xBF\x83~") == "'\" ,;|\xC3\xBC\xE5\xBF\x83~");
}

// ---------------------------------------------------------------- data folders

TEST_CASE("a study table with semicolons, names in other case and a Latin-1 text") {
  const Folder f;
  f.write("studies.csv",
          "Study_ID;Split ;FRONTAL_IMAGES;Findings;Impression\n"
          "s1;train;\"a.png;b.png\";Pleuraergu\xDF, links.;Ergu\xDF.\n"
          "s2;test;c.png;Clear.;Normal.\n");
  const std::string e = error_of([&] { DataFolder(f.path).select({}); });
  CHECK_MESSAGE(holds(e, "studies.csv"), e);
  CHECK_MESSAGE(holds(e, "line 2"), e);
  CHECK_MESSAGE(holds(e, "0xDF"), e);
  CHECK_MESSAGE(holds(e, "--set encoding=latin-1"), e);
  const DataFolder folder(f.path, {.format = {.encoding = "latin-1"}});
  CHECK(folder.table().delimiter == ';');
  const std::vector<Study> studies = folder.select({});
  REQUIRE(ids(studies) == Row{"s1", "s2"});
  CHECK(studies[0].images == Row{"a.png", "b.png"});
  CHECK(studies[0].raw_findings == "Pleuraergu\xC3\x9F, links.");
  CHECK(studies[0].line == 2);
  CHECK(studies[1].split == "test");
  CHECK(studies[1].line == 3);
  CHECK(folder.image_path("c.png") == f.path / "images" / "c.png");
  CHECK(ids(folder.select({.split = "train"})) == Row{"s1"});
}

TEST_CASE("a study table in UTF-16 with tabs") {
  const Folder f;
  const std::u16string text =
      u"study_id\tsplit\tfrontal_images\tfindings\timpression\r\n"
      u"\u00FC1\ttrain\ta.png\tClear, dry.\tNormal.\r\n";
  f.write("studies.csv", utf16(text, false));
  const DataFolder folder(f.path);
  const std::vector<Study> studies = folder.select({.split = "train"});
  REQUIRE(ids(studies) == Row{"\xC3\xBC" "1"});
  CHECK(studies[0].raw_findings == "Clear, dry.");
}

TEST_CASE("a missing column of the study table hints the key that names it") {
  const Folder f;
  f.write("studies.csv",
          "StudyInstanceUID,frontal_image,findings,impression\n"
          "s1,a.png,Clear.,Normal.\n");
  std::string e = error_of([&] {
    DataFolder(f.path, {.columns = {.study = "StudyInstanceUID"}}).select({});
  });
  CHECK_MESSAGE(holds(e, "'frontal_images'"), e);
  CHECK_MESSAGE(holds(e, "--set column_images='frontal_image'"), e);
  const StudyColumns columns{.study = "studyinstanceuid", .images = "FRONTAL_IMAGE"};
  CHECK(ids(DataFolder(f.path, {.columns = columns}).select({})) == Row{"s1"});
}

TEST_CASE("labels and split lists find their own delimiter") {
  const Folder f;
  f.write("studies.csv",
          "study_id|frontal_images|findings|impression\n"
          "s1|a.png|Clear.|Normal.\n"
          "s2|b.png|Clear.|Normal.\n");
  f.write("splits/train.txt", "s2\n");
  const DataFolder folder(f.path, {.format = {.delimiter = "|"}});
  CHECK(folder.table().delimiter == '|');
  CHECK(ids(folder.select({.split = "train"})) == Row{"s2"});
  for (const std::string d : {",", ";", "\t"}) {
    CAPTURE(d);
    f.write("labels.csv", "study_id" + d + "nodule" + d + "edema\ns1" + d + "1" + d + "0\n");
    const Labels labels = DataFolder(f.path, {.format = {.delimiter = "|"}}).labels();
    CHECK(labels.names == Row{"nodule", "edema"});
    CHECK(labels.of.at("s1") == std::vector<int>{1, 0});
  }
}

TEST_CASE("labels and split lists take the encoding only where they are no UTF-8") {
  const std::string id = "pat-\xC3\xBC";
  const std::string label = "\xC3\x96" "dem";
  for (const bool utf8 : {true, false}) {
    CAPTURE(utf8);
    const Folder f;
    f.write("studies.csv",
            "study_id,frontal_images,findings,impression\n"
            "pat-\xFC,a.png,Clear.,Normal.\n"
            "pat-b,b.png,Clear.,Normal.\n");
    const std::string file_id = utf8 ? id : "pat-\xFC";
    const std::string file_label = utf8 ? label : std::string("\xD6") + "dem";
    f.write("labels.csv", "study_id," + file_label + "\n" + file_id + ",1\n");
    f.write("splits/train.txt", file_id + "\n");
    const DataFolder folder(f.path, {.format = {.encoding = "latin-1"}});
    CHECK(ids(folder.select({})) == Row{id, "pat-b"});
    CHECK(ids(folder.select({.split = "train"})) == Row{id});
    CHECK(folder.listed_without_row().empty());
    const Labels labels = folder.labels();
    CHECK(labels.names == Row{label});
    REQUIRE(labels.of.count(id) == 1);
    CHECK(labels.of.at(id) == std::vector<int>{1});
  }
}

// ---------------------------------------------------------------- splits

namespace {

const std::string spelled =
    "study_id,split,frontal_images,findings,impression\n"
    "s1,Train,1.png,Clear.,Normal.\n"
    "s2,TRAIN ,2.png,Clear.,Normal.\n"
    "s3,test,3.png,Clear.,Normal.\n"
    "s4,Train,4.png,Clear.,Normal.\n";

}  // namespace

TEST_CASE("splits of the table compare without case and without blanks around them") {
  const Folder f;
  f.write("studies.csv", spelled);
  const DataFolder folder(f.path);
  for (const std::string name : {"train", "Train", "TRAIN", " tRain "}) {
    CAPTURE(name);
    CHECK(ids(folder.select({.split = name})) == Row{"s1", "s2", "s4"});
    CHECK(folder.has_split(name));
  }
  CHECK(ids(folder.select({.split = "TEST"})) == Row{"s3"});
  CHECK_FALSE(folder.has_split("valid"));
  CHECK(folder.splits().size() == 2);
  CHECK(folder.splits().count("test") == 1);
  // The spellings are kept for who reports them.
  std::size_t spellings = 0;
  for (const auto& [name, set] : folder.split_spellings()) {
    if (set.count("Train") == 1) {
      spellings = set.size();
    }
  }
  CHECK(spellings == 2);
}

TEST_CASE("a study in Train and TRAIN is in one split, a study in Train and Test in two") {
  const Folder f;
  f.write("studies.csv", spelled + "s1,TRAIN,1.png,Clear.,Normal.\n");
  CHECK(DataFolder(f.path).leaks().empty());
  f.write("studies.csv", spelled + "s1,Test,1.png,Clear.,Normal.\n");
  const auto leaks = DataFolder(f.path).leaks();
  REQUIRE(leaks.size() == 1);
  CHECK(leaks[0].study == "s1");
}

TEST_CASE("files of splits compare without case") {
  const Folder f;
  f.write("studies.csv", spelled);
  f.write("splits/Train.txt", "s3\ns9\n");
  f.write("splits/TEST.txt", "s1\ns3\n");
  const DataFolder folder(f.path);
  CHECK(ids(folder.select({.split = "train"})) == Row{"s3"});
  CHECK(ids(folder.select({.split = "Test"})) == Row{"s1", "s3"});
  CHECK(folder.has_split("TRAIN"));
  CHECK_FALSE(folder.has_split("valid"));
  CHECK(folder.splits().size() == 2);

  const std::vector<Rejected> missing = folder.listed_without_row();
  REQUIRE(missing.size() == 1);
  CHECK(missing[0].study == "s9");

  // s3 is in both lists, s1 in one; s2 in none, whatever the column says.
  const std::vector<Study> all = folder.select({});
  REQUIRE(ids(all) == Row{"s1", "s2", "s3", "s4"});
  CHECK(folder.splits_of(all[0]).size() == 1);
  CHECK(folder.splits_of(all[1]).empty());
  CHECK(folder.splits_of(all[2]).size() == 2);
  const auto leaks = folder.leaks();
  REQUIRE(leaks.size() == 1);
  CHECK(leaks[0].study == "s3");
}

TEST_CASE("an unknown split names the nearest one and all there are") {
  const std::string header = "study_id,split,frontal_images,findings,impression\n";
  const std::string rows =
      "s1,fold_a,1.png,Clear.,Normal.\n"
      "s2,holdout,2.png,Clear.,Normal.\n"
      "s3,external,3.png,Clear.,Normal.\n";
  const Folder table;
  table.write("studies.csv", header + rows);
  const Folder lists;
  lists.write("studies.csv", header + rows);
  lists.write("splits/fold_a.txt", "s1\n");
  lists.write("splits/holdout.txt", "s2\n");
  lists.write("splits/external.txt", "s3\n");
  for (const fs::path& path : {table.path, lists.path}) {
    const std::string e = error_of([&] { DataFolder(path).select({.split = "holduot"}); });
    CHECK_MESSAGE(holds(e, "'holduot'"), e);
    CHECK_MESSAGE(holds(e, "fold_a"), e);
    CHECK_MESSAGE(holds(e, "external"), e);
    // Once more than the others: as the nearest and among all.
    CHECK_MESSAGE(count(e, "holdout") > count(e, "fold_a"), e);
    CHECK_MESSAGE(count(e, "holdout") > count(e, "external"), e);
  }
}

// ---------------------------------------------------------------- labels

namespace {

const std::string nih =
    "Image Index,Finding Labels,Patient Age\n"
    "00000001_000.png,Cardiomegaly|Effusion,58\n"
    "00000002_000.png,No Finding,80\n"
    "00000003_000.png,,70\n"
    "00000004_000.png,Effusion,33\n";

void write_nih(const Folder& f) {
  f.write("labels.csv", nih);
  for (const std::string name : {"1", "2", "3", "4"}) {
    f.write("images/0000000" + name + "_000.png", "x");
  }
}

}  // namespace

TEST_CASE("a column of label names between bars: every name is a label, an empty cell is unknown") {
  const Folder f;
  write_nih(f);
  const StudyColumns columns{.images = "Image Index", .labels = "Finding Labels"};
  const DataFolder folder(f.path, {.columns = columns});
  // Without a study column the images are the studies.
  const std::vector<Study> studies = folder.select({.needs_text = false});
  REQUIRE(studies.size() == 4);
  CHECK(studies[0].id == "00000001_000.png");
  CHECK(studies[0].images == Row{"00000001_000.png"});
  CHECK(studies[3].id == "00000004_000.png");
  CHECK(studies[3].images == Row{"00000004_000.png"});

  const Labels labels = folder.labels();
  CHECK(labels.names == Row{"Cardiomegaly", "Effusion", "No Finding"});
  REQUIRE(labels.of.size() == 4);
  CHECK(labels.of.at("00000001_000.png") == std::vector<int>{1, 1, 0});
  CHECK(labels.of.at("00000002_000.png") == std::vector<int>{0, 0, 1});
  CHECK(labels.of.at("00000003_000.png") == std::vector<int>(3, Labels::unknown));
  CHECK(labels.of.at("00000004_000.png") == std::vector<int>{0, 1, 0});
  CHECK(labels.at("Effusion") == 1);
  CHECK(labels.at("No Finding") == 2);
  const std::string e = error_of([&] { labels.at("Efusion"); });
  CHECK_MESSAGE(holds(e, "'Effusion'"), e);
  CHECK_MESSAGE(holds(e, "Efusion"), e);
}

TEST_CASE("the columns of a list of labels are found without case") {
  const Folder f;
  write_nih(f);
  const StudyColumns columns{.images = "image index", .labels = "FINDING LABELS"};
  const Labels labels = DataFolder(f.path, {.columns = columns}).labels();
  CHECK(labels.names == Row{"Cardiomegaly", "Effusion", "No Finding"});
  CHECK(labels.of.at("00000002_000.png") == std::vector<int>{0, 0, 1});
}

TEST_CASE("a label asked of a folder with a list of names hints the column of lists") {
  const Folder f;
  write_nih(f);
  const DataFolder folder(f.path, {.columns = {.images = "Image Index"}});
  const std::string e = error_of([&] { folder.labels().at("Effusion"); });
  CHECK_MESSAGE(holds(e, "'Effusion'"), e);
  CHECK_MESSAGE(holds(e, "--set column_labels="), e);
  CHECK_MESSAGE(holds(e, "Finding Labels"), e);
  // Not where the labels are columns of numbers.
  const Folder g;
  g.write("labels.csv", "study_id,Edema,Effusion\na,1,0\n");
  g.write("images/a.png", "x");
  const std::string other = error_of([&] { DataFolder(g.path).labels().at("Efusion"); });
  CHECK_MESSAGE(holds(other, "'Effusion'"), other);
  CHECK_MESSAGE(!holds(other, "column_labels"), other);
}

TEST_CASE("a column of labels that is not there is an error with the nearest column") {
  const Folder f;
  write_nih(f);
  const StudyColumns columns{.images = "Image Index", .labels = "Finding Label"};
  const std::string e = error_of([&] { DataFolder(f.path, {.columns = columns}).labels(); });
  CHECK_MESSAGE(holds(e, "'Finding Label'"), e);
  CHECK_MESSAGE(holds(e, "--set column_labels='Finding Labels'"), e);
}

TEST_CASE("a folder with labels alone: its rows are the studies, with their splits") {
  const Folder f;
  f.write("labels.csv", "frontal_images,split,nodule\nb.png,Train,1\na.png,test,0\n");
  f.write("images/a.png", "x");
  f.write("images/b.png", "x");
  const DataFolder folder(f.path);
  const std::vector<Study> studies = folder.select({.needs_text = false});
  REQUIRE(studies.size() == 2);
  CHECK(studies[0].images == Row{"b.png"});
  CHECK(studies[1].images == Row{"a.png"});
  const std::vector<Study> train = folder.select({.split = "train", .needs_text = false});
  REQUIRE(train.size() == 1);
  CHECK(train[0].images == Row{"b.png"});
  const Labels labels = folder.labels();
  CHECK(labels.names == Row{"nodule"});
  CHECK(labels.of.at(train[0].id) == std::vector<int>{1});
  CHECK(labels.of.at(studies[1].id) == std::vector<int>{0});
}

TEST_CASE("labels by image belong to the study that has the image") {
  const Folder f;
  f.write("studies.csv",
          "study_id,frontal_images,findings,impression\n"
          "s1,a.png;b.png,Clear.,Normal.\n"
          "s2,c.png,Clear.,Normal.\n"
          "s3,d.png,Clear.,Normal.\n");
  f.write("labels.csv", "frontal_images,nodule,edema\nc.png,1,0\nb.png,0,-1\n");
  const Labels labels = DataFolder(f.path).labels();
  CHECK(labels.names == Row{"nodule", "edema"});
  CHECK(labels.of.size() == 2);
  REQUIRE(labels.of.count("s1") == 1);
  CHECK(labels.of.at("s1") == std::vector<int>{0, Labels::uncertain});
  REQUIRE(labels.of.count("s2") == 1);
  CHECK(labels.of.at("s2") == std::vector<int>{1, 0});
  CHECK(labels.of.count("s3") == 0);
}

TEST_CASE("blank cells are unknown, -1 is uncertain") {
  const Folder f;
  f.write("studies.csv", spelled);
  f.write("labels.csv", "Study_ID,nodule,edema\ns1, ,-1\ns2,-1,\ns3,1,  \ns4,0,1\n");
  const Labels labels = DataFolder(f.path).labels();
  CHECK(labels.names == Row{"nodule", "edema"});
  CHECK(Labels::uncertain == -1);
  CHECK(Labels::unknown == -2);
  CHECK(labels.of.at("s1") == std::vector<int>{-2, -1});
  CHECK(labels.of.at("s2") == std::vector<int>{-1, -2});
  CHECK(labels.of.at("s3") == std::vector<int>{1, -2});
  CHECK(labels.of.at("s4") == std::vector<int>{0, 1});
}

// ---------------------------------------------------------------- in memory

namespace {

constexpr std::size_t width = 20;
constexpr std::size_t height = 12;

/// A picture that no turn, mirror or shift leaves as it is.
std::vector<std::uint8_t> pixels_of(std::size_t seed) {
  std::vector<std::uint8_t> out;
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      out.push_back(static_cast<std::uint8_t>((seed * 50 + 7 * x + 3 * y * y) % 256));
    }
  }
  return out;
}

Image picture(const std::vector<std::uint8_t>& pixels, std::size_t h, std::size_t w) {
  Image image;
  image.bits = 8;
  image.pixels.resize({h, w});
  for (std::size_t y = 0; y < h; ++y) {
    for (std::size_t x = 0; x < w; ++x) {
      image.pixels(y, x) = pixels[y * w + x];
    }
  }
  return image;
}

Image even(std::uint16_t value, int bits) {
  Image image;
  image.bits = bits;
  image.pixels.resize({std::size_t{8}, std::size_t{8}});
  image.pixels.fill(value);
  return image;
}

DatasetOptions small_options() {
  DatasetOptions o;
  o.transform.image_size = 8;
  o.transform.resize = 10;
  o.t_findings = 16;
  o.t_impression = 8;
  return o;
}

/// Crops have no room: the batch is the whole picture.
DatasetOptions whole_options() {
  DatasetOptions o = small_options();
  o.transform.resize = 8;
  return o;
}

WordPiece small_vocabulary() {
  const std::vector<std::string> texts{"the lungs are clear.", "large heart.", "normal chest.",
                                       "no edema."};
  return train_wordpiece(texts, 150);
}

std::vector<float> floats(const HostBatch& b) { return {b.images.begin(), b.images.end()}; }

}  // namespace

TEST_CASE("studies in memory give the batches of the same pictures and texts in a folder") {
  const Folder f;
  f.write("studies.csv",
          "study_id,frontal_images,findings,impression\n"
          "s1,a.png,The lungs are CLEAR.,Normal chest.\n"
          "s2,b.png,,Large heart.\n"
          "s3,c.png;a.png,No edema.,\n");
  fs::create_directories(f.path / "images");
  std::map<std::string, Image> pictures;
  for (const std::size_t k : {0, 1, 2}) {
    const std::string name = std::string(1, static_cast<char>('a' + k)) + ".png";
    const std::vector<std::uint8_t> pixels = pixels_of(k);
    write_png(f.path / "images" / name, pixels.data(), width, height, 1);
    pictures[name] = picture(pixels, height, width);
  }
  const WordPiece vocabulary = small_vocabulary();
  const DataFolder folder(f.path);
  const Dataset written(folder, folder.select({}), vocabulary, small_options());
  const std::vector<Study> studies{
      make_study("s1", {"a.png"}, "The lungs are CLEAR.", "Normal chest."),
      make_study("s2", {"b.png"}, "", "Large heart."),
      make_study("s3", {"c.png", "a.png"}, "No edema.", "")};
  CHECK(studies[0].findings == "the lungs are clear.");
  CHECK(studies[0].images == Row{"a.png"});
  CHECK(studies[1].findings.empty());
  const ReadImage read = [&](const std::string& name) { return pictures.at(name); };
  const Dataset memory(studies, vocabulary, small_options(), read);
  REQUIRE(memory.size() == 3);

  Loader from_folder(written, LoaderOptions{.batch = 2}, Philox(), 0);
  Loader from_memory(memory, LoaderOptions{.batch = 2}, Philox(), 0);
  for (const std::size_t size : {2, 1}) {
    const std::optional<HostBatch> a = from_folder.next();
    const std::optional<HostBatch> b = from_memory.next();
    REQUIRE(a.has_value());
    REQUIRE(b.has_value());
    REQUIRE(b->studies.size() == size);
    CHECK(b->images.shape()[0] == size);
    CHECK(b->images.shape()[1] == 8);
    CHECK(b->images.shape()[2] == 8);
    CHECK(a->studies == b->studies);
    CHECK(floats(*a) == floats(*b));
    CHECK(a->findings == b->findings);
    CHECK(a->findings_offsets == b->findings_offsets);
    CHECK(a->impression == b->impression);
    CHECK(a->impression_offsets == b->impression_offsets);
    CHECK(a->keys == b->keys);
  }
  CHECK_FALSE(from_folder.next().has_value());
  CHECK_FALSE(from_memory.next().has_value());
}

TEST_CASE("pictures in memory of 8 and of 16 bits have the range -1 to 1") {
  const std::map<std::string, Image> pictures{{"black", even(0, 8)},
                                              {"fifth", even(51, 8)},
                                              {"white", even(255, 8)},
                                              {"deep fifth", even(13107, 16)},
                                              {"deep white", even(65535, 16)}};
  const std::vector<std::pair<std::string, float>> want{
      {"black", -1.0f},
      {"fifth", -0.6f},
      {"white", 1.0f},
      {"deep fifth", -0.6f},
      {"deep white", 1.0f}};
  std::vector<Study> studies;
  for (const auto& [name, value] : want) {
    studies.push_back(make_study("study of " + name, {name}, "Large heart.", "Normal chest."));
  }
  const WordPiece vocabulary = small_vocabulary();
  const ReadImage read = [&](const std::string& name) { return pictures.at(name); };
  const Dataset dataset(studies, vocabulary, whole_options(), read);
  const HostBatch batch = dataset.batch({0, 1, 2, 3, 4}, nullptr);
  for (std::size_t k = 0; k < want.size(); ++k) {
    CAPTURE(want[k].first);
    CHECK(batch.images(k, 0, 0) == doctest::Approx(want[k].second).epsilon(1e-5));
    CHECK(batch.images(k, 4, 3) == doctest::Approx(want[k].second).epsilon(1e-5));
    CHECK(batch.images(k, 7, 7) == doctest::Approx(want[k].second).epsilon(1e-5));
  }
}

TEST_CASE("a study in memory is cleaned as it is told") {
  const std::string text = "The HEART is Large.";
  CHECK(make_study("s", {"a"}, text, "").findings == "the heart is large.");
  CHECK(make_study("s", {"a"}, text, "", Cleaning::none).findings == text);
  CHECK(make_study("s", {"a"}, text, "").raw_findings == text);
  CHECK(make_study("s", {"a"}, "", "Normal.").impression == "normal.");
}

TEST_CASE("an error of the reader names the study and the source, and the next batch is read") {
  const std::vector<Study> studies{make_study("first", {"a"}, "Large heart.", "Normal chest."),
                                   make_study("second", {"b"}, "Large heart.", "Normal chest."),
                                   make_study("third", {"c"}, "Large heart.", "Normal chest.")};
  const WordPiece vocabulary = small_vocabulary();
  const ReadImage read = [](const std::string& name) {
    if (name == "b") {
      throw Error("archive", "read", "the volume is closed");
    }
    return even(255, 8);
  };
  for (const std::string source : {"memory", "the PACS export"}) {
    CAPTURE(source);
    const DatasetOptions o = whole_options();
    const bool named = source != "memory";
    const Dataset dataset = named ? Dataset(studies, vocabulary, o, read, source)
                                  : Dataset(studies, vocabulary, o, read);
    Loader loader(dataset, LoaderOptions{.batch = 1}, Philox(), 0);
    const std::optional<HostBatch> first = loader.next();
    REQUIRE(first.has_value());
    CHECK(first->images(0, 0, 0) == doctest::Approx(1.0));
    const std::string e = error_of([&] { loader.next(); });
    CHECK_MESSAGE(holds(e, "second"), e);
    CHECK_MESSAGE(holds(e, source), e);
    CHECK_MESSAGE(holds(e, "the volume is closed"), e);
    const std::optional<HostBatch> third = loader.next();
    REQUIRE(third.has_value());
    CHECK(third->studies == std::vector<std::size_t>{2});
    CHECK_FALSE(loader.next().has_value());
  }
}

TEST_CASE("an empty function that should read images is an error") {
  const std::vector<Study> studies{make_study("s1", {"a"}, "Large heart.", "Normal chest.")};
  const WordPiece vocabulary = small_vocabulary();
  const std::string e = error_of([&] {
    const Dataset dataset(studies, vocabulary, whole_options(), ReadImage{});
    dataset.batch({0}, nullptr);
  });
  CHECK_MESSAGE(holds(e, "[hybridmed.data]"), e);
}

// ---------------------------------------------------------------- pictures that are none

namespace {

std::string decode_error(std::string bytes) {
  bytes.resize(std::max<std::size_t>(bytes.size(), 600));
  const std::span<const std::byte> span = std::as_bytes(std::span<const char>(bytes));
  const std::string e = error_of([&] { decode_image(span, "scan.png"); });
  CHECK_MESSAGE(holds(e, "scan.png"), e);
  return e;
}
bool notes(const Image& image, const std::string& part) {
  return std::any_of(image.notes.begin(), image.notes.end(),
                     [&](const std::string& note) { return holds(note, part); });
}

}  // namespace

TEST_CASE("a DICOM file is named, with a hint to convert it to PNG") {
  const std::string first("\x02\0\0\0UL\x04\0", 8);
  const std::string preamble = std::string(128, '\0') + "DICM" + first;
  const std::string bare = std::string("\x08\0\x05\0CS\x0A\0", 8) + "ISO_IR 100";
  for (const std::string& bytes : {preamble, bare}) {
    const std::string e = decode_error(bytes);
    CHECK_MESSAGE(holds(e, "DICOM"), e);
    const std::size_t hint = e.find("hint:");
    REQUIRE_MESSAGE(hint != std::string::npos, e);
    CHECK_MESSAGE(e.find("PNG", hint) != std::string::npos, e);
  }
}

TEST_CASE("files of other kinds are named") {
  const std::string bmp = "BM" + std::string("\x36\x04\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", 16);
  const std::string lfs =
      "version https://git-lfs.github.com/spec/v1\n"
      "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
      "size 12345\n";
  const std::vector<std::pair<std::string, std::string>> kinds{
      {std::string("II*\0\x08\0\0\0", 8), "TIFF"},
      {std::string("MM\0*\0\0\0\x08", 8), "TIFF"},
      {"GIF89a", "GIF"},
      {"GIF87a", "GIF"},
      {bmp, "BMP"},
      {"RIFF" + std::string("\x50\x02\0\0", 4) + "WEBPVP8 ", "WebP"},
      {std::string("\0\0\0\x0CjP  \r\n\x87\n", 12), "JPEG 2000"},
      {std::string("\xFF\x4F\xFF\x51\0\x29", 6), "JPEG 2000"},
      {"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n", "HTML"},
      {"<html><body>404</body></html>\n", "HTML"},
      {lfs, "Git LFS"}};
  for (const auto& [bytes, kind] : kinds) {
    const std::string e = decode_error(bytes);
    CHECK_MESSAGE(holds(e, kind), kind, ": ", e);
  }
}

TEST_CASE("a colour PNG whose pixels are not grey is noted") {
  const Folder f;
  std::vector<std::uint8_t> red;
  std::vector<std::uint8_t> grey;
  for (int k = 0; k < 64; ++k) {
    const auto level = static_cast<std::uint8_t>(4 * k);
    red.insert(red.end(), {200, 10, level});
    grey.insert(grey.end(), {level, level, level});
  }
  write_png(f.path / "red.png", red.data(), 8, 8, 3);
  write_png(f.path / "grey.png", grey.data(), 8, 8, 3);
  write_png(f.path / "plain.png", grey.data(), 8, 8, 1);
  CHECK(notes(read_image(f.path / "red.png"), "colour"));
  const Image image = read_image(f.path / "grey.png");
  CHECK_FALSE(notes(image, "colour"));
  CHECK(image.pixels(0, 1) == 4);
  CHECK(image.pixels(7, 7) == 252);
  CHECK_FALSE(notes(read_image(f.path / "plain.png"), "colour"));
}

// ---------------------------------------------------------------- what a trial found

TEST_CASE("an encoding that holds its last letter back loses none; a byte-order mark promises UTF-8") {
  const TableFormat vietnamese{.encoding = "cp1258"};
  CHECK(parse_csv("id,split\ns1,vali\nt1,train", "t", vietnamese).rows[1][1] == "train");
  const std::string marked = "\xEF\xBB\xBFid,x\n1,M\xFCller\n";
  CHECK(holds(error_of([&] { parse_csv(marked, "t.csv", {.encoding = "latin-1"}); }), "0xFC"));
}

TEST_CASE("empty columns at the end of a spreadsheet's lines are no columns; a line sep= may end as old machines end it") {
  const Table t = parse_csv("a,b,,\n1,2,,\n3,4\n", "t");
  CHECK(t.columns == Row{"a", "b"});
  CHECK(t.rows == std::vector<Row>{{"1", "2"}, {"3", "4"}});
  CHECK(parse_csv("sep=;\ra;b\r1;2\r", "t").rows == std::vector<Row>{{"1", "2"}});
}

TEST_CASE("label names that differ only in case, or that hold commas, are refused; study ids are compared without blanks") {
  const Folder f;
  const StudyColumns columns{.labels = "names"};
  f.write("labels.csv", "study_id,names\na,Effusion\nb,effusion|Mass\n");
  CHECK(holds(error_of([&] { DataFolder(f.path, {.columns = columns}); }), "differ only in case"));
  f.write("labels.csv", "study_id,names\na,\"Effusion, Mass\"\nb,Mass\n");
  CHECK(holds(error_of([&] { DataFolder(f.path, {.columns = columns}); }), "separated by '|'"));
  const Folder g;
  g.write("studies.csv", "study_id,split,frontal_images,findings,impression\n\"K1 \",train,a.png,x,y\nK2,test,b.png,x,y\n");
  g.write("labels.csv", "study_id,nodule\nK1,1\n K2\xC2\xA0,0\n");
  const DataFolder folder(g.path);
  CHECK(folder.select({})[0].id == "K1");
  CHECK(folder.labels().of.at("K2") == std::vector<int>{0});
}

TEST_CASE("a split column that was asked for by name must be there; files in splits/ that are no lists are not passed over") {
  const Folder f;
  f.write("studies.csv", "study_id,Menge,frontal_images,findings,impression\na,train,a.png,x,y\n");
  const StudyColumns columns{.split = "Mengee"};
  CHECK(holds(error_of([&] { DataFolder(f.path, {.columns = columns}); }), "--set column_split='Menge'"));
  f.write("splits/train.csv", "a\n");
  CHECK(holds(error_of([&] { DataFolder{f.path}; }), "train.csv"));
  f.write("splits/TEST.TXT", "a\n");
  CHECK(DataFolder(f.path).splits() == std::set<std::string>{"test"});
}

TEST_CASE("a picture in memory whose values do not fit its depth is refused") {
  Image image;
  image.pixels = xt::xtensor<std::uint16_t, 2>::from_shape({4, 4});
  image.pixels.fill(4095);
  CHECK(holds(error_of([&] { make_square(image, 8); }), "value of 4095"));
  image.bits = 12;
  CHECK(holds(error_of([&] { preview(image); }), "8 or 16 bits"));
}
