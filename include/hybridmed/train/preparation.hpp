#pragma once
// What a run learns from: the studies of its two splits, a vocabulary, and their data sets.
#include <filesystem>
#include <set>

#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/train/data_report.hpp"
#include "hybridmed/train/run_config.hpp"

namespace hybridmed::train {

/// Hash of a cleaned text: an evaluation tells texts of the training split from novel ones without
/// keeping them.
inline std::uint64_t text_hash(std::string_view s) {
  std::uint64_t h = 14695981039346656037ull;  // FNV-1a
  for (char c : s) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return h;
}

/// Held where it is: the data sets look into the folder.
class Preparation {
 public:
  /// Reads the data folder and completes `config`: vocabulary size and token ids.
  /// `vocabulary_file`: of a run that goes on, or empty.
  /// @throws Error where the configuration, the folder or its splits cannot be trained on.
  Preparation(RunConfig& config, const std::filesystem::path& vocabulary_file)
      : config_(&config),
        folder(validated(config).data, config.folder),
        train_studies(selected(config.split_train)),
        vocabulary(chosen_vocabulary(vocabulary_file)),
        train(folder, train_studies, vocabulary, config.dataset()),
        valid(folder,
              config.overfit_batch ? std::vector<data::Study>() : selected(config.split_valid),
              vocabulary, config.dataset()) {
    check();
    hash = hash_of_data();
  }
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

 private:
  RunConfig* config_;
  std::vector<data::Rejected> left_out_;

 public:
  data::DataFolder folder;
  std::vector<data::Study> train_studies;
  data::Tokenizer vocabulary;
  data::Dataset train, valid;
  std::uint64_t hash = 0;  ///< of the studies and their texts, in order

  /// Steps of an epoch.
  std::int64_t batches() const {
    return config_->overfit_batch ? 1 : static_cast<std::int64_t>(train.size()) / config_->batch;
  }
  /// Rows of both splits that cannot be used.
  const std::vector<data::Rejected>& left_out() const { return left_out_; }
  /// Where such a row stands: "FILE, line 7".
  std::string where(const data::Rejected& r) const {
    return folder.table().source + ", " + r.place();
  }

 private:
  /// Before anything is built on it.
  static const RunConfig& validated(const RunConfig& c) {
    c.validate();
    return c;
  }
  /// The studies of a split. Training needs to know its splits: studies may not be in both.
  std::vector<data::Study> selected(const std::string& split) {
    const data::Table& table = folder.table();
    if (!folder.has_splits())
      fail("train", "data",
           table.source + ": the column '" + config_->folder.columns.split +
               "' is missing and there is no folder splits/",
           "training and validation need splits: add one of the two, or name the column with --set "
           "column_split=NAME");
    std::vector<data::Rejected> rejected;
    auto studies = folder.select(config_->selection(split), &rejected);
    need_images_of(studies);
    if (studies.empty()) {
      data::StudySelection untouched = config_->selection(split);
      untouched.needs_both = untouched.needs_text = false;
      const auto lost =
          lost_letters(folder.select(untouched), data::cleaning_from(config_->cleaning));
      fail("train", "data",
           config_->data + ": no study is left in split '" + split + "'" +
               (rejected.empty() ? "" : "; " + where(rejected[0]) + ": " + rejected[0].reason),
           lost.empty() ? std::string() : lost[0]);
    }
    left_out_.insert(left_out_.end(), rejected.begin(), rejected.end());
    return studies;
  }
  void need_images_of(const std::vector<data::Study>& studies) const {
    std::string first;
    std::size_t missing = 0;
    std::error_code ec;
    for (const auto& s : studies) {
      check_interrupt("the images are looked for");
      for (const auto& image : s.images)
        if (!std::filesystem::exists(folder.image_path(image), ec) && missing++ == 0)
          first = folder.image_path(image).string() +
                  ": No such file or directory; it belongs to study " + s.id + " (" +
                  folder.table().source + ", line " + std::to_string(s.line) + ")";
    }
    if (missing > 0)
      fail("train", "data",
           first +
               (missing > 1 ? "; " + std::to_string(missing) + " images are missing in all" : ""));
  }
  data::Tokenizer chosen_vocabulary(const std::filesystem::path& kept) {
    const bool goes_on = !kept.empty() && std::filesystem::exists(kept);
    const std::filesystem::path file = goes_on ? kept.string() : config_->vocab_file;
    const data::Tokenizer v =
        file.empty() ? learned_vocabulary(train_studies, *config_) : data::Tokenizer::read(file);
    auto& m = config_->model;
    m.vocab = static_cast<Index>(v.size());
    m.pad = v.pad;
    m.bos = v.bos;
    m.eos = v.eos;
    return v;
  }
  void check() const {
    const RunConfig& c = *config_;
    if (train.size() == 0)
      fail("train", "data",
           c.data + ": no study for training is left in split '" + c.split_train + "'");
    if (static_cast<std::int64_t>(train.size()) < c.batch)
      fail("train", "data",
           "a batch of " + std::to_string(c.batch) + " is larger than the " +
               std::to_string(train.size()) + " training studies",
           "--set batch=" + std::to_string(train.size()));
    std::set<std::string> trained;
    for (const auto& s : train_studies) trained.insert(s.id);
    for (const auto& s : valid.studies())
      if (trained.count(s.id))
        fail("train", "data",
             c.data + ": study " + s.id + " is in split '" + c.split_train + "' and in '" +
                 c.split_valid + "'",
             "a study may be in one of the two");
    if (!c.overfit_batch && valid.size() == 0)
      fail("train", "data", c.data + ": no study for validation in split '" + c.split_valid + "'");
  }
  /// Where the studies change, a resumed run is another run.
  std::uint64_t hash_of_data() const {
    std::uint64_t h = 0;
    for (const data::Dataset* d : {&train, &valid}) {
      h = text_hash(std::to_string(h) + " " + std::to_string(d->studies().size()));
      for (const auto& s : d->studies()) {
        std::string all = std::to_string(h) + "\n" + s.id + "\n" + s.findings + "\n" + s.impression;
        for (const auto& image : s.images) all += "\n" + image;
        h = text_hash(all);
      }
    }
    return h;
  }
};

}  // namespace hybridmed::train
