#pragma once
// What is measured on a held-out split: zero-shot AUROC, calibration, retrieval, generated text.

#include "hybridmed/metrics/classification.hpp"
#include "hybridmed/metrics/retrieval.hpp"
#include "hybridmed/metrics/text.hpp"
#include "hybridmed/task/calibration.hpp"
#include "hybridmed/task/figure.hpp"
#include "hybridmed/task/generate.hpp"
#include "hybridmed/task/zero_shot.hpp"
#include "hybridmed/train/trained_run.hpp"
#include "hybridmed/train/trainer.hpp"

namespace hybridmed::task {

/// Positive studies that an AUROC takes.
inline constexpr std::size_t least_positives = 5;

/// AUROC of each label over the studies where it is known to be present or absent; fewer than
/// `least_positives`: no value. The mean is over `mean_of`, or where that is empty over the labels
/// with at least 10 positives; it says which those are, and has no value where one of `mean_of` has
/// none. Its interval resamples studies.
inline void zero_shot_figures(const std::vector<LabelPrompts>& prompts,
                              const ZeroShotScores& scores, const std::vector<data::Study>& studies,
                              const data::Labels& labels, std::vector<Figure>& out,
                              const std::vector<std::string>& mean_of = {}) {
  const std::pair<const char*, const xt::xtensor<double, 2>*> kinds[] = {
      {"global", &scores.global}, {"local", &scores.local}, {"both", &scores.both}};
  for (const auto& [kind, score] : kinds) {
    if (score->size() == 0 && scores.global.size() > 0) continue;  // the model has none
    double sum = 0;
    bool complete = true;
    std::vector<std::pair<std::vector<double>, std::vector<int>>>
        counted;  // scores and truth of the labels in the mean
    std::vector<std::string> names;
    for (std::size_t k = 0; k < prompts.size(); ++k) {
      const std::size_t column = labels.at(prompts[k].label);
      std::vector<double> all, s;
      std::vector<int> truth, y;
      for (std::size_t i = 0; i < studies.size(); ++i) {
        const auto it = labels.of.find(studies[i].id);
        if (it == labels.of.end()) continue;
        all.push_back((*score)(i, k));
        truth.push_back(it->second[column]);
        if (truth.back() == 0 || truth.back() == 1) {
          s.push_back(all.back());
          y.push_back(truth.back());
        }
      }
      const auto positives = static_cast<std::size_t>(std::count(y.begin(), y.end(), 1));
      Figure f{std::string("auroc/") + kind + "/" + prompts[k].label, {}, {}, {}, positives, 0.5};
      if (positives >= least_positives) {
        f.value = metrics::auroc(s, y);
        if (f.value) {
          const auto interval = metrics::auroc_interval(s, y, Philox(17).fork(k));
          f.low = interval.low;
          f.high = interval.high;
        }
      }
      const bool listed =
          std::find(mean_of.begin(), mean_of.end(), prompts[k].label) != mean_of.end();
      if (mean_of.empty() ? positives >= 10 && f.value : listed) {
        names.push_back(prompts[k].label);
        if (f.value) {
          sum += *f.value;
          counted.emplace_back(std::move(all), std::move(truth));
        } else
          complete = false;
      }
      out.push_back(f);
    }
    Figure mean{
        std::string("auroc/") + kind +
            (mean_of.empty() ? "/mean of labels with n >= 10" : "/mean of the labels listed"),
        {},
        {},
        {},
        names.size(),
        0.5,
        names};
    if (!counted.empty() && complete) {
      mean.value = sum / static_cast<double>(counted.size());
      const auto interval = metrics::mean_auroc_interval(counted, Philox(17).fork(prompts.size()));
      mean.low = interval.low;
      mean.high = interval.high;
    }
    out.push_back(mean);
  }
}

/// How reliable a run's calibrated probabilities are on studies that it was not fitted on: the
/// expected calibration error beside that of the uncalibrated score, the Brier score beside that of
/// the share of positives, sensitivity and specificity at the threshold.
inline void calibration_figures(const RunCalibration& calibration, double log_scale,
                                const std::vector<LabelPrompts>& prompts,
                                const ZeroShotScores& scores,
                                const std::vector<data::Study>& studies, const data::Labels& labels,
                                std::vector<Figure>& out) {
  for (std::size_t k = 0; k < prompts.size(); ++k) {
    const LabelCalibration* c = calibration.of(prompts[k]);
    const KnownScores known = known_scores(scores.used(), k, prompts[k].label, studies, labels);
    if (!c || known.truth.empty()) continue;
    const Reliability after =
        reliability_of(known.map([&](double s) { return c->fit.probability(s); }), known.truth);
    const Reliability before = reliability_of(
        known.map([&](double s) { return uncalibrated(s, log_scale); }), known.truth);
    out.push_back({"calibration/error/" + prompts[k].label + " (chance: uncalibrated)",
                   after.error,
                   {},
                   {},
                   known.truth.size(),
                   before.error});
    const RightAnswers answers = right_answers(c->fit, known);
    const std::size_t positives = known.positives(), negatives = known.truth.size() - positives;
    for (const auto& [name, right, n] : {std::tuple{"sensitivity", answers.positives, positives},
                                         {"specificity", answers.negatives, negatives}}) {
      if (n == 0) continue;
      const metrics::Interval interval = metrics::share_interval(right, n);
      out.push_back({std::string("calibration/") + name + " at the threshold/" + prompts[k].label,
                     static_cast<double>(right) / static_cast<double>(n),
                     interval.low,
                     interval.high,
                     n,
                     {}});
    }
    out.push_back({"calibration/Brier/" + prompts[k].label + " (chance: base rate)",
                   after.brier,
                   {},
                   {},
                   known.truth.size(),
                   known.base_brier()});
  }
}

/// Recall both ways over the studies with an impression; relevance is an equal impression text.
/// `seen`: hashes of the training impressions; the figures named "novel" take only queries whose
/// text is not among them.
inline void retrieval_figures(const xt::xtensor<double, 2>& image,
                              const xt::xtensor<double, 2>& text, const data::Dataset& dataset,
                              const std::set<std::uint64_t>& seen, std::vector<Figure>& out) {
  std::vector<std::size_t> rows;
  std::vector<std::int32_t> keys;
  std::vector<bool> novel;
  for (std::size_t i = 0; i < dataset.size(); ++i)
    if (!dataset.impression(i).empty()) {
      rows.push_back(i);
      keys.push_back(dataset.key(i));
      novel.push_back(!seen.count(train::text_hash(dataset.study(i).impression)));
    }
  if (rows.size() < 2) return;
  auto a = xt::xtensor<double, 2>::from_shape({rows.size(), image.shape()[1]}), b = a;
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t c = 0; c < image.shape()[1]; ++c) {
      a(r, c) = image(rows[r], c);
      b(r, c) = text(rows[r], c);
    }
  const auto forward = cosines(a, b), back = cosines(b, a);
  for (const auto& [name, similarity] :
       {std::pair<const char*, const xt::xtensor<double, 2>*>{"image to text", &forward},
        {"text to image", &back}})
    for (const bool only_novel : {false, true})
      for (std::size_t k : {1u, 5u, 10u}) {
        const auto r = metrics::recall_at(*similarity, keys, keys, k,
                                          only_novel ? novel : std::vector<bool>());
        if (r.n == 0) continue;
        const auto interval = metrics::bootstrap(
            r.hits.size(),
            [&](const std::vector<std::size_t>& index) {
              double s = 0;
              for (std::size_t i : index) s += r.hits[i];
              return std::optional(s / static_cast<double>(index.size()));
            },
            Philox(23));
        out.push_back({std::string("retrieval/") + name + "/R@" + std::to_string(k) +
                           (only_novel ? " novel texts" : ""),
                       r.value, interval.low, interval.high, r.n, r.chance});
      }
}

/// BLEU and ROUGE-L of generated texts, of the constant text beside them, and how many texts are
/// distinct.
inline void text_figures(const std::string& name, const std::vector<std::string>& texts,
                         const std::vector<std::string>& references, const std::string& constant,
                         std::vector<Figure>& out) {
  std::vector<metrics::Words> candidates, truth, same(texts.size(), metrics::split_words(constant));
  for (const auto& t : texts) candidates.push_back(metrics::split_words(t));
  for (const auto& t : references) truth.push_back(metrics::split_words(t));
  const auto mine = metrics::bleu(candidates, truth), base = metrics::bleu(same, truth);
  for (std::size_t n = 0; n < 4; ++n)
    out.push_back({name + "/BLEU-" + std::to_string(n + 1) + " (chance: constant)",
                   mine[n],
                   {},
                   {},
                   texts.size(),
                   base[n]});
  out.push_back({name + "/ROUGE-L (chance: constant)",
                 metrics::rouge_l(candidates, truth),
                 {},
                 {},
                 texts.size(),
                 metrics::rouge_l(same, truth)});
  out.push_back({name + "/distinct texts",
                 static_cast<double>(std::set<std::string>(texts.begin(), texts.end()).size()),
                 {},
                 {},
                 texts.size(),
                 1.0,
                 {},
                 true});
}

/// Does generated text say the same whatever it is made from? A sentence where one text is at least
/// half of three or more, else "". `constant`: the most frequent training impression.
inline std::string collapse_warning(const std::string& what, const std::vector<std::string>& texts,
                                    const std::string& constant) {
  std::map<std::string, std::size_t> counts;
  for (const auto& t : texts) ++counts[t];
  const auto commonest =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (texts.size() < 3 || 2 * commonest->second < texts.size()) return {};
  const bool same = metrics::split_words(commonest->first) == metrics::split_words(constant);
  return std::to_string(commonest->second) + " of " + std::to_string(texts.size()) + " " + what +
         " are the same text" + (same ? ", the most frequent training impression" : "") + " ('" +
         commonest->first + "'), " + std::to_string(counts.size()) +
         " are distinct: the model has not learned to tell these inputs apart in words";
}

}  // namespace hybridmed::task
