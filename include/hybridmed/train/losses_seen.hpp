#pragma once
// Which losses the studies of a run can teach: each loss reads certain sections of a report.
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "hybridmed/data/dataset.hpp"
#include "hybridmed/system/system.hpp"
#include "hybridmed/train/run_config.hpp"

namespace hybridmed::train {

/// Studies that have certain sections.
struct Sections {
  std::size_t all = 0, impression = 0, findings = 0, both = 0;

  /// Those that a loss can be taught by. `reads`: bits of representation::Inputs.
  std::size_t of(unsigned reads) const {
    const bool f = reads & representation::findings, i = reads & representation::impression;
    return f && i ? both : f ? findings : i ? impression : all;
  }
};
inline Sections sections_of(const data::Dataset& d, std::size_t count) {
  Sections n;
  for (std::size_t i = 0; i < count; ++i) {
    const bool findings = d.findings(i).size() > 2,
               impression =
                   !d.impression(i).empty();  // local scores need a word besides bos and eos
    ++n.all;
    n.findings += findings;
    n.impression += impression;
    n.both += !d.findings(i).empty() && impression;
  }
  return n;
}

/// What a loss reads: in a table, and in a sentence.
struct SectionsText {
  const char *brief, *phrase;
};
inline SectionsText sections_text(unsigned reads) {
  const bool f = reads & representation::findings, i = reads & representation::impression;
  if (f && i) return {"both", "both sections"};
  if (f) return {"findings", "findings"};
  if (i) return {"impression", "an impression"};
  return {"image", "an image"};
}

/// The key that holds a loss's weight; of a loss that no key weighs, a description.
inline std::string weight_key(const RunConfig& c, const system::Loss& loss) {
  const std::string key = "lambda_" + loss.name;
  bool found = false;
  RunConfig copy = c;
  copy.visit([&](std::string_view name, auto&) { found = found || name == key; });
  return found ? key : "the weight of " + loss.name;
}

/// A sentence for each loss with a weight that no study of a data set can teach.
inline std::vector<std::string> unseen_losses(const RunConfig& c, const system::Stage& stage,
                                              const data::Dataset& d, const std::string& split) {
  std::vector<std::string> out;
  const Sections n = sections_of(d, d.size());
  for (const system::Loss& loss : stage.losses)
    if (loss.weight > 0 && n.of(loss.reads) == 0)
      out.push_back(weight_key(c, loss) + " > 0, but no " + split + " study has " +
                    sections_text(loss.reads).phrase);
  return out;
}

/// The data sets that a run looks at, with what they are for.
inline std::vector<std::pair<std::string, const data::Dataset*>> splits_of(
    const RunConfig& c, const data::Dataset& train, const data::Dataset& valid) {
  if (c.overfit_batch) return {{"training", &train}};
  return {{"training", &train}, {"validation", &valid}};
}

/// The keys of a stage's weights: "lambda_a, lambda_b".
inline std::string weight_keys(const RunConfig& c, const system::Stage& stage) {
  std::string keys;
  for (const system::Loss& loss : stage.losses)
    keys += (keys.empty() ? "" : ", ") + weight_key(c, loss);
  return keys;
}

/// @throws Error where a log could not tell the losses of a stage from each other, or from its own
/// columns.
inline void check_loss_names(const system::Stage& stage) {
  std::set<std::string> taken{"kind", "stage", "epoch", "step", "lr", "total", "grad_norm"};
  for (const system::Loss& loss : stage.losses)
    if (loss.name.find_first_of(",\"\r\n") != std::string::npos ||
        !taken.insert(loss.name).second || loss.name.empty())
      fail("train", "config",
           "a loss is called '" + loss.name +
               "': expected a name that no other loss of the stage has, nor a column of log.csv "
               "(kind, stage, epoch, step, lr, total, grad_norm), without commas and quotes",
           "it is the `name` of its objective");
}

/// @throws Error where a stage has nothing to learn by, whatever the data, or its losses no names.
inline void check_stages(const RunConfig& c, const std::vector<system::Stage>& stages) {
  Index all = 0;
  for (std::size_t k = 0; k < stages.size(); ++k) {
    const StageKeys keys(k, stages.size());
    check_loss_names(stages[k]);
    all += c.epochs(k, stages.size());
    if (c.epochs(k, stages.size()) == 0) continue;
    bool any = false, alone = false;
    for (const system::Loss& loss : stages[k].losses) {
      any = any || loss.weight > 0;
      alone = alone || (loss.weight > 0 && !loss.compares_samples);
    }
    if (!any)
      fail("train", "config",
           weight_keys(c, stages[k]) + ": expected " +
               (stages[k].losses.size() > 1 ? "one of them " : "") +
               "above 0: " + keys.stage_text() + " trains nothing else, so it cannot learn",
           stages.size() > 1 ? std::string(keys.epochs) + "=0 leaves it out" : std::string());
    if (c.batch == 1 && !alone)
      fail("train", "config",
           "batch: 1, with nothing but contrastive terms: they compare the samples of a batch, so "
           "nothing is learned");
  }
  if (all == 0)
    fail("train", "config",
         std::string(StageKeys(stages.size() - 1, stages.size()).epochs) +
             ": expected at least one epoch");
}

/// @throws Error where a stage's losses see no study of a split: it would learn nothing, or its
/// validation could not choose.
inline void check_losses(const RunConfig& c, const std::vector<system::Stage>& stages,
                         const data::Dataset& train, const data::Dataset& valid) {
  for (const auto& [split, d] : splits_of(c, train, valid))
    for (std::size_t k = 0; k < stages.size(); ++k) {
      if (c.epochs(k, stages.size()) == 0) continue;
      const auto none = unseen_losses(c, stages[k], *d, split);
      std::size_t terms = 0;
      for (const system::Loss& loss : stages[k].losses) terms += loss.weight > 0;
      if (none.size() < terms) continue;
      const StageKeys keys(k, stages.size());
      fail("train", "data",
           c.data + ": " + keys.stage_text() + " " + stages[k].purpose +
               ", and it cannot: " + none[0],
           k + 1 < stages.size() ? std::string(keys.epochs) + "=0 leaves it out" : std::string());
    }
}

/// A sentence for each contrastive loss that has one study of a split to compare: it is 0 there,
/// whatever the weights are.
inline std::vector<std::string> lonely_losses(const RunConfig& c,
                                              const std::vector<system::Stage>& stages,
                                              const data::Dataset& train,
                                              const data::Dataset& valid) {
  std::vector<std::string> out;
  for (const auto& [split, d] : splits_of(c, train, valid)) {
    const Sections n = sections_of(*d, d->size());
    for (std::size_t k = 0; k < stages.size(); ++k)
      for (const system::Loss& loss : stages[k].losses)
        if (loss.weight > 0 && loss.compares_samples && n.of(loss.reads) == 1 &&
            c.epochs(k, stages.size()) > 0)
          out.push_back(loss.name + " compares studies, and one " + split + " study alone has " +
                        sections_text(loss.reads).phrase + ": it is 0 there, and says nothing of " +
                        "the weights");
  }
  return out;
}

/// The names of the losses that had no weight in any stage that was trained: what only they teach
/// is as it was initialised.
inline std::string untaught(const RunConfig& c, const std::vector<system::Stage>& stages) {
  std::set<std::string> all, taught;
  for (std::size_t k = 0; k < stages.size(); ++k)
    for (const system::Loss& loss : stages[k].losses) {
      all.insert(loss.name);
      if (loss.weight > 0 && c.epochs(k, stages.size()) > 0) taught.insert(loss.name);
    }
  std::string names;
  for (const auto& name : all)
    if (!taught.count(name)) names += (names.empty() ? "" : ", ") + name;
  return names;
}

/// What can be meant, and probably is not.
inline std::vector<std::string> stage_warnings(const RunConfig& c,
                                               const std::vector<system::Stage>& stages,
                                               bool from_other_weights) {
  std::vector<std::string> out;
  const std::size_t n = stages.size();
  for (std::size_t k = 0; k < n; ++k) {
    if (c.epochs(k, n) == 0) continue;
    const StageKeys keys(k, n);
    std::string contrastive;
    for (const system::Loss& loss : stages[k].losses)
      if (loss.weight > 0 && loss.compares_samples)
        contrastive += (contrastive.empty() ? "" : ", ") + loss.name;
    if (c.batch == 1 && !contrastive.empty())
      out.push_back("batch = 1: the contrastive terms (" + contrastive +
                    ") compare the samples of a batch; of one sample they learn nothing");
    if (c.rate(k, n) == 0)
      out.push_back(std::string(keys.rate) + " = 0: " + keys.stage_text() + " learns nothing");
    for (const system::Loss& loss : stages[k].losses)
      if (loss.distils && loss.weight > 0 && k > 0 && c.epochs(k - 1, n) == 0 &&
          !from_other_weights) {
        const std::string key = weight_key(c, loss);
        out.push_back(std::string(StageKeys(k - 1, n).epochs) + " = 0 and " + key +
                      " > 0: the student is distilled towards a teacher that was never trained; " +
                      key + "=0 leaves it out, --init with the weights of one brings one");
      }
  }
  if (n == 1 && c.epochs_stage1 > 0 && c.epochs_stage1 != RunConfig().epochs_stage1)
    out.push_back(c.system +
                  " has one stage, whose keys are epochs_stage2 and lr_stage2: epochs_stage1 and "
                  "lr_stage1 do not count");
  return out;
}

}  // namespace hybridmed::train
