#pragma once
// Tables of text (RFC 4180): fields separated by commas, semicolons or tabs; quoted ones may hold
// separators, line breaks and doubled quotes.
#include <set>
#include <string>
#include <vector>

#include "hybridmed/data/encoding.hpp"
#include "hybridmed/io/config.hpp"

namespace hybridmed::data {

/// How a table is written.
struct TableFormat {
  std::string delimiter = "auto";  ///< auto (by the header: comma, semicolon or tab) | comma |
                                   ///< semicolon | tab | one character
  std::string encoding = auto_encoding;  ///< see encoding.hpp
};

namespace detail {
inline std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}
/// Without the blanks around it, the no-break space of spreadsheets among them.
inline std::string_view trimmed(std::string_view s) {
  constexpr std::string_view blanks = " \t\r\n", no_break = "\xC2\xA0";
  for (std::size_t before = s.size() + 1; before != s.size();) {
    before = s.size();
    while (!s.empty() && blanks.find(s.front()) != blanks.npos) s.remove_prefix(1);
    while (!s.empty() && blanks.find(s.back()) != blanks.npos) s.remove_suffix(1);
    if (s.starts_with(no_break)) s.remove_prefix(2);
    if (s.ends_with(no_break)) s.remove_suffix(2);
  }
  return s;
}
}  // namespace detail

/// Of `names` the one that is written most like `name`, case aside; empty where there is none.
inline std::string nearest_name(const std::string& name, const std::vector<std::string>& names) {
  std::string nearest;
  std::size_t best = 0;
  for (const auto& candidate : names) {
    const std::size_t distance = io::edit_distance(name, candidate);
    if (nearest.empty() || distance < best) {
      nearest = candidate;
      best = distance;
    }
  }
  return nearest;
}

/// "did you mean 'x'?" for the nearest of `names`, where one is near: at most two letters, or a
/// third of the word, away; else empty.
inline std::string did_you_mean(const std::string& name, const std::vector<std::string>& names) {
  const std::string nearest = nearest_name(name, names);
  const std::size_t distance = io::edit_distance(name, nearest);
  return nearest.empty() || distance > (std::max)(std::size_t{2}, name.size() / 3)
             ? std::string()
             : "did you mean '" + nearest + "'?";
}

/// "'a', 'b', 'c'", cut where it grows long.
template <class Names>
std::string quoted_list(const Names& names) {
  std::string all;
  for (const auto& name : names) all += (all.empty() ? "'" : ", '") + name + "'";
  return all.substr(0, 300);
}

struct Table {
  std::string source;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> lines;  // line number of each row
  char delimiter = ',';

  static constexpr std::size_t npos = ~std::size_t{0};

  /// Place of the column of that name; case and blanks around it make no difference unless two
  /// columns differ in nothing else. npos where there is none.
  std::size_t find(const std::string& name) const {
    for (std::size_t i = 0; i < columns.size(); ++i)
      if (columns[i] == name) return i;
    const std::string wanted = detail::lower(detail::trimmed(name));
    std::size_t found = npos;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      if (detail::lower(detail::trimmed(columns[i])) != wanted) continue;
      if (found != npos)
        fail("data", "table",
             source + ": the columns '" + columns[found] + "' and '" + columns[i] +
                 "' both look like '" + name + "'",
             "write the name exactly as one of them");
      found = i;
    }
    return found;
  }
  /// The same, where the column must be there. `key`: the configuration's key that names it, for
  /// the message.
  std::size_t column(const std::string& name, const std::string& key = {}) const {
    const std::size_t c = find(name);
    if (c != npos) return c;
    const std::string nearest =
        did_you_mean(name, columns).empty() ? std::string() : nearest_name(name, columns);
    const bool one = columns.size() == 1;
    fail(
        "data", "table",
        source + ": the column '" + name + "' is missing; " +
            (one ? "its one column is " : "its columns are ") + quoted_list(columns),
        (nearest.empty() ? "" : "did you mean '" + nearest + "'? ") +
            (key.empty() ? ""
                         : "--set " + key + "=" + (nearest.empty() ? "NAME" : "'" + nearest + "'") +
                               " reads another") +
            (one ? "; if that one is several columns, --set delimiter=CHARACTER says what "
                   "separates them"
                 : ""));
  }
};

/// The character that a delimiter's name stands for; 0 for auto.
/// @throws Error for a name that makes no sense.
inline char delimiter_of(const std::string& name) {
  if (name == "auto") return 0;
  if (name == "comma") return ',';
  if (name == "semicolon") return ';';
  if (name == "tab" || name == "\\t") return '\t';
  const auto c = name.size() == 1 ? static_cast<unsigned char>(name[0]) : 0u;
  const bool letter = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  if (c == 0 || c > 126 || (c < 32 && c != '\t') || letter || c == '"' || c == ' ')
    fail("data", "table",
         "expected delimiter auto, comma, semicolon, tab or one character such as '|', got '" +
             name + "'");
  return name[0];
}

/// What fields are separated by, in words: "commas", "semicolons", "tabs", or "'|'".
inline std::string delimiter_name(char delimiter) {
  if (delimiter == ',') return "commas";
  if (delimiter == ';') return "semicolons";
  if (delimiter == '\t') return "tabs";
  return "'" + std::string(1, delimiter) + "'";
}

/// The separator of a header line: of comma, semicolon and tab the one that stands in it most often
/// outside quotes.
inline char found_delimiter(std::string_view text) {
  std::size_t counts[3] = {};
  constexpr std::string_view candidates = ",;\t";
  bool quoted = false;
  for (char c : text) {
    if (c == '"') quoted = !quoted;
    if (!quoted && (c == '\n' || c == '\r')) break;
    if (const auto k = candidates.find(c); !quoted && k != candidates.npos) ++counts[k];
  }
  std::size_t best = 0;
  for (std::size_t k = 1; k < 3; ++k)
    if (counts[k] > counts[best]) best = k;
  return candidates[best];
}

/// Parses a table with a header row; a first line "sep=;", as spreadsheets write it, sets the
/// delimiter. Errors name source and line.
inline Table parse_csv(std::string_view bytes, const std::string& source,
                       const TableFormat& format = {}) {
  const std::string decoded = decode_text(bytes, format.encoding, source);
  std::string_view text = decoded;
  Table t;
  t.source = source;
  t.delimiter = delimiter_of(format.delimiter);
  std::size_t line = 1, at = 0;
  const auto bad = [&](std::size_t where, const std::string& why, const std::string& hint = {}) {
    fail("data", "table", source + ", line " + std::to_string(where) + ": " + why, hint);
  };
  if (text.starts_with("sep=") && text.size() > 5 && (text[5] == '\n' || text[5] == '\r') &&
      text[4] != '"' && text[4] != '\n' && text[4] != '\r') {
    if (!t.delimiter) t.delimiter = text[4];
    at = text.substr(5, 2) == "\r\n" ? 7 : 6;
    ++line;
  }
  if (!t.delimiter) t.delimiter = found_delimiter(text.substr(at));
  const char separator = t.delimiter;
  const std::string other = "the table is read as separated by " + delimiter_name(separator) +
                            "; --set delimiter=NAME (comma, semicolon, tab) says otherwise";
  while (at < text.size()) {
    const std::size_t first = line;
    std::vector<std::string> row;
    for (bool more = true; more;) {
      std::string field;
      if (at < text.size() && text[at] == '"') {
        const std::size_t opened = line;
        for (++at;; ++at) {
          if (at >= text.size()) bad(opened, "a quote is opened and never closed");
          if (text[at] == '"') {
            if (at + 1 < text.size() && text[at + 1] == '"')
              field += text[++at];
            else
              break;
          } else {
            line += text[at] == '\n';
            field += text[at];
          }
        }
        ++at;
        if (at < text.size() && text[at] != separator && text[at] != '\n' && text[at] != '\r')
          bad(line, "text after a closing quote", other);
      } else {
        while (at < text.size() && text[at] != separator && text[at] != '\n' && text[at] != '\r') {
          if (text[at] == '"')
            bad(line, "a quote inside an unquoted field",
                "put the field in quotes and double those inside it; " + other);
          field += text[at++];
        }
      }
      row.push_back(std::move(field));
      more = at < text.size() && text[at] == separator;
      if (more) ++at;
    }
    if (at < text.size() && text[at] == '\r') ++at;
    if (at < text.size() && text[at] == '\n') ++at;
    ++line;
    if (row.size() == 1 && row[0].empty()) continue;  // an empty line
    if (t.columns.empty()) {
      while (row.size() > 1 && row.back().empty())
        row.pop_back();  // empty columns that a spreadsheet leaves at the end
      t.columns = std::move(row);
      std::set<std::string> seen;
      for (const auto& column : t.columns)
        if (!seen.insert(column).second)
          bad(first, "the column '" + column + "' stands twice",
              "the first line must name the columns");
    } else {
      while (row.size() > t.columns.size() && row.back().empty()) row.pop_back();
      if (row.size() != t.columns.size())
        bad(first,
            "expected " + std::to_string(t.columns.size()) + " fields, got " +
                std::to_string(row.size()),
            "a field that holds a separator needs quotes; " + other);
      t.rows.push_back(std::move(row));
      t.lines.push_back(first);
    }
  }
  if (t.columns.empty()) bad(1, "an empty table");
  return t;
}
inline Table read_csv(const std::filesystem::path& path, const TableFormat& format = {}) {
  return parse_csv(io::read_text(path), path.string(), format);
}

/// A name on one line and without tabs: \t, \n, \r, \\ and \xNN stand for what would break a line
/// or a terminal.
inline std::string printable(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    char code[8];
    std::snprintf(code, sizeof code, "\\x%02X", static_cast<unsigned>(byte));
    if (c == '\t')
      out += "\\t";
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\\')
      out += "\\\\";
    else if (byte < 32 || byte == 127)
      out += code;
    else
      out += c;
  }
  return out;
}

/// A field as CSV, quoted where needed.
inline std::string csv_field(const std::string& s) {
  if (s.find_first_of(",\"\n\r;\t") == s.npos && !s.starts_with("sep=")) return s;
  std::string q = "\"";
  for (char c : s) q += c == '"' ? "\"\"" : std::string(1, c);
  return q + "\"";
}

}  // namespace hybridmed::data
