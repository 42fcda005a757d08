#pragma once
// Weights of another file or run as the start of a run.
#include <map>

#include "hybridmed/train/checkpoint.hpp"
#include "hybridmed/train/console.hpp"
#include "hybridmed/train/run_config.hpp"

namespace hybridmed::train {

namespace detail {
/// The weights file that `--init` names: a file, or the best weights of a run folder.
inline std::filesystem::path initial_file(const std::filesystem::path& source) {
  std::error_code ec;
  if (!std::filesystem::is_directory(source, ec)) return source;
  for (int stage : {2, 1})
    if (auto best = best_weights(source, stage); !best.empty()) return best;
  if (std::filesystem::exists(source / "model.safetensors", ec))
    return source / "model.safetensors";
  fail("train", "init", source.string() + ": a folder without weights",
       "name a file of weights, or the folder of a run that has finished an epoch");
}
/// "text 40, decoder 30": how many of these are of which part.
inline std::string by_part(const std::vector<std::string>& names) {
  std::map<std::string, int> parts;
  for (const auto& name : names) ++parts[name.substr(0, name.find('.'))];
  std::string text;
  for (const auto& [part, count] : parts)
    text += (text.empty() ? "" : ", ") + part + " " + std::to_string(count);
  return text;
}
}  // namespace detail

/// Where a run's first weights come from.
struct InitialWeights {
  std::filesystem::path file{};  ///< empty: from random numbers
  std::string vocabulary{};      ///< hash of the one that they were trained with; empty: not known
  bool decoder = false;          ///< they brought one, so a teacher has been trained

  /// @throws Error where the run's vocabulary is another: each word would get the vector of
  /// another.
  void need_vocabulary(std::uint64_t hash) const {
    if (vocabulary.empty() || vocabulary == std::to_string(hash)) return;
    auto theirs = file.parent_path().parent_path() / "vocab.txt";  // of best-stageN-step-X/
    if (!std::filesystem::exists(theirs)) theirs = "THEIR_RUN/vocab.txt";
    fail("train", "init",
         file.string() +
             ": trained with another vocabulary than this run has: each word would get "
             "the vector of another",
         "--set vocab_file=" + shell_word(theirs.string()) + " takes theirs");
  }
};

/// Loads what fits, and says on stderr what did not.
/// @throws Error where nothing fits.
template <class M>
InitialWeights load_initial_weights(const std::filesystem::path& source, M& model) {
  const std::filesystem::path path = detail::initial_file(source);
  const io::Safetensors file = io::Safetensors::read(path);
  io::verify_checksum(path, file.bytes());
  const io::LoadReport r = io::load_weights(model, file);
  if (r.loaded.empty()) fail("train", "init", path.string() + ": no tensor fits the model");
  std::fprintf(stderr, "weights     %zu tensors from %s\n", r.loaded.size(), path.c_str());
  const auto say = [](const std::vector<std::string>& names, const char* what) {
    if (!names.empty())
      std::fprintf(stderr, "warning     %s: %s\n", what, detail::by_part(names).c_str());
  };
  say(r.missing, "not in that file, so they begin as initialised");
  say(r.mismatched, "of another shape in that file, so they begin as initialised");
  say(r.unexpected, "in that file, and not used");
  const auto vocabulary = file.metadata().find("vocabulary");
  return {path, vocabulary == file.metadata().end() ? std::string() : vocabulary->second,
          std::any_of(r.loaded.begin(), r.loaded.end(),
                      [](const std::string& name) { return name.starts_with("decoder."); })};
}

}  // namespace hybridmed::train
