#pragma once
// Scores of generated text: corpus BLEU-1..4 (Papineni et al., 2002) and ROUGE-L (Lin, 2004; F with
// beta 1.2, mean over texts).
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "hybridmed/data/wordpiece.hpp"

namespace hybridmed::metrics {

using Words = std::vector<std::string>;

/// The one normalisation of texts that are compared, generated, reference and constant alike: lower
/// case, accents stripped, words and single punctuation marks. What a tokenizer loses (case,
/// accents, blanks) makes no difference to a score.
inline Words split_words(const std::string& text) { return data::basic_tokens(text); }

inline void need_pairs(const char* metric, std::size_t candidates, std::size_t references) {
  if (candidates != references)
    fail("metrics", metric,
         "expected one reference for each of " + std::to_string(candidates) + " candidates, got " +
             std::to_string(references));
}

/// Corpus BLEU-1..4, one reference a text, brevity penalty; 0 where an n-gram order never matches.
inline std::array<double, 4> bleu(const std::vector<Words>& candidates,
                                  const std::vector<Words>& references) {
  need_pairs("bleu", candidates.size(), references.size());
  std::array<double, 4> match{}, total{}, out{};
  double c_len = 0, r_len = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    c_len += static_cast<double>(candidates[i].size());
    r_len += static_cast<double>(references[i].size());
    for (std::size_t n = 1; n <= 4; ++n) {
      const auto grams = [&](const Words& w) {
        std::map<Words, int> counts;
        for (std::size_t k = 0; k + n <= w.size(); ++k)
          ++counts[Words(w.begin() + static_cast<std::ptrdiff_t>(k),
                         w.begin() + static_cast<std::ptrdiff_t>(k + n))];
        return counts;
      };
      const auto r = grams(references[i]);
      for (const auto& [g, count] : grams(candidates[i])) {
        total[n - 1] += count;
        if (const auto it = r.find(g); it != r.end()) match[n - 1] += (std::min)(count, it->second);
      }
    }
  }
  if (c_len == 0) return out;
  const double penalty = c_len >= r_len ? 1 : std::exp(1 - r_len / c_len);
  double log_sum = 0;
  for (std::size_t n = 0; n < 4; ++n) {
    if (match[n] == 0) break;
    log_sum += std::log(match[n] / total[n]);
    out[n] = penalty * std::exp(log_sum / static_cast<double>(n + 1));
  }
  return out;
}

/// ROUGE-L of one text: F of the longest common subsequence, beta = 1.2.
inline double rouge_l(const Words& candidate, const Words& reference) {
  if (candidate.empty() || reference.empty()) return 0;
  std::vector<std::size_t> row(reference.size() + 1);
  for (const auto& w : candidate) {
    std::size_t diagonal = 0;
    for (std::size_t j = 1; j <= reference.size(); ++j) {
      const std::size_t up = row[j];
      row[j] = w == reference[j - 1] ? diagonal + 1 : (std::max)(up, row[j - 1]);
      diagonal = up;
    }
  }
  const double lcs = static_cast<double>(row.back()),
               p = lcs / static_cast<double>(candidate.size()),
               r = lcs / static_cast<double>(reference.size()), b = 1.2 * 1.2;
  return lcs == 0 ? 0 : (1 + b) * p * r / (r + b * p);
}
inline double rouge_l(const std::vector<Words>& candidates, const std::vector<Words>& references) {
  need_pairs("rouge_l", candidates.size(), references.size());
  double s = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) s += rouge_l(candidates[i], references[i]);
  return candidates.empty() ? 0 : s / static_cast<double>(candidates.size());
}

}  // namespace hybridmed::metrics
