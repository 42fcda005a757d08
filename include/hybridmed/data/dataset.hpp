#pragma once
// Studies as model input: token ids, impression keys, and images prepared once and kept while they
// fit a memory limit.
#include <functional>
#include <mutex>

#include "hybridmed/core/sections.hpp"
#include "hybridmed/data/studies.hpp"
#include "hybridmed/data/tokenizer.hpp"
#include "hybridmed/data/transform.hpp"

namespace hybridmed::data {

struct DatasetOptions {
  TransformOptions transform;
  std::size_t t_findings = 160, t_impression = 64;
  std::size_t cache_bytes = std::size_t{1} << 30;
};

/// A batch in host memory.
struct HostBatch {
  std::vector<std::size_t> studies;  // indices into the dataset
  xt::xtensor<float, 3> images;      // (B, S, S), or empty
  std::vector<std::int32_t> findings, findings_offsets{0}, impression, impression_offsets{0}, keys;

  SectionView findings_view() const { return {findings, findings_offsets}; }
  SectionView impression_view() const { return {impression, impression_offsets}; }
};

/// Reads the picture that a study names; called from several threads at once.
using ReadImage = std::function<Image(const std::string& name)>;

class Dataset {
 public:
  /// The studies of a folder, which must outlive the data set.
  Dataset(const DataFolder& folder, std::vector<Study> studies, const Tokenizer& vocabulary,
          DatasetOptions options)
      : Dataset(
            std::move(studies), vocabulary, options,
            [&folder](const std::string& name) {
              return data::read_image(folder.image_path(name));
            },
            folder.table().source) {}

  Dataset(const DataFolder&&, std::vector<Study>, const Tokenizer&,
          DatasetOptions) = delete;  // the folder would be gone

  /// Studies from anywhere, e.g. held in memory (see make_study). `source`: where they come from,
  /// for messages.
  Dataset(std::vector<Study> studies, const Tokenizer& vocabulary, DatasetOptions options,
          ReadImage read_image, std::string source = "memory")
      : read_image_(std::move(read_image)),
        source_(std::move(source)),
        studies_(std::move(studies)),
        options_(options),
        squares_(studies_.size()) {
    if (!read_image_)
      fail("data", "dataset", "expected a function that reads pictures, got an empty one");
    std::map<std::string, std::int32_t> keys;
    for (const Study& s : studies_) {
      if (findings_.size() % 256 == 0) check_interrupt("the texts are tokenized");
      bool cut = false;
      findings_.push_back(vocabulary.encode_section(s.findings, options_.t_findings, &cut));
      cut_findings_ += cut;
      impression_.push_back(vocabulary.encode_section(s.impression, options_.t_impression, &cut));
      cut_impression_ += cut;
      keys_.push_back(
          keys.emplace(s.impression, static_cast<std::int32_t>(keys.size())).first->second);
    }
  }

  std::size_t size() const { return studies_.size(); }
  const Study& study(std::size_t i) const {
    if (i >= studies_.size())
      fail("data", "study",
           "expected 0 to below " + std::to_string(studies_.size()) + ", got " + std::to_string(i));
    return studies_[i];
  }
  const std::vector<Study>& studies() const { return studies_; }
  const DatasetOptions& options() const { return options_; }
  const std::vector<std::int32_t>& findings(std::size_t i) const { return findings_[i]; }
  const std::vector<std::int32_t>& impression(std::size_t i) const { return impression_[i]; }
  std::int32_t key(std::size_t i) const { return keys_[i]; }
  /// Studies whose findings, or impression, have more tokens than t_findings, or t_impression.
  std::size_t cut_findings() const { return cut_findings_; }
  std::size_t cut_impression() const { return cut_impression_; }
  /// Pictures read so far that are odd in some way, and the first of them with what is odd.
  std::pair<std::size_t, std::string> noted_pictures() const {
    std::lock_guard lock(mutex_);
    return {noted_.size(), first_note_};
  }

  /// Studies `which` as one batch. With `random`, a seeded choice among several frontal images,
  /// random crop and jitter; else the first image and the centre. Safe to call from several
  /// threads.
  HostBatch batch(const std::vector<std::size_t>& which, const Philox* random,
                  bool with_images = true) const {
    HostBatch b;
    b.studies = which;
    const std::size_t side = options_.transform.image_size;
    if (with_images) try {
        b.images = xt::xtensor<float, 3>::from_shape({which.size(), side, side});
      } catch (const std::bad_alloc&) {
        throw OutOfMemory("data", "batch",
                          "no memory for " + std::to_string(which.size()) + " images of " +
                              std::to_string(side) + " x " + std::to_string(side) + " pixels",
                          "lower batch or image_size");
      }
    for (std::size_t k = 0; k < which.size(); ++k) {
      const std::size_t i = which[k];
      if (i >= studies_.size())
        fail("data", "batch",
             "expected studies 0 to below " + std::to_string(studies_.size()) + ", got " +
                 std::to_string(i));
      b.findings.insert(b.findings.end(), findings_[i].begin(), findings_[i].end());
      b.impression.insert(b.impression.end(), impression_[i].begin(), impression_[i].end());
      b.findings_offsets.push_back(static_cast<std::int32_t>(b.findings.size()));
      b.impression_offsets.push_back(static_cast<std::int32_t>(b.impression.size()));
      b.keys.push_back(keys_[i]);
      if (!with_images) continue;
      if (studies_[i].images.empty())
        fail("data", "batch",
             "study " + studies_[i].id +
                 (studies_[i].line > 0 ? " (line " + std::to_string(studies_[i].line) + ")"
                                       : std::string()) +
                 " has no image");
      const std::size_t choices = studies_[i].images.size();
      const Philox own = random ? random->fork(i) : Philox();
      const auto square = prepared(i, random && choices > 1 ? own.below(4, choices) : 0);
      crop(*square, options_.transform, random ? &own : nullptr,
           {b.images.data() + k * side * side, side * side});
    }
    return b;
  }

 private:
  std::shared_ptr<const Square> prepared(std::size_t i, std::size_t image) const {
    {
      std::lock_guard lock(mutex_);
      if (image < squares_[i].size() && squares_[i][image]) return squares_[i][image];
    }
    const Study& study = studies_[i];
    const std::string& name = study.images[image];
    std::shared_ptr<const Square> square;
    try {
      const Image picture = read_image_(name);
      if (!picture.notes.empty()) {
        std::lock_guard lock(mutex_);
        if (noted_.emplace(i, image).second && noted_.size() == 1)
          first_note_ = name + ": " + picture.notes.front();
      }
      square = std::make_shared<const Square>(make_square(picture, options_.transform.resize));
    } catch (const std::bad_alloc&) {
      throw OutOfMemory("data", "batch",
                        "no memory for " + name + " at " +
                            std::to_string(options_.transform.resize) + " x " +
                            std::to_string(options_.transform.resize) + " pixels",
                        "lower resize, image_size or cache_mb");
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& e) {
      fail("data", "batch",
           e.reason() + "; it belongs to study " + study.id + " (" + source_ +
               (study.line > 0 ? ", line " + std::to_string(study.line) : "") + ")",
           e.hint());
    } catch (const std::exception& e) {
      fail("data", "batch",
           name + ": " + e.what() + "; it belongs to study " + study.id + " (" + source_ + ")");
    }
    std::lock_guard lock(mutex_);
    if (cached_ + square->memory() <= options_.cache_bytes) {
      squares_[i].resize(studies_[i].images.size());
      if (!squares_[i][image]) {
        squares_[i][image] = square;
        cached_ += square->memory();
      }
    }
    return square;
  }

  ReadImage read_image_;
  std::string source_;
  std::vector<Study> studies_;
  DatasetOptions options_;
  std::vector<std::vector<std::int32_t>> findings_, impression_;
  std::vector<std::int32_t> keys_;
  mutable std::mutex mutex_;
  mutable std::vector<std::vector<std::shared_ptr<const Square>>> squares_;
  mutable std::size_t cached_ = 0;
  mutable std::set<std::pair<std::size_t, std::size_t>> noted_;  // study, picture
  mutable std::string first_note_;
  std::size_t cut_findings_ = 0, cut_impression_ = 0;
};

}  // namespace hybridmed::data
