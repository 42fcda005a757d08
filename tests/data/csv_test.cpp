// Tables as people have them: delimiters, quotes, names of columns in other case.
#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/table_text.hpp"
#include "errors.hpp"
#include "hybridmed/data/csv.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;

TEST_CASE("CSV: quotes, commas, line breaks, CRLF, BOM, no final newline") {
  const Table t = parse_csv(
      "a,b,c\n1,2,3\n\"x,y\",\"he said \"\"no\"\"\",\"two\nlines\"\n,\"\",\"\"\"\"\n7,8,9",
      "t.csv");
  CHECK(t.columns == Row{"a", "b", "c"});
  REQUIRE(t.rows.size() == 4);
  CHECK(t.rows[0] == Row{"1", "2", "3"});
  CHECK(t.rows[1] == Row{"x,y", "he said \"no\"", "two\nlines"});
  CHECK(t.rows[2] == Row{"", "", "\""});
  CHECK(t.rows[3] == Row{"7", "8", "9"});
  CHECK(t.lines == std::vector<std::size_t>{2, 3, 5, 6});  // a row's line is where it begins
  CHECK(t.column("c") == 2);

  const Table crlf = parse_csv(
      "\xEF\xBB\xBF"
      "a,b\r\n1,\"x\r\ny\"\r\n3,4\r\n",
      "t.csv");
  CHECK(crlf.columns == Row{"a", "b"});
  REQUIRE(crlf.rows.size() == 2);
  CHECK(crlf.rows[0] == Row{"1", "x\r\ny"});
  CHECK(crlf.rows[1] == Row{"3", "4"});
  CHECK(crlf.lines == std::vector<std::size_t>{2, 4});

  CHECK(parse_csv("a,b\n1,", "t.csv").rows == std::vector<Row>{{"1", ""}});
  CHECK(parse_csv("a\n\"x\"", "t.csv").rows == std::vector<Row>{{"x"}});
  CHECK(parse_csv("a,b\n\n1,2\n\n", "t.csv").lines ==
        std::vector<std::size_t>{3});  // empty lines are no rows
  CHECK(parse_csv("a,b\n", "t.csv").rows.empty());
  CHECK(parse_csv("a,b\n 1 , 2\n", "t.csv").rows[0] ==
        Row{" 1 ", " 2"});  // spaces belong to the field
}

TEST_CASE("CSV: a written field reads back") {
  for (const std::string& s : {std::string(""), std::string("plain"), std::string("a,b"),
                               std::string("say \"no\""), std::string("two\nlines"),
                               std::string("cr\rlf"), std::string("\""), std::string(" spaces ")}) {
    const Table t = parse_csv("a,b\n" + csv_field(s) + ",x\n", "t.csv");
    REQUIRE(t.rows.size() == 1);
    CHECK(t.rows[0] == Row{s, "x"});
  }
  CHECK(csv_field("plain") == "plain");
}

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
      {"comma", ','}, {"semicolon", ';'}, {"tab", '\t'}, {",", ','},
      {";", ';'},     {"|", '|'},         {"^", '^'}};
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
  const Row fields{"plain",      "a,b",      "a;b;c;d",    "tab\tand\ttab\there",
                   "say \"no\"", "\"",       "two\nlines", "cr\rhere",
                   "end\r\n",    " blanks ", "\xC3\xBC",   "'",
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
  CHECK(printable(std::string_view("a\0b", 3)) ==
        "a\\x00"
        "b");
  CHECK(printable("\x01\x1F\x7F") == "\\x01\\x1F\\x7F");
  CHECK(printable("") == "");
  CHECK(printable("'\" ,;|\xC3\xBC\xE5\xBF\x83~") == "'\" ,;|\xC3\xBC\xE5\xBF\x83~");
}

TEST_CASE(
    "empty columns at the end of a spreadsheet's lines are no columns; a line sep= may end as old "
    "machines end it") {
  const Table t = parse_csv("a,b,,\n1,2,,\n3,4\n", "t");
  CHECK(t.columns == Row{"a", "b"});
  CHECK(t.rows == std::vector<Row>{{"1", "2"}, {"3", "4"}});
  CHECK(parse_csv("sep=;\ra;b\r1;2\r", "t").rows == std::vector<Row>{{"1", "2"}});
}
