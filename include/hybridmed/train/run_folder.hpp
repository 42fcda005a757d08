#pragma once
// The folder of a run: what a new run writes into it, what a killed one left, its best weights.
#include "hybridmed/train/checkpoint.hpp"
#include "hybridmed/train/preparation.hpp"

namespace hybridmed::train {

/// Makes the folder, or finds the checkpoints of the run that goes on in it.
/// @throws Error where there is nothing to resume, or something that is no run.
inline void make_run_folder(const std::filesystem::path& run, bool resume) {
  namespace fs = std::filesystem;
  std::error_code ec;
  if (resume && list_checkpoints(run).empty()) {
    const bool trained = !best_weights(run, 1).empty() || !best_weights(run, 2).empty();
    fail("train", "run", run.string() + ": no checkpoint to resume from",
         trained
             ? "its checkpoints are gone, and its best weights are there: a new run with --init "
               "starts from them"
             : "the run ended before its first: start it again without --resume");
  }
  // A run begins in a folder of its own, or in one that an earlier try made.
  if (!resume && !fs::exists(fs::symlink_status(run / "checkpoints", ec)))
    for (const auto& e : fs::directory_iterator(run, ec))
      if (const std::string name = e.path().filename().string(); !name.starts_with("."))
        fail("train", "run", run.string() + ": not empty, and no run: it holds '" + name + "'",
             "name a folder that is not there yet");
  fs::create_directories(run / "checkpoints", ec);
  if (ec) fail("train", "run", run.string() + ": the run folder cannot be made: " + ec.message());
}

/// Removes what a killed process was writing.
inline void remove_leftovers(const std::filesystem::path& run) {
  std::error_code ec;
  for (const auto& folder : {run, run / "checkpoints"})
    for (const auto& e : std::filesystem::directory_iterator(folder, ec))
      if (const auto n = e.path().filename().string();
          n.starts_with(".writing-") || n.ends_with(".tmp"))
        std::filesystem::remove_all(e.path(), ec);
}

/// Removes all but the newest checkpoints.
inline void prune_checkpoints(const std::filesystem::path& run, Index keep) {
  const auto all = list_checkpoints(run);
  std::error_code ec;
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < all.size(); ++i)
    std::filesystem::remove_all(all[i], ec);
}

inline void write_config(const std::filesystem::path& run, const RunConfig& config) {
  io::write_text_atomically(run / "config.json", io::to_json(config).dump(1) + "\n");
}

/// What a new run writes before its first step. The folder is held by this process alone.
/// @throws Error where it holds checkpoints.
inline void write_new_run(const std::filesystem::path& run, const RunConfig& config,
                          const Preparation& data) {
  if (!list_checkpoints(run).empty())
    fail("train", "run", run.string() + ": already holds checkpoints",
         "--resume goes on with it; another --run starts anew");
  remove_leftovers(run);
  write_config(run, config);
  std::error_code ec;
  for (const char* f : {"log.jsonl", "log.csv"}) std::filesystem::remove(run / f, ec);
  data.vocabulary.write(tokenizer_file(run));
  std::map<std::string, std::size_t> counts;
  std::string seen;
  for (const auto& s : data.train_studies)
    if (!s.impression.empty() && counts[s.impression]++ == 0)
      seen += std::to_string(text_hash(s.impression)) + "\n";
  std::string frequent;
  for (const auto& [text, n] : counts)
    if (frequent.empty() || n > counts[frequent]) frequent = text;
  std::string trained;
  for (const auto& s : data.train_studies) trained += std::to_string(text_hash(s.id)) + "\n";
  // Hashes: an evaluation tells them, a reader does not.
  io::write_text_atomically(run / "trained_studies.txt", trained);
  io::write_text_atomically(run / "seen_impressions.txt", seen);
  io::write_text_atomically(run / "most_frequent_impression.txt", frequent + "\n");
}

/// The folder of a stage's best weights.
inline std::string best_name(const Progress& p) {
  return "best-stage" + std::to_string(p.stage) + "-" + checkpoint_name(p.step);
}

/// Writes the best weights of a stage, then the file that names them, then removes the ones before.
template <class M>
void save_best(const std::filesystem::path& run, const Progress& p, int stages, M& model,
               const std::map<std::string, std::string>& metadata) {
  const std::string name = "best-stage" + std::to_string(p.stage), folder = best_name(p);
  write_folder(run / folder, [&](const std::filesystem::path& dir) {
    save_model(dir / "model.safetensors", model, metadata);
  });
  io::write_text_atomically(run / (name + ".json"), io::Json{{"folder", folder},
                                                             {"stage", p.stage},
                                                             {"stages", stages},
                                                             {"epoch", p.epoch},
                                                             {"validation_loss", p.best}}
                                                            .dump() +
                                                        "\n");
  std::error_code ec;
  for (const auto& e : std::filesystem::directory_iterator(run, ec))
    if (const auto n = e.path().filename().string(); is_numbered(n, name + "-step-") && n != folder)
      std::filesystem::remove_all(e.path(), ec);
}

}  // namespace hybridmed::train
