#pragma once
// Comma-separated tables (RFC 4180): quoted fields may hold commas, line breaks and doubled quotes.
#include <set>
#include <string>
#include <vector>

#include "hybridmed/io/config.hpp"

namespace hybridmed::data {

struct Table {
  std::string source;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> lines;  // line number of each row

  /// Column of that name; an error lists the nearest name.
  std::size_t column(const std::string& name) const {
    const std::size_t c = find(name);
    if (c != npos) return c;
    std::string nearest;
    for (const auto& x : columns)
      if (nearest.empty() || io::edit_distance(name, x) < io::edit_distance(name, nearest)) nearest = x;
    if (columns.size() == 1 && nearest.find_first_of(";\t") != nearest.npos)
      fail("data", "table", source + ": the column '" + name + "' is missing: the table is separated by " + (nearest.find(';') != nearest.npos ? "semicolons" : "tabs"), "save it with commas");
    fail("data", "table", source + ": the column '" + name + "' is missing", "did you mean '" + nearest + "'?");
  }
  static constexpr std::size_t npos = ~std::size_t{0};
  std::size_t find(const std::string& name) const {
    for (std::size_t i = 0; i < columns.size(); ++i)
      if (columns[i] == name) return i;
    return npos;
  }
};

/// Parses a table with a header row. Errors name the source and the line.
inline Table parse_csv(std::string_view text, const std::string& source) {
  Table t;
  t.source = source;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::size_t line = 1, at = 0;
  io::check_text(text, "data", "table", source);
  const auto bad = [&](std::size_t where, const std::string& why) { fail("data", "table", source + ", line " + std::to_string(where) + ": " + why); };
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
            if (at + 1 < text.size() && text[at + 1] == '"') field += text[++at];
            else break;
          } else {
            line += text[at] == '\n';
            field += text[at];
          }
        }
        ++at;
        if (at < text.size() && text[at] != ',' && text[at] != '\n' && text[at] != '\r') bad(line, "text after a closing quote");
      } else {
        while (at < text.size() && text[at] != ',' && text[at] != '\n' && text[at] != '\r') {
          if (text[at] == '"') bad(line, "a quote inside an unquoted field");
          field += text[at++];
        }
      }
      row.push_back(std::move(field));
      more = at < text.size() && text[at] == ',';
      if (more) ++at;
    }
    if (at < text.size() && text[at] == '\r') ++at;
    if (at < text.size() && text[at] == '\n') ++at;
    ++line;
    if (row.size() == 1 && row[0].empty()) continue;  // an empty line
    if (t.columns.empty()) {
      t.columns = std::move(row);
      std::set<std::string> seen;
      for (const auto& column : t.columns)
        if (!seen.insert(column).second) bad(first, "the column '" + column + "' stands twice");
    } else {
      if (row.size() != t.columns.size()) bad(first, "expected " + std::to_string(t.columns.size()) + " fields, got " + std::to_string(row.size()));
      t.rows.push_back(std::move(row)), t.lines.push_back(first);
    }
  }
  if (t.columns.empty()) bad(1, "an empty table");
  return t;
}
inline Table read_csv(const std::filesystem::path& path) { return parse_csv(io::read_text(path), path.string()); }

/// A field as CSV, quoted where needed.
inline std::string csv_field(const std::string& s) {
  if (s.find_first_of(",\"\n\r") == s.npos) return s;
  std::string q = "\"";
  for (char c : s) q += c == '"' ? "\"\"" : std::string(1, c);
  return q + "\"";
}

}  // namespace hybridmed::data
