#pragma once
// Recall at K where several candidates may be relevant; ties in expectation, chance from the group
// sizes.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <string>

#include <xtensor/xtensor.hpp>

#include "hybridmed/core/error.hpp"

namespace hybridmed::metrics {

/// Probability that k draws without replacement from n hit one of m: 1 - C(n - m, k) / C(n, k).
inline double hit_chance(std::size_t n, std::size_t m, std::size_t k) {
  double miss = 1;
  for (std::size_t i = 0; i < k; ++i) {
    if (n < m + i + 1) return 1;
    miss *= static_cast<double>(n - m - i) / static_cast<double>(n - i);
  }
  return 1 - miss;
}

struct Recall {
  double value = 0, chance = 0;
  std::size_t n = 0;
  std::vector<double> hits;  // per query
};

/// similarity (queries, candidates); relevant where the keys are equal. Queries with use = false
/// are skipped.
inline Recall recall_at(const xt::xtensor<double, 2>& similarity,
                        const std::vector<std::int32_t>& query_key,
                        const std::vector<std::int32_t>& candidate_key, std::size_t k,
                        const std::vector<bool>& use = {}) {
  Recall r;
  const std::size_t n = candidate_key.size();
  if (similarity.shape()[0] != query_key.size() || similarity.shape()[1] != n ||
      (!use.empty() && use.size() != query_key.size()))
    fail("metrics", "recall_at",
         "expected similarities (" + std::to_string(query_key.size()) + ", " + std::to_string(n) +
             "), got (" + std::to_string(similarity.shape()[0]) + ", " +
             std::to_string(similarity.shape()[1]) + "); and a flag for every query or none, got " +
             std::to_string(use.size()));
  const auto score = [&](std::size_t q, std::size_t c) {  // what is not a number ranks last
    return std::isnan(similarity(q, c)) ? -std::numeric_limits<double>::infinity()
                                        : similarity(q, c);
  };
  for (std::size_t q = 0; q < query_key.size(); ++q) {
    if (!use.empty() && !use[q]) continue;
    std::vector<double> sorted;
    std::size_t relevant = 0;
    for (std::size_t c = 0; c < n; ++c) {
      sorted.push_back(score(q, c));
      relevant += candidate_key[c] == query_key[q];
    }
    std::sort(sorted.rbegin(), sorted.rend());
    const std::size_t top = (std::min)(k, n);
    if (top == 0) continue;
    // everything above the k-th score is in; among those equal to it, a random choice fills the
    // rest
    const double edge = sorted[top - 1];
    bool sure = false;
    std::size_t above = 0, tied = 0, tied_relevant = 0;
    for (std::size_t c = 0; c < n; ++c) {
      const bool same = candidate_key[c] == query_key[q];
      if (score(q, c) > edge) {
        ++above;
        sure = sure || same;
      } else if (score(q, c) == edge) {
        ++tied;
        tied_relevant += same;
      }
    }
    r.hits.push_back(sure ? 1.0 : hit_chance(tied, tied_relevant, top - above));
    r.value += r.hits.back();
    r.chance += hit_chance(n, relevant, top);
    ++r.n;
  }
  if (r.n) {
    r.value /= static_cast<double>(r.n);
    r.chance /= static_cast<double>(r.n);
  }
  return r;
}

}  // namespace hybridmed::metrics
