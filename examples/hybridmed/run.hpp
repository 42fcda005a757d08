#pragma once
// A trained run opened for use. What computes is behind `Model`, made once for each backend: so a
// command is compiled once, whatever the backend.
#include <functional>
#include <iostream>
#include <memory>

#include "commands.hpp"
#include "hybridmed/task/evaluation.hpp"
#include "hybridmed/task/generate.hpp"
#include "hybridmed/task/pointing.hpp"
#include "hybridmed/train/trained_run.hpp"

namespace hybridmed::app {

using Images = xt::xtensor<float, 3>;  // grey, as the model sees them: (B, S, S)
using EncodedTexts = task::EncodedTexts<float, Host>;
using EncodedPrompts = task::EncodedPrompts<float, Host>;
using Embeddings = task::Embeddings<float, Host>;
namespace fs = std::filesystem;

/// What a trained run computes, on the backend that it was opened on. All arrays are the host's.
/// `ModelOn` of model_on.hpp is the one implementation.
class Model {
 public:
  virtual ~Model() = default;
  virtual const train::OpenedRun& opened() const = 0;
  virtual Embeddings embed_images(const Images&) const = 0;
  /// `progress(done, total)` is called after every batch.
  virtual Embeddings embed_dataset(
      const data::Dataset&,
      const std::function<void(std::size_t, std::size_t)>& progress) const = 0;
  virtual EncodedTexts encode_texts(const std::vector<std::string>&) const = 0;
  virtual EncodedPrompts encode_prompts(const std::vector<task::LabelPrompts>&) const = 0;
  virtual task::ZeroShotScores zero_shot(const EncodedPrompts&, const Embeddings&) const = 0;
  virtual task::Generated caption(const Images&, const task::GenerateOptions&) const = 0;
  virtual task::Generated summarize(const SectionView&, const task::GenerateOptions&) const = 0;
};

/// Opens the model of a run folder; on_cpu.cpp and on_cuda.cpp.
std::unique_ptr<const Model> open_on_cpu(const std::string& folder);
std::unique_ptr<const Model> open_on_cuda(const std::string& folder, const Common& common);

struct Run : train::OpenedRun {
  std::unique_ptr<const Model> model;
  explicit Run(std::unique_ptr<const Model> of) : OpenedRun(of->opened()), model(std::move(of)) {}
};

/// Opens a run and says what its weights file holds besides the model.
Run open_run(const Common& common, const std::string& folder);
/// With a progress line.
Embeddings embed_dataset(const Run& run, const data::Dataset& dataset);
/// Says what cleaning and length take from the texts. `what`: "the prompt", "sentences of
/// boxes.csv".
EncodedTexts encode_texts(const Run& run, const std::vector<std::string>& texts,
                          const std::string& what);
EncodedPrompts encode_prompts(const Run& run, const std::vector<task::LabelPrompts>& prompts);
/// Impressions written from images, or from findings.
std::vector<std::string> caption(const Run& run, const Images& images);
std::vector<std::string> summarize(const Run& run, const SectionView& findings);
/// ln of the contrastive scale that the run has learned.
double log_scale(const Run& run);

/// Says what the cleaning takes from these texts.
void note_lost(const std::vector<std::string>& texts, data::Cleaning cleaning,
               const std::string& what);

/// The hashes in a file that the run wrote when it began, one a line.
std::set<std::uint64_t> hashes_of(const Run& run, const char* name);
/// The split that a command looks at: `asked`, else `usual` where the folder has it, else all ("").
/// @throws Error where a split was asked for and the folder has none.
std::string chosen_split(const data::DataFolder& folder, const std::string& asked,
                         const std::string& usual);

/// How many studies of a data set have an id whose hash is among these.
std::size_t known_studies(const data::Dataset& dataset, const std::set<std::uint64_t>& hashes);
/// The most frequent impression of the training split, whole; empty where the run has none.
/// @throws Error where the file holds anything else.
std::string most_frequent_impression(const Run& run, const std::set<std::uint64_t>& seen);

/// The keys of a data folder: `base`, changed by the configuration file's keys of tables (its other
/// keys do not count) and by --set.
/// @throws Error for a key of --set that is none of them.
data::FolderOptions folder_options(data::FolderOptions base, const TableOptions& o);

/// Calls f(paths of a batch, images) in batches of at most 16. An image that cannot be read is
/// named on stderr and left out; the exit code is 1 then.
template <class F>
int in_batches(const Run& run, const std::vector<std::string>& images, F&& f) {
  int code = 0;
  for (std::size_t i = 0; i < images.size(); i += 16) {
    std::vector<std::string> paths;
    std::vector<xt::xtensor<float, 2>> read;
    for (std::size_t k = i; k < (std::min)(images.size(), i + 16); ++k) try {
        std::vector<std::string> notes;
        read.push_back(run.read_image(images[k], &notes));
        paths.push_back(images[k]);
        for (const auto& note : notes) std::cerr << "note: " << data::printable(note) << "\n";
      } catch (const Error& e) {
        std::cerr << data::printable(e.what()) << "\n";
        code = 1;
      }
    if (!paths.empty()) f(paths, run.together(read));
  }
  return code;
}

}  // namespace hybridmed::app
