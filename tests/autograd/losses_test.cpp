// Gradients of the losses.
#include "hybridmed/autograd/losses.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gradients of the losses over classes", B, BACKENDS) {
  for (auto [r, c] : {std::pair<Index, Index>{0, 3}, {1, 1}, {1, 2}, {5, 7}, {3, 17}}) {
    const Index rows = r, classes = c;
    std::vector<std::int32_t> t;
    for (Index i = 0; i < rows; ++i) t.push_back(static_cast<std::int32_t>((i + 1) * 5 % classes));
    const auto target = indices<B>(t);
    const auto z = random<B>({rows, classes}, 1, 2), teacher = random<B>({rows, classes}, 2, 2);
    for (double smoothing : {0.0, 0.1})
      check<B>("cross_entropy", {z},
               [&](const auto& x) { return cross_entropy(x[0], target, smoothing); });
    for (double tau : {1.0, 2.5})
      check<B>("distillation", {z},
               [&](const auto& x) { return distillation(x[0], teacher, tau); });
    if (rows == 0) {
      CHECK(cross_entropy(z, target, 0.1).item() == 0);
      CHECK(distillation(z, teacher, 1).item() == 0);
    } else {
      CHECK(std::abs(distillation(teacher, teacher, 2.5).item()) < 1e-14);  // zero when they match
    }
  }
}

TEST_CASE_TEMPLATE("gradients of symmetric_cross_entropy", B, BACKENDS) {
  for (Index n : {0, 1, 3, 7})
    for (bool with_keys : {false, true})
      for (double smoothing : {0.0, 0.1}) {
        std::vector<std::int32_t> k;
        for (Index i = 0; i < n; ++i) k.push_back(static_cast<std::int32_t>(i % 3 == 2 ? 0 : i));
        const IndexTensor<B> keys = with_keys ? indices<B>(k) : IndexTensor<B>();
        const auto z = random<B>({n, n}, 1, 2);
        check<B>("symmetric_cross_entropy of " + std::to_string(n), {z}, [&](const auto& x) {
          return symmetric_cross_entropy(x[0], keys, smoothing, 0.3, 0.7);
        });
        if (n <= 1) CHECK(symmetric_cross_entropy(z, keys, smoothing, 0.5, 0.5).item() == 0);
      }
}

TEST_CASE_TEMPLATE("gradients of local_scores", B, BACKENDS) {
  struct Case {
    Index images, regions, dim;
    std::vector<Index> words;
  };
  for (const Case& c : {Case{1, 1, 1, {1}}, Case{2, 5, 3, {1, 1}}, Case{3, 7, 5, {1, 9, 3}},
                        Case{2, 3, 2, {3, 30, 1}}, Case{0, 3, 2, {3}}, Case{2, 3, 2, {}}})
    for (auto aggregation :
         {LocalAggregation::mean, LocalAggregation::sum, LocalAggregation::max}) {
      std::vector<std::int32_t> o{0};
      for (Index n : c.words) o.push_back(static_cast<std::int32_t>(o.back() + n));
      const auto offsets = indices<Reference>(o);
      LocalScore h;
      h.aggregation = aggregation;
      check<B>("local_scores",
               {random<B>({c.images * c.regions, c.dim}, 1), random<B>({o.back(), c.dim}, 2)},
               [&](const auto& x) { return local_scores(x[0], c.images, x[1], offsets, h); });
    }
}
