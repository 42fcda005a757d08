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
      const auto offsets = indices<Host>(o);
      LocalScore h;
      h.aggregation = aggregation;
      check<B>("local_scores",
               {random<B>({c.images * c.regions, c.dim}, 1), random<B>({o.back(), c.dim}, 2)},
               [&](const auto& x) { return local_scores(x[0], c.images, x[1], offsets, h); });
    }
}

TEST_CASE_TEMPLATE("gradients of soft_cross_entropy", B, BACKENDS) {
  for (auto [r, c] : {std::pair<Index, Index>{0, 3}, {1, 1}, {1, 2}, {5, 7}, {3, 17}}) {
    const Index rows = r, classes = c;
    const auto z = random<B>({rows, classes}, 1, 2);
    const auto assigned = sinkhorn(random<B>({rows, classes}, 2, 0.3), 0.05, 3);
    const auto any = random<B>({rows, classes}, 3);  // rows sum to anything
    for (double temperature : {1.0, 0.2})
      for (const auto& target : {assigned, any})
        check<B>("soft_cross_entropy", {z},
                 [&](const auto& x) { return soft_cross_entropy(x[0], target, temperature); });
    if (rows == 0) CHECK(soft_cross_entropy(z, assigned, 1).item() == 0);
  }
}

TEST_CASE_TEMPLATE("soft_cross_entropy: classes of target 0 may have a logit of -inf", B,
                   BACKENDS) {
  const double none = -std::numeric_limits<double>::infinity();
  const auto at = [](std::vector<double> x) { return X<B>::from_host(x, {1, 3}); };
  const double want = soft_cross_entropy(X<B>::from_host(std::vector{1.0, 3.0}, {1, 2}),
                                         X<B>::from_host(std::vector{.25, .75}, {1, 2}), .5)
                          .item();
  CHECK(soft_cross_entropy(at({1, 3, none}), at({.25, .75, 0}), .5).item() ==
        doctest::Approx(want).epsilon(1e-14));
  CHECK(soft_cross_entropy(at({1e6 + 1, 1e6 + 3, none}), at({.25, .75, 0}), .5).item() ==
        doctest::Approx(want).epsilon(1e-9));  // an offset that all share
  CHECK(soft_cross_entropy(at({1, 3, none}), at({.25, .5, .25}), .5).item() == -none);
  CHECK(std::isnan(soft_cross_entropy(at({1, std::nan(""), 2}), at({1, 0, 0}), .5).item()));
  CHECK(std::isnan(soft_cross_entropy(at({1, 3, 2}), at({1, 0, std::nan("")}), .5).item()));
}

namespace {

/// As the formula stands: q = exp(scores / eps), divided by its sum; columns, then rows.
std::vector<double> plain_sinkhorn(std::size_t rows, std::size_t cols,
                                   const std::vector<double>& scores, double eps, int iterations) {
  std::vector<double> q;
  double total = 0;
  for (double s : scores) {
    q.push_back(std::exp(s / eps));
    total += q.back();
  }
  for (double& x : q) x /= total;
  const auto columns = [&] {
    for (std::size_t c = 0; c < cols; ++c) {
      double sum = 0;
      for (std::size_t r = 0; r < rows; ++r) sum += q[r * cols + c];
      for (std::size_t r = 0; r < rows; ++r) q[r * cols + c] /= sum * static_cast<double>(cols);
    }
  };
  const auto each_row = [&](double share) {
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::size_t c = 0; c < cols; ++c) sum += q[r * cols + c];
      for (std::size_t c = 0; c < cols; ++c) q[r * cols + c] /= sum * share;
    }
  };
  for (int i = 0; i < iterations; ++i) {
    columns();
    each_row(static_cast<double>(rows));
  }
  each_row(1);
  return q;
}

}  // namespace

TEST_CASE_TEMPLATE("sinkhorn is its formula, and its rows sum to 1", B, BACKENDS) {
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {1, 5}, {7, 1}, {5, 7}, {13, 40}})
    for (int iterations : {0, 1, 3, 10}) {
      auto s = random<B>({rows, cols}, 1);
      for (Index i = 0; i < s.size(); ++i) s.data()[i] = std::tanh(s.data()[i]);  // cosines
      const auto q = sinkhorn(s, 0.05, iterations);
      CHECK(q.shape() == s.shape());
      const auto want =
          plain_sinkhorn(static_cast<std::size_t>(rows), static_cast<std::size_t>(cols),
                         s.to_host(), 0.05, iterations);
      CHECK(error(q.to_host(), want) <= 1e-12);
      for (Index r = 0; r < rows; ++r) {
        double sum = 0;
        for (Index c = 0; c < cols; ++c) sum += q.data()[r * cols + c];
        CHECK(sum == doctest::Approx(1.0).epsilon(1e-13));
      }
    }
}

TEST_CASE_TEMPLATE("sinkhorn: scores of any size, and the largest cosines in float", B, BACKENDS) {
  // Multiples of 1/8 are exact with any whole number added to all of them.
  const auto cosines = X<B>::from_host(std::vector{1., .5, -1., -.25, .125, -.375}, {2, 3});
  const auto want = sinkhorn(cosines, 0.05, 3).to_host();
  for (double offset : {100., 65536., -65536.}) {
    auto moved = cosines.clone();
    for (Index i = 0; i < moved.size(); ++i) moved.data()[i] += offset;
    CHECK(error(sinkhorn(moved, 0.05, 3).to_host(), want) <= 1e-9);
  }
  auto large = cosines.clone();  // exp(2e5) has no number in double
  for (Index i = 0; i < large.size(); ++i) large.data()[i] *= 1e4;
  for (double x : sinkhorn(large, 0.05, 3).to_host()) CHECK((x >= 0 && x <= 1));

  const auto one = Tensor<float, B>::full({3, 4}, 1),
             minus_one = Tensor<float, B>::full({3, 4}, -1);
  for (const auto& s : {one, minus_one})
    for (float x : sinkhorn(s, 0.05, 3).to_host()) CHECK(std::abs(x - 0.25f) <= 1e-6f);

  auto bad = cosines.clone();
  bad.data()[4] = std::nan("");
  for (double x : sinkhorn(bad, 0.05, 3).to_host()) CHECK(std::isnan(x));
}

TEST_CASE_TEMPLATE("sinkhorn passes no gradient on", B, BACKENDS) {
  Slot<B> slot;
  Tape tape;
  const RecordOn on(tape);
  const Var<B> scores(random<B>({3, 4}, 1, 0.3), &slot);
  const X<B> q = sinkhorn(scores, 0.05, 3);
  CHECK(tape.size() == 0);
  CHECK(q.to_host() == sinkhorn(scores.tensor, 0.05, 3).to_host());
}
