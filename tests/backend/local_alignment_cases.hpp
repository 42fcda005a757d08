#pragma once
// Cases of local alignment, and the data of one.
#include "backend/conformance.hpp"

namespace hybridmed::test {

struct LocalCase {
  const char* name;
  Index images, regions, dim;
  std::vector<Index> words;  // of each text
};

inline const std::vector<LocalCase> local_cases{
    {"one of each", 1, 1, 1, {1}},
    {"texts of one word", 3, 5, 17, {1, 1, 1}},
    {"very different lengths", 2, 17, 9, {1, 197, 3, 65, 1}},
    {"more words than a block", 3, 9, 5, {65, 197, 1, 300, 17, 197, 3}},
    {"a text longer than a block", 2, 5, 3, {3, 600, 1}},
    {"many regions", 2, 197, 33, {17, 1, 3}},
    {"no images", 0, 5, 3, {3, 1}},
    {"no texts", 3, 5, 3, {}},
    {"one region", 3, 1, 7, {3, 17}},
};
inline const std::pair<LocalAggregation, const char*> aggregations[] = {
    {LocalAggregation::mean, "mean"},
    {LocalAggregation::sum, "sum"},
    {LocalAggregation::max, "max"}};

template <class T>
struct LocalData {
  LocalData(const LocalCase& c, LocalAggregation aggregation) {
    for (Index n : c.words) offsets.push_back(static_cast<std::int32_t>(offsets.back() + n));
    words = offsets.back();
    texts = static_cast<Index>(c.words.size());
    const double size = 1 / std::sqrt(static_cast<double>(c.dim)) + 0.3;
    p = random<T>(c.images * c.regions * c.dim, 1, size);
    w = random<T>(words * c.dim, 2, size);
    dz = random<T>(c.images * texts, 3);
    a.images = c.images;
    a.regions = c.regions;
    a.texts = texts;
    a.dim = c.dim;
    a.aggregation = aggregation;
    a.p = p.data();
    a.w = w.data();
    a.offsets = offsets.data();
  }
  std::vector<std::int32_t> offsets{0};
  Index words = 0, texts = 0;
  Values<T> p, w, dz;
  LocalArgs<T> a;
};

}  // namespace hybridmed::test
