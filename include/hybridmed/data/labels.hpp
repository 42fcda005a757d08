#pragma once
// Labels of studies: 1 present, 0 absent, -1 uncertain, an empty cell unknown (CheXpert's convention).
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
  std::map<std::string, std::vector<int>> of;       // study -> 0, 1, uncertain or unknown, per name
  std::map<std::string, std::string> other_columns; // columns that hold something else: the first such value and its place
  std::vector<std::string> spoiled;                 // those of them whose cells are mostly labels
  std::size_t left_out = 0;                         // rows with not_indexed = 1
  std::size_t conflicts = 0;                        // studies listed twice with different values
  std::string source;

  /// Place of a label among `names`.
  /// @throws Error that says what its column holds instead, or which name is the nearest.
  std::size_t at(const std::string& label) const {
    const auto it = std::find(names.begin(), names.end(), label);
    if (it != names.end()) return static_cast<std::size_t>(it - names.begin());
    if (const auto bad = other_columns.find(label); bad != other_columns.end())
      fail("data", "labels", source + ", column '" + label + "': expected 0, 1, -1 (uncertain) or nothing (unknown), got " + bad->second);
    std::string nearest;
    for (const auto& n : names)
      if (nearest.empty() || io::edit_distance(label, n) < io::edit_distance(label, nearest)) nearest = n;
    fail("data", "labels", source + ": no label column '" + label + "'", nearest.empty() ? std::string("labels.csv holds no label column") : "did you mean '" + nearest + "'?");
  }
};

namespace detail {
/// "", "1", "0.0", "-1" ... -> a value; nothing for anything else.
inline std::optional<int> label_value(std::string_view s) {
  while (s.starts_with(' ')) s.remove_prefix(1);
  while (s.ends_with(' ')) s.remove_suffix(1);
  if (s.empty()) return Labels::unknown;
  double x = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), x);
  if (error != std::errc() || end != s.data() + s.size()) return std::nullopt;
  return x == 0 ? std::optional(0) : x == 1 ? std::optional(1) : x == -1 ? std::optional(Labels::uncertain) : std::nullopt;
}
}  // namespace detail

/// Reads a table of labels. Every column but the study's, `not_indexed` (rows with 1 there are left out) and those of `skip` is a
/// label, unless a cell of it holds something else.
/// @throws Error where a study is listed twice with different values, unless `problems` is given, which then names it.
inline Labels read_labels(const Table& t, const std::string& study_column, const std::set<std::string>& skip, std::vector<std::string>* problems = nullptr) {
  Labels l;
  l.source = t.source;
  const std::size_t id = t.column(study_column), not_indexed = t.find("not_indexed");
  const auto left_out = [&](const std::vector<std::string>& row) { return not_indexed != Table::npos && detail::label_value(row[not_indexed]) == 1; };
  std::vector<std::size_t> columns;
  for (std::size_t c = 0; c < t.columns.size(); ++c) {
    if (c == id || c == not_indexed || skip.count(t.columns[c])) continue;
    const auto bad = std::find_if(t.rows.begin(), t.rows.end(), [&](const auto& row) { return !left_out(row) && !detail::label_value(row[c]); });
    if (bad == t.rows.end()) {
      columns.push_back(c);
      l.names.push_back(t.columns[c]);
    } else {
      l.other_columns[t.columns[c]] = "'" + (*bad)[c] + "' in line " + std::to_string(t.lines[static_cast<std::size_t>(bad - t.rows.begin())]);
      std::size_t labels = 0, others = 0;
      for (const auto& row : t.rows) {
        const auto value = detail::label_value(row[c]);
        labels += value && *value != Labels::unknown, others += !value;
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
    const std::string what = t.source + ", lines " + std::to_string(line_of[row[id]]) + " and " + std::to_string(t.lines[r]) + ": study '" + row[id] + "' is listed twice" + (same ? ", with the same values" : " with different values");
    l.conflicts += !same;
    if (problems) problems->push_back(what);
    else if (!same) fail("data", "labels", what, "which of them is right?");
  }
  return l;
}

}  // namespace hybridmed::data
