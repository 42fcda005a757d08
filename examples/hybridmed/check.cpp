// What a data folder holds, and what is wrong with it.
#include <algorithm>
#include <iostream>
#include <tuple>

#include "commands.hpp"
#include "hybridmed/metrics/text.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/task/pointing.hpp"
#include "hybridmed/train/console.hpp"
#include "hybridmed/train/data_report.hpp"
#include "hybridmed/train/run_config.hpp"
#include "hybridmed/train/trainer.hpp"

namespace hybridmed::app {

namespace fs = std::filesystem;

namespace {

void row(const std::string& title, const std::string& text) {
  std::cout << title << std::string(title.size() < 20 ? 21 - title.size() : 1, ' ') << text << "\n";
}
void row(const std::string& title, std::size_t n) { row(title, std::to_string(n)); }

/// At most `most` sentences, a line each.
void list(const std::vector<std::string>& sentences, std::size_t most = 50) {
  for (std::size_t i = 0; i < (std::min)(most, sentences.size()); ++i)
    std::cout << "  " << sentences[i] << "\n";
  if (sentences.size() > most) std::cout << "  ... and " << sentences.size() - most << " more\n";
}

std::string quantiles(std::vector<std::size_t> values) {
  std::sort(values.begin(), values.end());
  std::string out;
  for (int q : {0, 5, 25, 50, 75, 95, 99, 100})
    out += (out.empty() ? "p" : "  p") + std::to_string(q) + " " +
           std::to_string(values[(values.size() - 1) * static_cast<std::size_t>(q) / 100]);
  return out;
}

/// What makes a picture suspicious besides what its reader notes.
std::vector<std::string> odd_in(const data::Image& image) {
  std::vector<std::string> out = data::size_notes(image);
  for (auto& note : data::contrast_notes(image)) out.push_back(std::move(note));
  return out;
}

/// Does a text stand for "there is none"?
bool is_placeholder(const std::string& text) {
  static const std::set<std::string> words{"null", "n/a",     "na",   "n.a.", "nan", "none",
                                           "nil",  "unknown", "#n/a", "leer", "k.a."};
  return words.count(data::detail::lower(data::detail::trimmed(text))) > 0;
}

/// Does a text hold UTF-8 that somebody read as Latin-1 and wrote as UTF-8 again: a capital A with
/// tilde or circumflex before a letter of the second half?
bool is_garbled(const std::string& text) {
  for (std::size_t at = 0; at + 3 < text.size(); ++at)
    if (text[at] == '\xC3' && (text[at + 1] == '\x83' || text[at + 1] == '\x82') &&
        text[at + 2] == '\xC2')
      return true;
  return false;
}

class FolderCheck {
 public:
  /// `trains`: is it the configuration of a training?
  FolderCheck(const train::RunConfig& config, bool trains)
      : config_(config), trains_(trains), folder_(config.data, config.folder) {
    all_ = config.selection("");
    all_.needs_both = all_.needs_text = false;  // missing sections are counted
    studies_ = folder_.select(all_, &rejected_);
    for (auto& r : folder_.listed_without_row()) rejected_.push_back(std::move(r));
  }

  int run() {
    read_pictures();
    say_studies();
    say_texts();
    say_splits();
    say_labels();
    say_boxes();
    row("suspicious pictures", suspicious_.size());
    list(suspicious_);
    say_unused_pictures();
    std::sort(rejected_.begin(), rejected_.end(), [](const auto& a, const auto& b) {
      return std::tie(a.line, a.study, a.reason) < std::tie(b.line, b.study, b.reason);
    });
    std::vector<std::string> lines;
    for (const auto& r : rejected_) lines.push_back(r.place() + ": " + r.reason);
    row("rejected", lines.size());
    list(lines);
    if (trains_ && refused_.empty() && !no_training_) say_training();
    std::string why;
    for (const auto& w : refused_) why += (why.empty() ? "" : ", ") + w;
    row("verdict",
        refused_.empty()
            ? (no_training_
                   ? "nothing that an evaluation refuses; pretrain would refuse it, see above"
                   : "nothing that later commands refuse")
            : "not as it should be: " + why);
    return refused_.empty() ? 0 : 1;
  }

 private:
  void refuse(const std::string& what) {
    if (std::find(refused_.begin(), refused_.end(), what) == refused_.end())
      refused_.push_back(what);
  }

  /// Prepares the training of this configuration, all but the model.
  void say_training() {
    train::RunConfig config = config_;
    try {
      const train::Preparation data(config, {});
      const auto stages = system::stages_of_system(config.system, config.model);
      train::check_stages(config, stages);
      train::check_losses(config, stages, data.train, data.valid);
      config.model.validate();
      row("training", config.system + ", " + std::to_string(data.batches()) + " batches of " +
                          std::to_string(config.batch) + " an epoch");
      auto notes = train::unknown_words(data.train, data.vocabulary.unk);
      for (auto& s : train::lonely_losses(config, stages, data.train, data.valid))
        notes.push_back(std::move(s));
      list(notes);
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& e) {
      row("training", e.reason() + (e.hint().empty() ? "" : "; " + e.hint()));
      no_training_ = true;
    }
  }
  void read_pictures() {
    try {
      folder_.need_images();
    } catch (const Error& e) {
      row("images", e.reason() + "; " + e.hint());
      refuse("pictures that cannot be read");
      return;
    }
    train::ProgressLine line;
    std::size_t done = 0;
    for (const auto& s : studies_) {
      check_interrupt("the pictures are read");
      for (const auto& name : s.images) try {
          named_.insert(name);
          const data::Image image = data::read_image(folder_.image_path(name));
          const auto shape =
              std::to_string(image.height()) + " " + std::to_string(image.width()) + " ";
          pictures_[train::text_hash(shape +
                                     std::string(reinterpret_cast<const char*>(image.pixels.data()),
                                                 image.pixels.size() * sizeof(std::uint16_t)))]
              .push_back({name, &s});
          enlarged_ += 2 * (std::max)(image.width(), image.height()) <
                       config_.dataset().transform.image_size;
          for (const auto& note : image.notes)
            suspicious_.push_back(data::printable(name) + ": " + note);
          for (const auto& note : odd_in(image))
            suspicious_.push_back(data::printable(name) + ": " + note);
        } catch (const Error& e) {
          rejected_.push_back({s.id, s.line, data::printable(e.what())});
          refuse("pictures that cannot be read");
        }
      ++done;
      line.update("reading", static_cast<double>(done), static_cast<double>(studies_.size()),
                  "studies", "", done == studies_.size());
    }
    line.finish();
    for (const auto& [hash, found] : pictures_) {
      copies_ += found.size() - 1;
      if (found.size() == 1) continue;
      std::vector<std::string> others;
      std::set<std::string> splits;
      for (const auto& p : found) {
        others.push_back(p.name + " (study '" + p.study->id + "')");
        splits.merge(folder_.splits_of(*p.study));
      }
      const std::string first = data::printable(others.front());
      others.erase(others.begin());
      suspicious_.push_back(first + ": the same pixels as " + train::first_of(others));
      if (splits.size() > 1)
        shared_.push_back("splits " + train::first_of(splits) + " share a picture: " + first +
                          " and " + train::first_of(others));
    }
  }

  void say_studies() {
    const auto& table = folder_.table();
    const bool own = fs::exists(fs::path(config_.data) / config_.folder.table);
    row("table", table.source + ", separated by " + data::delimiter_name(table.delimiter));
    if (!folder_.has_texts())
      row("", (own ? "it has no column " + train::first_of(folder_.absent_texts()) +
                         ", so no reports: its columns are " + train::first_of(table.columns)
                   : "there is no " + config_.folder.table +
                         ", so its rows are the studies, without reports") +
                  "; the names of table and columns can be set in --config or with --set");
    std::size_t images = 0, several = 0;
    for (const auto& s : studies_) {
      images += s.images.size();
      several += s.images.size() > 1;
    }
    row("studies",
        std::to_string(studies_.size()) + " of " + std::to_string(table.rows.size()) + " rows");
    row("images",
        std::to_string(images) + " (" + std::to_string(several) + " studies have several)");
    row("duplicate images", copies_);
    if (enlarged_ > 0)
      row("small images", std::to_string(enlarged_) +
                              ", enlarged to more than twice their size: image_size is " +
                              std::to_string(config_.model.image_size));
  }

  void say_texts() {
    std::size_t findings = 0, impression = 0, both = 0;
    std::vector<std::string> without, same, placeholders, garbled;
    std::map<std::string, std::size_t> f_texts, i_texts;
    std::vector<std::size_t> f_words, i_words;
    for (const auto& s : studies_) {
      findings += !s.findings.empty();
      impression += !s.impression.empty();
      both += !s.findings.empty() && !s.impression.empty();
      if (s.findings.empty() && s.impression.empty()) without.push_back(s.id);
      if (!s.findings.empty() && s.findings == s.impression) same.push_back(s.id);
      if (is_placeholder(s.raw_findings) || is_placeholder(s.raw_impression))
        placeholders.push_back(s.id);
      if (is_garbled(s.raw_findings) || is_garbled(s.raw_impression)) garbled.push_back(s.id);
      if (!s.findings.empty()) {
        ++f_texts[s.findings];
        f_words.push_back(metrics::split_words(s.findings).size());
      }
      if (!s.impression.empty()) {
        ++i_texts[s.impression];
        i_words.push_back(metrics::split_words(s.impression).size());
      }
    }
    row("findings",
        std::to_string(findings) + ", missing in " + std::to_string(studies_.size() - findings));
    row("impression", std::to_string(impression) + ", missing in " +
                          std::to_string(studies_.size() - impression));
    row("both sections", both);
    row("without texts", without.size());
    row("distinct findings", f_texts.size());
    row("distinct impressions", i_texts.size());
    if (!f_words.empty()) row("findings words", quantiles(f_words));
    if (!i_words.empty()) row("impression words", quantiles(i_words));
    if (folder_.has_texts() && !without.empty())
      row("texts", std::to_string(without.size()) +
                       " studies have neither findings nor impression after cleaning: " +
                       train::first_of(without));
    if (!same.empty())
      row("texts", "findings and impression are the same text in " + std::to_string(same.size()) +
                       " studies: " + train::first_of(same));
    if (!placeholders.empty())
      row("texts", std::to_string(placeholders.size()) +
                       " studies have a text that stands for none, such as 'n/a' or 'null': " +
                       train::first_of(placeholders));
    if (!garbled.empty())
      row("texts", std::to_string(garbled.size()) +
                       " studies have letters that were decoded wrongly on their way here, such as "
                       "'\xC3\x83\xC2\xBC' for '\xC3\xBC': " +
                       train::first_of(garbled));
    const auto median = [](std::vector<std::size_t> v) {
      std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
      return v[v.size() / 2];
    };
    if (!f_words.empty() && !i_words.empty() && median(i_words) > median(f_words))
      row("texts", "impressions are longer than findings: are the columns exchanged?");
    for (const auto& sentence : train::lost_letters(studies_, all_.cleaning))
      row("texts", sentence);
    say_cut_texts();
  }

  /// Counts with the vocabulary that pretrain would learn, or that vocab_file holds.
  void say_cut_texts() {
    const bool any = std::any_of(studies_.begin(), studies_.end(), [](const auto& s) {
      return !s.findings.empty() || !s.impression.empty();
    });
    if (!any) return;
    std::vector<data::Study> training;
    for (const auto& s : studies_)
      if (!folder_.has_splits() || folder_.splits_of(s).count(data::split_key(config_.split_train)))
        training.push_back(s);
    try {
      const auto vocabulary =
          config_.vocab_file.empty()
              ? train::learned_vocabulary(training.empty() ? studies_ : training, config_)
              : data::Tokenizer::read(config_.vocab_file);
      const data::Dataset d(folder_, studies_, vocabulary, config_.dataset());
      for (const auto& sentence : train::cut_texts(d)) row("texts", sentence);
      if (d.cut_findings() + d.cut_impression() == 0)
        row("texts", "none is cut to t_findings = " + std::to_string(d.options().t_findings) +
                         " or t_impression = " + std::to_string(d.options().t_impression) +
                         " tokens");
    } catch (const Error& e) {
      row("texts",
          "cannot be cut into tokens: " + e.reason() + (e.hint().empty() ? "" : "; " + e.hint()));
    }
  }

  void say_splits() {
    if (!folder_.has_splits()) row("splits", "none");
    std::map<std::string, std::size_t> counts;
    std::vector<std::string> in_none;
    for (const auto& s : studies_) {
      const auto splits = folder_.splits_of(s);
      for (const auto& split : splits) ++counts[split];
      if (splits.empty()) in_none.push_back(s.id);
    }
    for (const auto& [split, spellings] : folder_.split_spellings()) {
      const bool plain = spellings.size() == 1 && *spellings.begin() == split;
      std::string written;
      for (const auto& s : spellings)
        written += (written.empty() ? "'" : ", '") + data::printable(s) + "'";
      row("split " + split,
          std::to_string(counts[split]) +
              (plain ? "" : " (written " + written + "; case and blanks make no difference)"));
    }
    for (const auto& [split, n] : counts)
      for (const auto& [other, more] : counts)
        if (n * 10 < more && io::edit_distance(split, other) <= 2)
          row("", "is '" + split + "' a slip for '" + other + "'?");
    say_patients();
    if (folder_.has_splits() && !in_none.empty())
      row("in no split", std::to_string(in_none.size()) + ": " + train::first_of(in_none));
    const auto [why_not, meant] = training_problem();
    if (!why_not.empty()) row("pretrain", "would refuse this folder: " + why_not);
    no_training_ = !why_not.empty();
    if (!why_not.empty() && meant) refuse("what pretrain refuses");
    std::vector<std::string> leaks = train::leakage(folder_);
    leaks.insert(leaks.end(), shared_.begin(), shared_.end());
    for (const auto& sentence : leaks) {
      row("leakage", sentence);
      refuse("leakage between splits");
    }
  }

  /// Patients of two splits, where the table says whose a study is.
  void say_patients() {
    const auto& table = folder_.table();
    std::size_t column = data::Table::npos;
    for (const char* name : {"patient_id", "patientid", "patient id", "subject_id", "patient"})
      if (column == data::Table::npos) column = table.find(name);
    if (column == data::Table::npos) return;
    std::map<std::size_t, std::string> patient_of;  // by line
    for (std::size_t r = 0; r < table.rows.size(); ++r)
      patient_of[table.lines[r]] = table.rows[r][column];
    std::map<std::string, std::set<std::string>> splits;
    for (const auto& s : studies_)
      if (const std::string& patient = patient_of[s.line]; !patient.empty())
        splits[patient].merge(folder_.splits_of(s));
    std::vector<std::string> in_several;
    for (const auto& [patient, of] : splits)
      if (of.size() > 1) in_several.push_back(patient);
    row("patients",
        std::to_string(splits.size()) + " by the column '" + table.columns[column] + "'");
    if (in_several.empty()) return;
    row("leakage", std::to_string(in_several.size()) +
                       " patients have studies in several splits: " + train::first_of(in_several));
    refuse("leakage between splits");
  }

  struct TrainingProblem {
    std::string why;     // empty: pretrain takes the folder
    bool meant = false;  // is the folder meant for training, and not for an evaluation alone?
  };
  /// Why pretrain would refuse the texts and splits of this folder.
  TrainingProblem training_problem() const {
    const auto splits = folder_.splits();
    const bool meant =
        folder_.has_texts() &&
        (splits.empty() ? folder_.has_splits() : splits != std::set<std::string>{"test"});
    if (!folder_.has_texts()) return {"it holds no reports", false};
    if (!folder_.has_splits()) return {"it has no splits", false};
    for (const auto& split : {config_.split_train, config_.split_valid}) try {
        std::vector<data::Rejected> rejected;
        if (folder_.select(config_.selection(split), &rejected).empty())
          return {
              "no study is left in split '" + split + "'" +
                  (rejected.empty() ? "" : "; " + rejected[0].place() + ": " + rejected[0].reason),
              meant};
      } catch (const Error& e) {
        return {e.reason() + (e.hint().empty() ? "" : "; " + e.hint()), meant};
      }
    return {};
  }

  void say_labels() {
    std::vector<std::string> problems;
    data::Labels labels;
    try {
      labels = folder_.labels(&problems);
    } catch (const Error& e) {
      row("labels", "cannot be read: " + e.reason() + (e.hint().empty() ? "" : "; " + e.hint()));
      refuse("labels");
      return;
    }
    if (labels.source.empty()) {
      row("labels", "none");
      return;
    }
    std::set<std::string> ids;
    for (const auto& s : studies_) ids.insert(s.id);
    std::vector<std::string> strangers, unlabelled;
    for (const auto& [study, values] : labels.of)
      if (!ids.count(study)) strangers.push_back(study);
    for (const auto& id : ids)
      if (!labels.of.count(id)) unlabelled.push_back(id);
    row("labels",
        std::to_string(labels.names.size()) + " columns; " +
            std::to_string(ids.size() - unlabelled.size()) + " of " +
            std::to_string(studies_.size()) + " studies have a row, " +
            std::to_string(strangers.size()) + " rows have no study" +
            (labels.left_out > 0 ? ", " + std::to_string(labels.left_out) + " rows are not indexed"
                                 : ""));
    if (!strangers.empty()) row("  rows, no study", train::first_of(strangers));
    if (!unlabelled.empty() && unlabelled.size() < ids.size())
      row("  studies, no row", train::first_of(unlabelled));
    for (std::size_t k = 0; k < labels.names.size(); ++k) {
      std::map<int, std::size_t> counts;
      for (const auto& id : ids)
        if (const auto it = labels.of.find(id); it != labels.of.end()) ++counts[it->second[k]];
      row("  " + data::printable(labels.names[k]),
          std::to_string(counts[1]) + " present, " + std::to_string(counts[0]) + " absent, " +
              std::to_string(counts[data::Labels::uncertain]) + " uncertain, " +
              std::to_string(counts[data::Labels::unknown]) + " unknown" +
              (counts[1] == 0 || counts[0] == 0 ? "; one value alone can measure nothing" : ""));
    }
    for (const auto& [name, value] : labels.other_columns)
      row("  " + data::printable(name), "no label column: it holds " + data::printable(value));
    if (!labels.list_column().empty())
      row("", "--set column_labels='" + labels.list_column() +
                  "' would read that column as names of labels separated by |");
    list(problems);
    for (const auto& name : labels.spoiled)
      std::cout << "  " << name
                << ": most of its cells are labels; an evaluation refuses it as it is\n";
    const bool nobody = unlabelled.size() == ids.size() && !ids.empty();
    if (labels.names.empty() || nobody)
      row("", std::string("an evaluation with prompts refuses it: ") +
                  (nobody ? "no study has a row" : "no column is a label"));
    if (labels.conflicts > 0 || !labels.spoiled.empty() || labels.names.empty() || nobody)
      refuse("labels");
  }

  /// Places of findings, which an evaluation reads.
  void say_boxes() {
    try {
      const auto boxes = task::boxes_of(folder_, data::cleaning_from(config_.cleaning));
      if (boxes.empty()) return;
      std::set<std::string> labels;
      std::vector<std::string> strangers;
      for (const auto& box : boxes) {
        labels.insert(box.label);
        if (!named_.count(box.image))
          strangers.push_back("line " + std::to_string(box.line) + ", '" +
                              data::printable(box.image) + "'");
      }
      row("boxes",
          std::to_string(boxes.size()) + " of " + std::to_string(labels.size()) + " labels");
      if (!strangers.empty())
        row("  boxes, no study",
            std::to_string(strangers.size()) + ": " + train::first_of(strangers));
    } catch (const Error& e) {
      row("boxes", e.reason());
      refuse("boxes");
    }
  }

  /// Pictures of the folder that no study names.
  void say_unused_pictures() {
    std::vector<std::string> unused;
    std::error_code ec;
    const fs::path root = folder_.image_path("");
    const bool separate = fs::exists(root, ec) && !fs::equivalent(root, folder_.root(), ec);
    if (separate) {
      for (fs::recursive_directory_iterator it(root, ec), end; !ec && it != end; it.increment(ec))
        if (it->is_regular_file(ec))
          if (const std::string name = fs::relative(it->path(), root, ec).generic_string();
              !named_.count(name))
            unused.push_back(name);
    }
    std::sort(unused.begin(), unused.end());
    if (!unused.empty())
      row("unused pictures",
          std::to_string(unused.size()) + " files that no study names: " + train::first_of(unused));
  }

  struct Place {
    std::string name;
    const data::Study* study;
  };
  train::RunConfig config_;
  bool trains_;
  data::DataFolder folder_;
  data::StudySelection all_;
  std::vector<data::Study> studies_;
  std::vector<data::Rejected> rejected_;
  std::vector<std::string> suspicious_, shared_, refused_;
  std::map<std::uint64_t, std::vector<Place>> pictures_;  // by the hash of their pixels
  std::set<std::string> named_;
  std::size_t copies_ = 0, enlarged_ = 0;
  bool no_training_ = false;
};

}  // namespace

int run_check(const CheckOptions& o) {
  train::RunConfig config;
  if (!o.tables.config.empty()) config = train::RunConfig::read(o.tables.config);
  io::override_keys(config, o.tables.overrides);
  if (!o.data.empty()) config.data = o.data;
  if (config.data.empty())
    fail("app", "check", "no data folder", "give --data FOLDER, or a configuration that names it");
  config.validate();
  return FolderCheck(config, !o.tables.config.empty()).run();
}

}  // namespace hybridmed::app
