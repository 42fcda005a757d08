#pragma once
// Labels of studies: 1 present, 0 absent, -1 uncertain, an empty cell unknown (CheXpert's
// convention).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "hybridmed/data/csv.hpp"

namespace hybridmed::data {

struct Labels {
  static constexpr int uncertain = -1, unknown = -2;

  std::vector<std::string> names;
  std::map<std::string, std::vector<int>> of;  // study -> 0, 1, uncertain or unknown, per name
  std::map<std::string, std::string>
      other_columns;      // columns that hold something else: the first such value and its place
  std::string with_bars;  // the first of them that has a '|' in a cell
  std::vector<std::string> spoiled;  // those of them whose cells are mostly labels
  std::size_t left_out = 0;          // rows with not_indexed = 1
  std::size_t conflicts = 0;         // studies listed twice with different values
  std::string source;

  /// A column that looks like lists of label names: some cell of it holds a '|', or it is called so
  /// and no other column is a label; empty where there is none.
  std::string list_column() const {
    if (!with_bars.empty()) return with_bars;
    for (const auto& [column, value] : other_columns)
      if (names.empty() && detail::lower(column).find("label") != column.npos) return column;
    return {};
  }

  /// Place of a label among `names`.
  /// @throws Error that says what its column holds instead, or which name is the nearest.
  std::size_t at(const std::string& label) const {
    const auto it = std::find(names.begin(), names.end(), label);
    if (it != names.end()) return static_cast<std::size_t>(it - names.begin());
    if (const auto bad = other_columns.find(label); bad != other_columns.end())
      fail("data", "labels",
           source + ", column '" + label +
               "': expected 0, 1, -1 (uncertain) or nothing (unknown), got " + bad->second);
    const std::string list = list_column();
    fail("data", "labels",
         source + ": no label column '" + label + "'" +
             (names.empty() ? ", nor any other" : "; there are " + quoted_list(names)),
         !list.empty()   ? "--set column_labels='" + list + "' reads that column as names of labels"
         : names.empty() ? std::string("a label column holds 1, 0, -1 and empty cells")
                         : did_you_mean(label, names));
  }
};

/// Replaces a column of label names, separated by '|' ("Cardiomegaly|Effusion", as NIH ChestX-ray14
/// has them), by a column a label with 1 where the name stands and 0 where it does not; an empty
/// cell is unknown for all.
inline Table spread_label_names(Table t, const std::string& column) {
  const std::size_t at = t.column(column, "column_labels");
  const auto names_in = [&](const std::vector<std::string>& row) {
    std::set<std::string> out;
    std::string_view cell = row[at];
    for (std::size_t from = 0; from <= cell.size();) {
      const std::size_t end = (std::min)(cell.find('|', from), cell.size());
      if (const auto name = detail::trimmed(cell.substr(from, end - from)); !name.empty())
        out.emplace(name);
      from = end + 1;
    }
    return out;
  };
  std::set<std::string> all;
  for (const auto& row : t.rows) all.merge(names_in(row));
  std::map<std::string, std::string> written;  // without case: as it is written
  for (const auto& name : all) {
    if (name.find_first_of(",;") != name.npos)
      fail("data", "labels",
           t.source + ", column '" + column + "': the name '" + name.substr(0, 60) +
               "' holds a comma or a semicolon",
           "names are separated by '|'");
    if (const auto [it, fresh] = written.emplace(detail::lower(name), name); !fresh)
      fail("data", "labels",
           t.source + ", column '" + column + "': the names '" + it->second + "' and '" + name +
               "' differ only in case",
           "write one label in one way");
  }
  constexpr std::size_t most = 1000;
  if (all.size() > most)
    fail("data", "labels",
         t.source + ", column '" + column + "': more than " + std::to_string(most) +
             " different names: it does not hold labels");
  for (const auto& name : all)
    if (std::find(t.columns.begin(), t.columns.end(), name) != t.columns.end())
      fail("data", "labels",
           t.source + ", column '" + column + "': the label '" + name +
               "' is also a column of its own");
  for (auto& row : t.rows) {
    const auto here = names_in(row);
    for (const auto& name : all) row.push_back(here.empty() ? "" : here.count(name) ? "1" : "0");
    row.erase(row.begin() + static_cast<std::ptrdiff_t>(at));
  }
  t.columns.insert(t.columns.end(), all.begin(), all.end());
  t.columns.erase(t.columns.begin() + static_cast<std::ptrdiff_t>(at));
  return t;
}

namespace detail {
/// "", "1", "0.0", "-1" ... -> a value; nothing for anything else.
inline std::optional<int> label_value(std::string_view s) {
  while (s.starts_with(' ')) s.remove_prefix(1);
  while (s.ends_with(' ')) s.remove_suffix(1);
  if (s.empty()) return Labels::unknown;
  double x = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), x);
  if (error != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return x == 0    ? std::optional(0)
         : x == 1  ? std::optional(1)
         : x == -1 ? std::optional(Labels::uncertain)
                   : std::nullopt;
}
}  // namespace detail

/// Reads a table of labels. Every column but the study's, `not_indexed` (rows with 1 there are left
/// out) and those of `skip` is a label, unless a cell of it holds something else.
/// @throws Error where a study is listed twice with different values, unless `problems` is given,
/// which then names it.
inline Labels read_labels(const Table& t, const std::string& study_column,
                          const std::set<std::string>& skip,
                          std::vector<std::string>* problems = nullptr) {
  Labels l;
  l.source = t.source;
  const std::size_t id = t.column(study_column), not_indexed = t.find("not_indexed");
  const auto left_out = [&](const std::vector<std::string>& row) {
    return not_indexed != Table::npos && detail::label_value(row[not_indexed]) == 1;
  };
  std::set<std::string> skipped;
  for (const auto& name : skip) skipped.insert(detail::lower(detail::trimmed(name)));
  std::vector<std::size_t> columns;
  std::map<std::string_view, std::string> seen;  // without blanks around it: as written
  for (const auto& column : t.columns)
    if (const auto [it, fresh] = seen.emplace(detail::trimmed(column), column); !fresh)
      fail("data", "labels",
           t.source + ": the columns '" + it->second + "' and '" + column +
               "' have the same name but for blanks",
           "which of them is right?");
  for (std::size_t c = 0; c < t.columns.size(); ++c) {
    if (c == id || c == not_indexed || skipped.count(detail::lower(detail::trimmed(t.columns[c]))))
      continue;
    const auto bad = std::find_if(t.rows.begin(), t.rows.end(), [&](const auto& row) {
      return !left_out(row) && !detail::label_value(row[c]);
    });
    if (bad == t.rows.end()) {
      columns.push_back(c);
      l.names.push_back(t.columns[c]);
    } else {
      l.other_columns[t.columns[c]] =
          "'" + (*bad)[c].substr(0, 60) + "' in line " +
          std::to_string(t.lines[static_cast<std::size_t>(bad - t.rows.begin())]);
      const bool bars = std::any_of(t.rows.begin(), t.rows.end(), [&](const auto& row) {
        return row[c].find('|') != std::string::npos;
      });
      if (bars && l.with_bars.empty()) l.with_bars = t.columns[c];
      std::size_t labels = 0, others = 0;
      for (const auto& row : t.rows) {
        const auto value = detail::label_value(row[c]);
        labels += value && *value != Labels::unknown;
        others += !value;
      }
      if (labels > 2 * others) l.spoiled.push_back(t.columns[c]);
    }
  }
  std::map<std::string, std::size_t> line_of;
  for (std::size_t r = 0; r < t.rows.size(); ++r) {
    const auto& row = t.rows[r];
    if (left_out(row)) {
      ++l.left_out;
      continue;
    }
    std::vector<int> values;
    for (std::size_t c : columns) values.push_back(*detail::label_value(row[c]));
    const auto [it, fresh] = l.of.emplace(row[id], values);
    if (fresh) {
      line_of[row[id]] = t.lines[r];
      continue;
    }
    const bool same = it->second == values;
    const std::string what = t.source + ", lines " + std::to_string(line_of[row[id]]) + " and " +
                             std::to_string(t.lines[r]) + ": study '" + row[id] +
                             "' is listed twice" +
                             (same ? ", with the same values" : " with different values");
    l.conflicts += !same;
    if (problems)
      problems->push_back(what);
    else if (!same)
      fail("data", "labels", what, "which of them is right?");
  }
  return l;
}

}  // namespace hybridmed::data
