#pragma once
// A data folder: a table of studies, images/, optional labels.csv and splits/ (one study id a line; they win over the
// table's split column).
#include <map>
#include <set>

#include "hybridmed/data/clean_text.hpp"
#include "hybridmed/data/csv.hpp"

namespace hybridmed::data {

/// Names of the table's columns; the defaults are those of the IU X-Ray layout.
struct StudyColumns {
  std::string study = "study_id", split = "split", images = "frontal_images", findings = "findings", impression = "impression";
};

struct Study {
  std::string id;
  std::vector<std::string> images;                     // file names under images/
  std::string raw_findings, raw_impression;            // as written
  std::string findings, impression;                    // cleaned; empty where absent
  std::size_t line = 0;                                // in the table
};

/// Which studies a run uses.
struct StudySelection {
  std::string split;               ///< empty: all
  bool needs_both = false;         ///< only studies with findings and impression
  bool needs_image = true;
  Cleaning cleaning = Cleaning::standard;
};

/// A row that was left out, and why.
struct Rejected {
  std::string study;
  std::size_t line;  ///< of the table; 0 for a study that only a split names
  std::string reason;

  std::string place() const { return (line > 0 ? "line " + std::to_string(line) + ", " : "") + "study '" + study + "'"; }
};

inline std::vector<std::string> split_names(const std::string& s, char separator) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= s.size();) {
    const auto end = (std::min)(s.find(separator, at), s.size());
    if (end > at) out.push_back(s.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

class DataFolder {
 public:
  explicit DataFolder(std::filesystem::path root, StudyColumns columns = {}, const std::string& table = "studies.csv") : root_(std::move(root)), columns_(std::move(columns)) {
    std::error_code ec;
    if (!std::filesystem::is_directory(root_, ec)) fail("data", "folder", root_.string() + ": no such folder");
    table_ = read_csv(root_ / table);
    for (const auto* c : {&columns_.study, &columns_.images, &columns_.findings, &columns_.impression}) table_.column(*c);
    if (std::filesystem::is_directory(root_ / "splits", ec))
      for (const auto& f : std::filesystem::directory_iterator(root_ / "splits"))
        if (f.path().extension() == ".txt") {
          auto& ids = splits_[f.path().stem().string()];
          for (auto line : split_names(io::read_text(f.path()), '\n')) {
            if (line.ends_with('\r')) line.pop_back();
            if (!line.empty()) ids.insert(line);
          }
        }
  }

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path image_path(const std::string& name) const { return root_ / "images" / name; }
  const Table& table() const { return table_; }

  /// Does the folder say which studies belong to which split: by splits/*.txt, else by the split column?
  bool has_splits() const { return !splits_.empty() || table_.find(columns_.split) != Table::npos; }
  bool has_split(const std::string& name) const {
    if (!splits_.empty()) return splits_.count(name) > 0;
    const std::size_t at = table_.find(columns_.split);
    return at != Table::npos && std::any_of(table_.rows.begin(), table_.rows.end(), [&](const auto& row) { return row[at] == name; });
  }

  /// The studies of a selection, in table order; all of them where neither splits/ nor a split column says which. What was left out goes to `rejected`, if given.
  std::vector<Study> select(const StudySelection& s, std::vector<Rejected>* rejected = nullptr) const {
    const std::size_t id = table_.column(columns_.study), images = table_.column(columns_.images), findings = table_.column(columns_.findings), impression = table_.column(columns_.impression);
    const std::size_t split = table_.find(columns_.split);
    if (!s.split.empty() && has_splits() && !has_split(s.split))
      fail("data", "folder", splits_.empty() ? table_.source + ": no row of split '" + s.split + "'" : (root_ / "splits").string() + ": no split named '" + s.split + "'");
    std::vector<Study> out;
    std::set<std::string> seen;  // the ids of the split's rows
    for (std::size_t r = 0; r < table_.rows.size(); ++r) {
      const auto& row = table_.rows[r];
      if (!s.split.empty()) {
        if (!splits_.empty() ? !splits_.at(s.split).count(row[id]) : split != Table::npos && row[split] != s.split) continue;
      }
      Study study{row[id], split_names(row[images], ';'), row[findings], row[impression], clean_text(row[findings], s.cleaning), clean_text(row[impression], s.cleaning), table_.lines[r]};
      const auto leave_out = [&](const std::string& why) {
        if (rejected) rejected->push_back({study.id, study.line, why});
      };
      if (study.id.empty()) leave_out("no study id");
      else if (!seen.insert(study.id).second) leave_out("the study id stands twice");
      else if (s.needs_image && study.images.empty()) leave_out("no image");
      else if (s.needs_both && (study.findings.empty() || study.impression.empty())) leave_out(study.findings.empty() ? "no findings" : "no impression");
      else if (study.findings.empty() && study.impression.empty()) leave_out("neither findings nor impression");
      else out.push_back(std::move(study));
    }
    if (rejected && !s.split.empty() && !splits_.empty())
      for (const auto& listed : splits_.at(s.split))
        if (!seen.count(listed)) rejected->push_back({listed, 0, "listed in splits/" + s.split + ".txt, but not in the table"});
    return out;
  }

  /// 0/1 label columns of labels.csv by study; studies with not_indexed = 1 are left out.
  struct Labels {
    std::vector<std::string> names;
    std::map<std::string, std::vector<int>> of;  // study -> value per name
  };
  Labels labels() const {
    Labels l;
    const auto path = root_ / "labels.csv";
    if (!std::filesystem::exists(path)) return l;
    const Table t = read_csv(path);
    const std::size_t id = t.column(columns_.study), skip = t.find("not_indexed");
    std::vector<std::size_t> columns;
    for (std::size_t c = 0; c < t.columns.size(); ++c)
      if (c != id && c != skip && t.columns[c] != columns_.split) columns.push_back(c), l.names.push_back(t.columns[c]);
    for (std::size_t r = 0; r < t.rows.size(); ++r) {
      if (skip != Table::npos && t.rows[r][skip] == "1") continue;
      auto& values = l.of[t.rows[r][id]];
      values.clear();
      for (std::size_t c : columns) {
        if (t.rows[r][c] != "0" && t.rows[r][c] != "1")
          fail("data", "labels", path.string() + ", line " + std::to_string(t.lines[r]) + ", column '" + t.columns[c] + "': expected 0 or 1, got '" + t.rows[r][c] + "'");
        values.push_back(t.rows[r][c] == "1");
      }
    }
    return l;
  }

 private:
  std::filesystem::path root_;
  StudyColumns columns_;
  Table table_;
  std::map<std::string, std::set<std::string>> splits_;
};

}  // namespace hybridmed::data
