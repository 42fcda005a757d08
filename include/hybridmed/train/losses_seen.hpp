#pragma once
// Which losses the studies of a run can teach: each loss reads certain sections of a report.
#include <string>
#include <utility>
#include <vector>

#include "hybridmed/data/dataset.hpp"
#include "hybridmed/train/run_config.hpp"

namespace hybridmed::train {

/// Studies that have the sections which the losses read.
struct Sections {
  std::size_t impression = 0, findings = 0, both = 0;
};
inline Sections sections_of(const data::Dataset& d, std::size_t count) {
  Sections n;
  for (std::size_t i = 0; i < count; ++i) {
    const bool findings = d.findings(i).size() > 2,
               impression =
                   !d.impression(i).empty();  // local scores need a word besides bos and eos
    n.findings += findings;
    n.impression += impression;
    n.both += !d.findings(i).empty() && impression;
  }
  return n;
}

/// A sentence for each loss with a weight that no study of a data set can teach. Stage 1 trains the
/// summary alone.
inline std::vector<std::string> unseen_losses(const model::Config& m, const data::Dataset& d,
                                              const std::string& split, int stage = 2) {
  struct Term {
    const char* name;
    double weight;
    std::size_t studies;
    const char* reads;
  };
  std::vector<std::string> out;
  const Sections n = sections_of(d, d.size());
  for (const Term& t : {Term{"sum", m.lambda_sum, n.both, "both sections"},
                        {"cg", m.lambda_cg, n.impression, "an impression"},
                        {"cl", m.lambda_cl, n.findings, "findings"},
                        {"cap", m.lambda_cap, n.impression, "an impression"},
                        {"dis", m.lambda_dis, n.both, "both sections"}}) {
    if (t.weight > 0 && t.studies == 0)
      out.push_back(std::string("lambda_") + t.name + " > 0, but no " + split + " study has " +
                    t.reads);
    if (stage == 1) break;  // the first is the summary's
  }
  return out;
}

/// The data sets that a run looks at, with what they are for.
inline std::vector<std::pair<std::string, const data::Dataset*>> splits_of(
    const RunConfig& c, const data::Dataset& train, const data::Dataset& valid) {
  if (c.overfit_batch) return {{"training", &train}};
  return {{"training", &train}, {"validation", &valid}};
}

/// @throws Error where a stage's losses see no study of a split: it would learn nothing, or its
/// validation could not choose.
inline void check_losses(const RunConfig& c, const data::Dataset& train,
                         const data::Dataset& valid) {
  const auto& m = c.model;
  std::size_t terms = 0;
  for (double weight : {m.lambda_cg, m.lambda_cl, m.lambda_sum, m.lambda_cap, m.lambda_dis})
    terms += weight > 0;
  for (const auto& [split, d] : splits_of(c, train, valid)) {
    if (const auto none = unseen_losses(m, *d, split, 1); c.epochs_stage1 > 0 && !none.empty())
      fail(
          "train", "data",
          c.data + ": stage 1 learns to write impressions from findings, and it cannot: " + none[0],
          "--set epochs_stage1=0 leaves it out, and lambda_dis=0 the distillation");
    if (c.epochs_stage2 > 0 && unseen_losses(m, *d, split).size() == terms)
      fail("train", "data",
           c.data + ": no " + split + " study has the sections that the losses with a weight read");
  }
}

}  // namespace hybridmed::train
