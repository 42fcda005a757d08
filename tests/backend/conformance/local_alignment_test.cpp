// Scores of regions and words.
#include "backend/local_alignment_cases.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("local_scores", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (const auto& c : local_cases)
    for (auto [aggregation, mode] : aggregations) {
      const LocalData<T> d(c, aggregation);
      const std::string s = std::string("local_scores ") + mode + ": " + c.name;
      conform<B, T>(s, {garbage<T>(c.images * d.texts)},
                    [&](auto k, auto y) { decltype(k)::local_scores(d.a, y[0]); });
      const std::vector<Values<T>> gradients{random<T>(c.images * c.regions * c.dim, 4),
                                             random<T>(d.words * c.dim, 5)};
      for (int wanted : aggregation == LocalAggregation::mean ? std::vector<int>{3, 1, 2, 0}
                                                              : std::vector<int>{3})
        conform<B, T>(
            s + ", backward, outputs " + std::to_string(wanted), gradients, [&](auto k, auto y) {
              decltype(k)::local_scores_backward(d.a, d.dz.data(), wanted & 1 ? y[0] : nullptr,
                                                 wanted & 2 ? y[1] : nullptr);
            });
    }
}
