#pragma once
// What a run says: before its first step parameters, memory, steps, what each loss will see, and
// what is odd; later why it stopped.
#include "hybridmed/train/console.hpp"
#include "hybridmed/train/losses_seen.hpp"
#include "hybridmed/train/memory_plan.hpp"

namespace hybridmed::train {

/// "a 10 (impression), b 8 (findings)": what the losses of a stage see.
inline std::string losses_see(const RunConfig& config, const system::Stage& stage,
                              const data::Dataset& train) {
  const Sections n = sections_of(
      train, config.overfit_batch ? static_cast<std::size_t>(config.batch) : train.size());
  std::string text;
  for (const system::Loss& loss : stage.losses)
    text += (text.empty() ? "" : ", ") + loss.name + " " + std::to_string(n.of(loss.reads)) + " (" +
            sections_text(loss.reads).brief + ")";
  return text;
}

/// `bytes`: of the memory plan. `parameters`: of the whole system. `unread`: keys that it does not
/// read. `from_other_weights`: it does not begin with random ones. `arithmetic`: what differs from
/// numbers as they are, or empty.
inline std::string run_report(const RunConfig& config, const std::vector<system::Stage>& stages,
                              const Preparation& data, Index parameters, std::size_t bytes,
                              const std::vector<std::string>& unread, bool from_other_weights,
                              const std::string& arithmetic) {
  const auto number = [](double x, int digits) {
    char text[32];
    std::snprintf(text, sizeof text, "%.*f", digits, x);
    return std::string(text);
  };
  std::string steps;
  for (std::size_t k = 0; k < stages.size(); ++k)
    steps += StageKeys(k, stages.size()).stage_text() + ": " +
             std::to_string(config.epochs(k, stages.size())) + " epochs x " +
             std::to_string(data.batches()) + ", ";
  std::string all = "model       " + config.system + ", " + config.model.encoder + " encoder, " +
                    number(static_cast<double>(parameters) / 1e6, 2) +
                    " M parameters, vocabulary " + std::to_string(config.model.vocab) + "\n" +
                    "memory      " + number(static_cast<double>(bytes) / 1048576.0, 0) +
                    " MB of tensors expected at the longest batch, " +
                    number(image_bytes(config, data) / 1048576.0, 0) + " MB of images kept\n" +
                    "data        " + std::to_string(data.train.size()) + " training and " +
                    std::to_string(data.valid.size()) + " validation studies from " + config.data +
                    "\n" + "losses see  " + losses_see(config, stages.back(), data.train) + "\n" +
                    (arithmetic.empty() ? arithmetic : "arithmetic  " + arithmetic + "\n") +
                    "steps       " + steps + "batch " + std::to_string(config.batch) + "\n";
  std::map<std::string, std::pair<std::size_t, const data::Rejected*>> reasons;
  for (const auto& r : data.left_out())
    if (auto& [n, first] = reasons[r.reason]; n++ == 0) first = &r;
  for (const auto& [reason, found] : reasons)
    all += "left out    " + std::to_string(found.first) + " rows: " + reason +
           " (first: " + data.where(*found.second) + ")\n";
  std::vector<data::Study> studies = data.train.studies();
  studies.insert(studies.end(), data.valid.studies().begin(), data.valid.studies().end());
  all += titled("texts", lost_letters(studies, data::cleaning_from(config.cleaning))) +
         titled("texts", cut_texts(data.train)) +
         titled("texts", unknown_words(data.train, data.vocabulary.unk)) +
         titled("leakage", leakage(data.folder));
  std::vector<std::string> warnings = stage_warnings(config, stages, from_other_weights);
  if (!unread.empty()) {
    std::string keys = unread.front();
    for (std::size_t k = 1; k < unread.size(); ++k) keys += ", " + unread[k];
    warnings.push_back(config.system + " does not read " + keys + " here");
  }
  for (auto& s : lonely_losses(config, stages, data.train, data.valid))
    warnings.push_back(std::move(s));
  for (const auto& [split, d] : splits_of(config, data.train, data.valid))
    for (const auto& s : unseen_losses(config, stages.back(), *d, split)) warnings.push_back(s);
  return all + titled("warning", warnings);
}

/// Where a run stopped on request, and how it goes on: by `program` with what it needs besides, or
/// where that is empty by a trainer with the option `resume`.
inline std::string stopped_text(std::int64_t step, const std::filesystem::path& run,
                                const std::string& program, const std::string& with) {
  const std::string where =
      "stopped after step " + std::to_string(step) + ", saved in " + run.string();
  if (program.empty()) return where + "; a Trainer with resume = true goes on";
  return where + "; go on with: " + program + " --run " + shell_word(run.string()) + " --resume" +
         with;
}

/// That steps are not recorded, and why; empty where there is no reason.
inline std::string not_recorded_text(const std::string& reason) {
  return reason.empty() ? reason
                        : "steps run launch by launch, since one could not be recorded: " + reason;
}

/// How many pictures were odd so far; empty where none was.
inline std::string odd_pictures_text(const data::Dataset& train, const std::string& folder) {
  const auto [count, first] = train.noted_pictures();
  if (count == 0) return {};
  return "pictures    " + std::to_string(count) + " read so far are odd; the first: " + first +
         "; hybridmed check --data " + shell_word(folder) + " lists them";
}

/// Ends a run whose loss is no number.
[[noreturn]] inline void fail_not_finite(std::int64_t step, const std::vector<std::size_t>& studies,
                                         const data::Dataset& from, bool validation,
                                         bool has_checkpoint) {
  std::string ids;
  for (std::size_t i : studies) ids += (ids.empty() ? "" : ", ") + from.study(i).id;
  fail("train", "step",
       std::string("the ") + (validation ? "validation " : "") + "loss of step " +
           std::to_string(step) + " is not a number; its studies: " + ids,
       std::string(has_checkpoint ? "the last checkpoint is intact; " : "") +
           "lower the learning rate or look at these studies");
}

}  // namespace hybridmed::train
