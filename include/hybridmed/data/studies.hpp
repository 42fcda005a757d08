#pragma once
// A data folder: a table of studies, images/, optional labels.csv and splits/ (one study id a line;
// they win over the table's split column). A folder of labelled images without reports needs no
// table: labels.csv lists its studies.
#include <map>
#include <set>

#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/core/key.hpp"
#include "hybridmed/data/clean_text.hpp"
#include "hybridmed/data/csv.hpp"
#include "hybridmed/data/labels.hpp"

namespace hybridmed::data {

/// Names of the table's columns; the defaults are those of the IU X-Ray layout.
struct StudyColumns {
  std::string study = "study_id", split = "split", images = "frontal_images", findings = "findings",
              impression = "impression";
  std::string labels = {};  ///< a column of label names separated by '|' ("Cardiomegaly|Effusion");
                            ///< empty: labels have a column each
};

/// Where things are in a data folder, and how its tables are written. All of it can be set in a
/// configuration.
struct FolderOptions {
  StudyColumns columns = {};
  std::string table = "studies.csv", labels = "labels.csv", images = "images";
  TableFormat format = {};

  /// Calls f(Key, field) for every key, in declaration order.
  template <class F>
  void visit(F&& f) {
    constexpr Keys tables{"Tables of the data folder"};
    f(tables("table", not_empty(), "table of studies"), table);
    f(tables("labels", not_empty(), "table of labels"), labels);
    f(tables("image_folder", not_empty(), "folder of the pictures; '.' is the data folder itself"),
      images);
    f(tables("delimiter", not_empty(), "auto, comma, semicolon, tab, or one character"),
      format.delimiter);
    f(tables("encoding", not_empty(),
             "auto (UTF-8, or UTF-16 by its mark), or a name such as latin-1 or gb18030"),
      format.encoding);
    f(tables("column_study", not_empty(), "column of study ids"), columns.study);
    f(tables("column_split", not_empty(), "column of splits"), columns.split);
    f(tables("column_images", not_empty(), "column of pictures, separated by ';'"), columns.images);
    f(tables("column_findings", not_empty(), "column of findings"), columns.findings);
    f(tables("column_impression", not_empty(), "column of impressions"), columns.impression);
    f(tables("column_labels", anything(),
             "column of label names separated by '|'; empty: labels have a column each"),
      columns.labels);
  }
  /// @throws Error for a delimiter or an encoding that makes no sense.
  void validate() const {
    check_keys(*this, "data", "folder");
    delimiter_of(format.delimiter);
    check_encoding(format.encoding);
    const std::set<std::string> texts{detail::lower(columns.findings),
                                      detail::lower(columns.impression),
                                      detail::lower(columns.images), detail::lower(columns.split)};
    if (texts.size() < 4)
      fail("data", "folder",
           "column_split, column_images, column_findings, column_impression: two of them name the "
           "same column");
  }
};

struct Study {
  std::string id;
  std::vector<std::string> images;           // file names under images/
  std::string raw_findings, raw_impression;  // as written
  std::string findings, impression;          // cleaned; empty where absent
  std::size_t line = 0;                      // in the table
  std::string split = {};  // of its row (see split_key); empty where the table says none
};

/// A study held in memory. `images`: names that the data set's reader of pictures understands.
inline Study make_study(std::string id, std::vector<std::string> images, std::string findings,
                        std::string impression, Cleaning cleaning = Cleaning::standard) {
  Study s{std::move(id), std::move(images), std::move(findings), std::move(impression), {}, {}};
  s.findings = clean_text(s.raw_findings, cleaning);
  s.impression = clean_text(s.raw_impression, cleaning);
  return s;
}

/// Which studies a run uses.
struct StudySelection {
  std::string split = {};   ///< empty: all
  bool needs_both = false;  ///< only studies with findings and impression
  bool needs_image = true;
  Cleaning cleaning = Cleaning::standard;
  bool needs_text = true;  ///< only studies with findings or impression; false for what looks at
                           ///< images and labels alone
};

/// A row that was left out, and why.
struct Rejected {
  std::string study;
  std::size_t line;  ///< of the table; 0 for a study that only a split names
  std::string reason;

  std::string place() const {
    return (line > 0 ? "line " + std::to_string(line) + ", " : "") + "study '" +
           printable(study.substr(0, 80)) + "'";
  }
};

/// A study in two splits.
struct Leak {
  std::string study, first, second;
};

/// The names between separators (any of these characters), without blanks around them and without
/// empty ones.
inline std::vector<std::string> split_names(const std::string& s, std::string_view separators) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= s.size();) {
    const auto end = (std::min)(s.find_first_of(separators, at), s.size());
    const std::string_view name = detail::trimmed(std::string_view(s).substr(at, end - at));
    if (!name.empty()) out.emplace_back(name);
    at = end + 1;
  }
  return out;
}

/// A split's name as it is compared: case and blanks around it make no difference.
inline std::string split_key(std::string_view name) { return detail::lower(detail::trimmed(name)); }

class DataFolder {
 public:
  explicit DataFolder(std::filesystem::path root, FolderOptions options = {})
      : root_(std::move(root)), options_(std::move(options)) {
    std::error_code ec;
    if (!std::filesystem::is_directory(root_, ec))
      fail("data", "folder", root_.string() + ": no such folder");
    options_.validate();
    if (!std::filesystem::exists(root_ / options_.table, ec) &&
        std::filesystem::exists(root_ / options_.labels, ec)) {
      table_ = studies_of_labels();
    } else if (!std::filesystem::exists(root_ / options_.table, ec)) {
      fail("data", "folder",
           (root_ / options_.table).string() + ": No such file; there is no " + options_.labels +
               " either",
           "--set table=FILE names the table of studies, --set labels=FILE that of the labels");
    } else {
      table_ = read_csv(root_ / options_.table, options_.format);
      trim_cells(table_, table_.column(options_.columns.study, "column_study"));
      table_.column(options_.columns.images, "column_images");
      if (options_.columns.split != StudyColumns().split)
        table_.column(options_.columns.split, "column_split");  // asked for by name
    }
    read_splits();
  }

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path image_path(const std::string& name) const {
    return root_ / options_.images / name;
  }
  const FolderOptions& options() const { return options_; }
  /// @throws Error where the folder of pictures is missing: it names the key and the folders that
  /// are there.
  void need_images() const {
    std::error_code ec;
    const auto folder = root_ / options_.images;
    if (std::filesystem::is_directory(folder, ec)) return;
    std::string there;
    for (const auto& e : std::filesystem::directory_iterator(root_, ec))
      if (e.is_directory(ec) && e.path().filename() != "splits")
        there += (there.empty() ? "" : ", ") + e.path().filename().string();
    fail("data", "folder",
         folder.string() + ": no such folder; it should hold the pictures" +
             (there.empty() ? "" : "; there are " + there.substr(0, 200)),
         "--set image_folder=NAME names another ('.' is the data folder itself)");
  }
  const Table& table() const { return table_; }

  /// Does the table hold reports: both columns?
  bool has_texts() const { return absent_texts().empty(); }
  /// The columns of texts that the table lacks; both in a folder of labelled images.
  std::vector<std::string> absent_texts() const {
    std::vector<std::string> out;
    for (const auto* c : {&options_.columns.findings, &options_.columns.impression})
      if (table_.find(*c) == Table::npos) out.push_back(*c);
    return out;
  }
  /// Does the folder say which studies belong to which split: by splits/*.txt, else by the split
  /// column?
  bool has_splits() const {
    return !splits_.empty() || table_.find(options_.columns.split) != Table::npos;
  }
  /// The splits that the folder names (see split_key).
  std::set<std::string> splits() const {
    std::set<std::string> out;
    for (const auto& [name, spellings] : split_spellings()) out.insert(name);
    return out;
  }
  /// The splits, each with the ways in which it is written.
  std::map<std::string, std::set<std::string>> split_spellings() const {
    if (!splits_.empty()) return spellings_;
    std::map<std::string, std::set<std::string>> out;
    const std::size_t at = table_.find(options_.columns.split);
    for (const auto& row : table_.rows)
      if (at != Table::npos && !split_key(row[at]).empty()) out[split_key(row[at])].insert(row[at]);
    return out;
  }
  bool has_split(const std::string& name) const { return splits().count(split_key(name)) > 0; }
  /// The splits of a study of the table: by splits/*.txt, else by its row's split column.
  std::set<std::string> splits_of(const Study& s) const {
    std::set<std::string> out;
    for (const auto& [name, ids] : splits_)
      if (ids.count(s.id)) out.insert(name);
    if (splits_.empty() && !s.split.empty()) out.insert(s.split);
    return out;
  }
  /// Ids that a split lists and the table lacks.
  std::vector<Rejected> listed_without_row() const {
    std::set<std::string> there;
    const std::size_t id = table_.column(options_.columns.study);
    for (const auto& row : table_.rows) there.insert(row[id]);
    std::vector<Rejected> out;
    for (const auto& [name, ids] : splits_)
      for (const auto& listed : ids)
        if (!there.count(listed)) out.push_back(not_in_table(listed, name));
    return out;
  }

  /// The studies of a selection, in table order; all of them where neither splits/ nor a split
  /// column says which. What was left out goes to `rejected`, if given.
  std::vector<Study> select(const StudySelection& s,
                            std::vector<Rejected>* rejected = nullptr) const {
    const std::size_t id = table_.column(options_.columns.study),
                      images = table_.column(options_.columns.images),
                      split = table_.find(options_.columns.split);
    const bool texts = s.needs_text || s.needs_both;
    const std::size_t findings = texts ? table_.column(options_.columns.findings, "column_findings")
                                       : table_.find(options_.columns.findings);
    const std::size_t impression =
        texts ? table_.column(options_.columns.impression, "column_impression")
              : table_.find(options_.columns.impression);
    const std::string wanted = split_key(s.split);
    if (!s.split.empty() && has_splits() && !has_split(s.split)) {
      std::string there;
      const std::set<std::string> all = splits();
      const std::string question = did_you_mean(s.split, {all.begin(), all.end()});
      for (const auto& name : all) there += (there.empty() ? "" : ", ") + name;
      fail("data", "folder",
           splits_.empty() ? table_.source + ": no row of split '" + s.split + "'"
                           : (root_ / "splits").string() + ": no split named '" + s.split + "'",
           there.empty() ? std::string()
                         : question + (question.empty() ? "" : " ") + "its splits are " +
                               there.substr(0, 200) +
                               "; training takes other names with --set split_train=NAME and --set "
                               "split_valid=NAME");
    }
    std::vector<Study> out;
    std::set<std::string> seen;  // the ids of the split's rows
    for (std::size_t r = 0; r < table_.rows.size(); ++r) {
      if (r % 256 == 0) check_interrupt("the texts are cleaned");
      const auto& row = table_.rows[r];
      if (!s.split.empty()) {
        if (!splits_.empty() ? !splits_.at(wanted).count(row[id])
                             : split != Table::npos && split_key(row[split]) != wanted)
          continue;
      }
      const auto text = [&](std::size_t column) {
        return column == Table::npos ? std::string() : row[column];
      };
      Study study = make_study(row[id], split_names(row[images], ";"), text(findings),
                               text(impression), s.cleaning);
      study.line = table_.lines[r];
      study.split = split_key(text(split));
      const auto leave_out = [&](const std::string& why) {
        if (rejected) rejected->push_back({study.id, study.line, why});
      };
      if (study.id.empty())
        leave_out("no study id");
      else if (!seen.insert(study.id).second)
        leave_out("the study id stands twice");
      else if (s.needs_image && study.images.empty())
        leave_out("no image");
      else if (s.needs_both && (study.findings.empty() || study.impression.empty()))
        leave_out(study.findings.empty() ? "no findings" : "no impression");
      else if (s.needs_text && study.findings.empty() && study.impression.empty())
        leave_out("neither findings nor impression");
      else
        out.push_back(std::move(study));
    }
    if (rejected && !s.split.empty() && !splits_.empty())
      for (const auto& listed : splits_.at(wanted))
        if (!seen.count(listed)) rejected->push_back(not_in_table(listed, wanted));
    return out;
  }

  /// Studies that belong to two splits: a figure on one of them is not held out from the other. By
  /// split list, else by the table.
  std::vector<Leak> leaks() const {
    std::vector<Leak> out;
    std::map<std::string, std::string> first;  // study -> split
    const auto meet = [&](const std::string& study, const std::string& split) {
      const auto [it, fresh] = first.emplace(study, split);
      if (!fresh && it->second != split) out.push_back({study, it->second, split});
    };
    for (const auto& [split, ids] : splits_)
      for (const auto& study : ids) meet(study, split);
    const std::size_t id = table_.column(options_.columns.study),
                      split = table_.find(options_.columns.split);
    if (splits_.empty() && split != Table::npos)
      for (const auto& row : table_.rows) meet(row[id], split_key(row[split]));
    return out;
  }

  /// The labels of labels.csv; none where there is no such file.
  /// @throws Error where a study is listed twice with different values, unless `problems` is given,
  /// which then names it.
  Labels labels(std::vector<std::string>* problems = nullptr) const {
    std::error_code ec;
    if (!std::filesystem::exists(root_ / options_.labels, ec)) {
      if (options_.labels == FolderOptions().labels) return {};
      fail("data", "labels",
           (root_ / options_.labels).string() + ": No such file; the key 'labels' names it");
    }
    return read_labels(labels_table(), options_.columns.study,
                       {options_.columns.split, options_.columns.images, options_.columns.findings,
                        options_.columns.impression},
                       problems);
  }

 private:
  Rejected not_in_table(const std::string& id, const std::string& split) const {
    return {id, 0,
            "listed in splits/" + *spellings_.at(split).begin() + ".txt, but not in the table"};
  }

  static void trim_cells(Table& t, std::size_t column) {
    for (auto& row : t.rows) row[column] = detail::trimmed(row[column]);
  }

  void read_splits() {
    std::error_code ec;
    const auto folder = root_ / "splits";
    if (!std::filesystem::exists(std::filesystem::symlink_status(folder, ec))) return;
    if (!std::filesystem::is_directory(folder, ec))
      fail("data", "splits", folder.string() + ": is no folder, or a link that leads nowhere",
           "it holds a file NAME.txt for each split; without it the table's column counts");
    std::string others;
    std::filesystem::directory_iterator files(folder, ec);
    if (ec) fail("data", "splits", folder.string() + ": " + ec.message());
    for (const auto& f : files) {
      const std::string name = f.path().filename().string();
      if (name.starts_with(".") || name == "README") continue;
      if (detail::lower(f.path().extension().string()) == ".txt")
        read_split(f.path());
      else
        others += (others.empty() ? "" : ", ") + name;
    }
    if (splits_.empty() && !others.empty())
      fail("data", "splits",
           (root_ / "splits").string() + ": no .txt file, but " + others.substr(0, 200),
           "a split is a file NAME.txt with a study id a line");
  }

  void read_split(const std::filesystem::path& path) {
    const std::string name = path.stem().string();
    auto& ids = splits_[split_key(name)];
    spellings_[split_key(name)].insert(name);
    const std::string bytes = io::read_text(path);
    for (const auto& line :
         split_names(decode_text(bytes, format_beside(bytes).encoding, path.string()), "\r\n"))
      ids.insert(line);
  }

  /// How a file beside the table is read: what delimiter and encoding say is meant for the table,
  /// so this one's own delimiter is looked for, and the encoding counts where the file is no UTF-8.
  TableFormat format_beside(std::string_view bytes) const {
    const bool plain = is_utf8(bytes) && bytes.find('\0') == bytes.npos;
    return {"auto", plain ? std::string(auto_encoding) : options_.format.encoding};
  }

  /// labels.csv with a column of study ids and a column a label. Without a study column its images
  /// name the studies; a column of label names becomes columns of 0 and 1.
  Table labels_table() const {
    const auto path = root_ / options_.labels;
    const bool alone = table_.columns.empty();  // there is no other table
    const std::string bytes = io::read_text(path);
    Table t = parse_csv(bytes, path.string(), alone ? options_.format : format_beside(bytes));
    if (!options_.columns.labels.empty())
      t = spread_label_names(std::move(t), options_.columns.labels);
    if (const std::size_t id = t.find(options_.columns.study); id != Table::npos) {
      trim_cells(t, id);
      return t;
    }
    const std::size_t images = t.find(options_.columns.images);
    if (images == Table::npos) {
      fail("data", "table",
           t.source + ": neither a column '" + options_.columns.study + "' nor '" +
               options_.columns.images + "'; its columns are " + quoted_list(t.columns),
           "--set column_study=NAME names the column of study ids, or --set column_images=NAME "
           "that of the pictures, which then name the studies");
    }
    std::map<std::string, std::string> owner;  // picture -> study of the table
    if (!alone) {
      const std::size_t id = table_.column(options_.columns.study),
                        pictures = table_.column(options_.columns.images);
      for (const auto& row : table_.rows)
        for (const auto& name : split_names(row[pictures], ";")) owner.emplace(name, row[id]);
    }
    t.columns.push_back(options_.columns.study);
    for (auto& row : t.rows) {
      const auto names = split_names(row[images], ";");
      const std::string name = names.empty() ? std::string() : names.front();
      const auto it = owner.find(name);
      row.push_back(it == owner.end() ? name : it->second);
    }
    return t;
  }

  /// The rows of labels.csv as studies: the images are named by the images column, else by the
  /// study id with .png or .jpg.
  Table studies_of_labels() const {
    Table t = labels_table();
    const std::size_t id = t.column(options_.columns.study);
    if (t.find(options_.columns.images) != Table::npos) return t;
    t.columns.push_back(options_.columns.images);
    for (auto& row : t.rows) {
      std::string name = row[id];
      std::error_code ec;
      for (const char* extension : {"", ".png", ".jpg", ".jpeg"})
        if (!row[id].empty() &&
            std::filesystem::is_regular_file(image_path(row[id] + extension), ec)) {
          name = row[id] + extension;
          break;
        }
      row.push_back(name);
    }
    return t;
  }

  std::filesystem::path root_;
  FolderOptions options_;
  Table table_;
  std::map<std::string, std::set<std::string>> splits_,
      spellings_;  // by split_key: studies; file names
};

}  // namespace hybridmed::data
