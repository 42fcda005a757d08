#pragma once
// A data folder: a table of studies, images/, optional labels.csv and splits/ (one study id a line; they win over the table's
// split column). A folder of labelled images without reports needs no table: labels.csv lists its studies.
#include <map>
#include <set>

#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/data/clean_text.hpp"
#include "hybridmed/data/csv.hpp"
#include "hybridmed/data/labels.hpp"

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
  bool needs_text = true;          ///< only studies with findings or impression; false for what looks at images and labels alone
};

/// A row that was left out, and why.
struct Rejected {
  std::string study;
  std::size_t line;  ///< of the table; 0 for a study that only a split names
  std::string reason;

  std::string place() const { return (line > 0 ? "line " + std::to_string(line) + ", " : "") + "study '" + study + "'"; }
};

/// A study in two splits.
struct Leak {
  std::string study, first, second;
};

/// The names between separators (any of these characters), without blanks around them and without empty ones.
inline std::vector<std::string> split_names(const std::string& s, std::string_view separators) {
  constexpr std::string_view blanks = " \t\r";
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= s.size();) {
    const auto end = (std::min)(s.find_first_of(separators, at), s.size());
    const std::string_view name = std::string_view(s).substr(at, end - at);
    const auto first = name.find_first_not_of(blanks);
    if (first != name.npos) out.emplace_back(name.substr(first, name.find_last_not_of(blanks) + 1 - first));
    at = end + 1;
  }
  return out;
}

class DataFolder {
 public:
  explicit DataFolder(std::filesystem::path root, StudyColumns columns = {}, const std::string& table = "studies.csv") : root_(std::move(root)), columns_(std::move(columns)) {
    std::error_code ec;
    if (!std::filesystem::is_directory(root_, ec)) fail("data", "folder", root_.string() + ": no such folder");
    if (!std::filesystem::exists(root_ / table, ec) && std::filesystem::exists(root_ / "labels.csv", ec)) {
      table_ = studies_of_labels();
    } else {
      table_ = read_csv(root_ / table);
      for (const auto* c : {&columns_.study, &columns_.images}) table_.column(*c);
    }
    if (std::filesystem::is_directory(root_ / "splits", ec))
      for (const auto& f : std::filesystem::directory_iterator(root_ / "splits"))
        if (f.path().extension() == ".txt") read_split(f.path());
  }

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path image_path(const std::string& name) const { return root_ / "images" / name; }
  const Table& table() const { return table_; }

  /// Does the table hold reports: both columns?
  bool has_texts() const { return absent_texts().empty(); }
  /// The columns of texts that the table lacks; both in a folder of labelled images.
  std::vector<std::string> absent_texts() const {
    std::vector<std::string> out;
    for (const auto* c : {&columns_.findings, &columns_.impression})
      if (table_.find(*c) == Table::npos) out.push_back(*c);
    return out;
  }
  /// Does the folder say which studies belong to which split: by splits/*.txt, else by the split column?
  bool has_splits() const { return !splits_.empty() || table_.find(columns_.split) != Table::npos; }
  /// The splits that the folder names.
  std::set<std::string> splits() const {
    std::set<std::string> out;
    for (const auto& [name, ids] : splits_) out.insert(name);
    const std::size_t at = table_.find(columns_.split);
    if (splits_.empty() && at != Table::npos)
      for (const auto& row : table_.rows)
        if (!row[at].empty()) out.insert(row[at]);
    return out;
  }
  bool has_split(const std::string& name) const {
    if (!splits_.empty()) return splits_.count(name) > 0;
    const std::size_t at = table_.find(columns_.split);
    return at != Table::npos && std::any_of(table_.rows.begin(), table_.rows.end(), [&](const auto& row) { return row[at] == name; });
  }

  /// The studies of a selection, in table order; all of them where neither splits/ nor a split column says which. What was left out goes to `rejected`, if given.
  std::vector<Study> select(const StudySelection& s, std::vector<Rejected>* rejected = nullptr) const {
    const std::size_t id = table_.column(columns_.study), images = table_.column(columns_.images), split = table_.find(columns_.split);
    const bool texts = s.needs_text || s.needs_both;
    const std::size_t findings = texts ? table_.column(columns_.findings) : table_.find(columns_.findings);
    const std::size_t impression = texts ? table_.column(columns_.impression) : table_.find(columns_.impression);
    if (!s.split.empty() && has_splits() && !has_split(s.split)) {
      std::string there;
      for (const auto& name : splits()) there += (there.empty() ? "" : ", ") + name;
      fail("data", "folder", splits_.empty() ? table_.source + ": no row of split '" + s.split + "'" : (root_ / "splits").string() + ": no split named '" + s.split + "'",
           there.empty() ? std::string() : "its splits are " + there.substr(0, 200) + "; training takes other names with --set split_train=NAME and split_valid=NAME");
    }
    std::vector<Study> out;
    std::set<std::string> seen;  // the ids of the split's rows
    for (std::size_t r = 0; r < table_.rows.size(); ++r) {
      if (r % 256 == 0) check_interrupt("the texts are cleaned");
      const auto& row = table_.rows[r];
      if (!s.split.empty()) {
        if (!splits_.empty() ? !splits_.at(s.split).count(row[id]) : split != Table::npos && row[split] != s.split) continue;
      }
      const auto text = [&](std::size_t column) { return column == Table::npos ? std::string() : row[column]; };
      Study study{row[id], split_names(row[images], ";"), text(findings), text(impression), {}, {}, table_.lines[r]};
      study.findings = clean_text(study.raw_findings, s.cleaning), study.impression = clean_text(study.raw_impression, s.cleaning);
      const auto leave_out = [&](const std::string& why) {
        if (rejected) rejected->push_back({study.id, study.line, why});
      };
      if (study.id.empty()) leave_out("no study id");
      else if (!seen.insert(study.id).second) leave_out("the study id stands twice");
      else if (s.needs_image && study.images.empty()) leave_out("no image");
      else if (s.needs_both && (study.findings.empty() || study.impression.empty())) leave_out(study.findings.empty() ? "no findings" : "no impression");
      else if (s.needs_text && study.findings.empty() && study.impression.empty()) leave_out("neither findings nor impression");
      else out.push_back(std::move(study));
    }
    if (rejected && !s.split.empty() && !splits_.empty())
      for (const auto& listed : splits_.at(s.split))
        if (!seen.count(listed)) rejected->push_back({listed, 0, "listed in splits/" + s.split + ".txt, but not in the table"});
    return out;
  }

  /// Studies that belong to two splits: a figure on one of them is not held out from the other. By split list, else by the table.
  std::vector<Leak> leaks() const {
    std::vector<Leak> out;
    std::map<std::string, std::string> first;  // study -> split
    const auto meet = [&](const std::string& study, const std::string& split) {
      const auto [it, fresh] = first.emplace(study, split);
      if (!fresh && it->second != split) out.push_back({study, it->second, split});
    };
    for (const auto& [split, ids] : splits_)
      for (const auto& study : ids) meet(study, split);
    const std::size_t id = table_.column(columns_.study), split = table_.find(columns_.split);
    if (splits_.empty() && split != Table::npos)
      for (const auto& row : table_.rows) meet(row[id], row[split]);
    return out;
  }

  /// The labels of labels.csv; none where there is no such file.
  /// @throws Error where a study is listed twice with different values, unless `problems` is given, which then names it.
  Labels labels(std::vector<std::string>* problems = nullptr) const {
    const auto path = root_ / "labels.csv";
    std::error_code ec;
    if (!std::filesystem::exists(path, ec)) return {};
    return read_labels(read_csv(path), columns_.study, {columns_.split, columns_.images, columns_.findings, columns_.impression}, problems);
  }

 private:
  void read_split(const std::filesystem::path& path) {
    auto& ids = splits_[path.stem().string()];
    std::string text = io::read_text(path);
    io::check_text(text, "data", "splits", path.string());
    if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
    for (const auto& line : split_names(text, "\r\n")) ids.insert(line);
  }

  /// The rows of labels.csv as studies: the images are named by the images column, else by the study id with .png or .jpg.
  Table studies_of_labels() const {
    Table t = read_csv(root_ / "labels.csv");
    const std::size_t id = t.column(columns_.study);
    if (t.find(columns_.images) != Table::npos) return t;
    t.columns.push_back(columns_.images);
    for (auto& row : t.rows) {
      std::string name = row[id];
      std::error_code ec;
      for (const char* extension : {"", ".png", ".jpg", ".jpeg"})
        if (!row[id].empty() && std::filesystem::is_regular_file(image_path(row[id] + extension), ec)) {
          name = row[id] + extension;
          break;
        }
      row.push_back(name);
    }
    return t;
  }

  std::filesystem::path root_;
  StudyColumns columns_;
  Table table_;
  std::map<std::string, std::set<std::string>> splits_;
};

}  // namespace hybridmed::data
