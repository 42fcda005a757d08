// Losses over classes and over pairs.
#include "backend/conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

std::vector<std::int32_t> targets(Index rows, Index classes) {
  std::vector<std::int32_t> t;
  for (Index r = 0; r < rows; ++r)
    t.push_back(static_cast<std::int32_t>(r == 0 ? classes - 1 : 7 * r % classes));
  return t;
}

}  // namespace

TEST_CASE_TEMPLATE("cross_entropy", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [r, c] :
       {std::pair<Index, Index>{0, 3}, {1, 1}, {1, 2}, {3, 17}, {65, 3}, {17, 197}, {3, 30001}})
    for (double size : {1.0, 30.0})  // flat and sharp
      for (double smoothing : {0.0, 0.1}) {
        const Index rows = r, classes = c;
        const auto z = random<T>(rows * classes, 1, size);
        const auto t = targets(rows, classes);
        const T upstream = T(-1.7);
        Values<T> lse(static_cast<std::size_t>(rows)), loss(1);
        Reference::cross_entropy(rows, classes, z.data(), t.data(), smoothing, loss.data(),
                                 lse.data());
        const std::string s = text({rows, classes}) + " size " + std::to_string(size) +
                              " smoothing " + std::to_string(smoothing);
        // With one class the loss is 0 up to rounding: its terms are logits.
        conform<B, T>(
            "cross_entropy " + s, {garbage<T>(1), garbage<T>(rows)},
            [&](auto k, auto y) {
              decltype(k)::cross_entropy(rows, classes, z.data(), t.data(), smoothing, y[0], y[1]);
            },
            tolerance<T>, largest(z));
        for (bool accumulate : {false, true})
          conform<B, T>(
              "cross_entropy backward " + s,
              {accumulate ? random<T>(rows * classes, 2) : garbage<T>(rows * classes)},
              [&](auto k, auto y) {
                decltype(k)::cross_entropy_backward(rows, classes, z.data(), t.data(), smoothing,
                                                    lse.data(), &upstream, accumulate, y[0]);
              },
              tolerance<T>, classes == 1 ? 1.7 : 0);  // with one class: p - 1, times upstream
      }
}

TEST_CASE_TEMPLATE("distillation", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [r, c] :
       {std::pair<Index, Index>{0, 3}, {1, 2}, {3, 17}, {65, 3}, {17, 197}, {3, 30001}})
    for (double size : {1.0, 10.0})
      for (double tau : {1.0, 2.5}) {
        const Index rows = r, classes = c;
        const auto z = random<T>(rows * classes, 1, size), q = random<T>(rows * classes, 2, size);
        const T upstream = T(-1.7);
        Values<T> ls(static_cast<std::size_t>(rows)), lt(ls), loss(1);
        Reference::distillation(rows, classes, z.data(), q.data(), tau, loss.data(), ls.data(),
                                lt.data());
        const std::string s =
            text({rows, classes}) + " size " + std::to_string(size) + " tau " + std::to_string(tau);
        // Loss and gradient are differences of log-probabilities and of probabilities: where
        // student and teacher nearly agree the results are small, their errors remain those of
        // numbers of order one.
        const double step = rows ? 1.7 * tau / static_cast<double>(rows) : 0;
        conform<B, T>(
            "distillation " + s, {garbage<T>(1), garbage<T>(rows), garbage<T>(rows)},
            [&](auto k, auto y) {
              decltype(k)::distillation(rows, classes, z.data(), q.data(), tau, y[0], y[1], y[2]);
            },
            tolerance<T>, tau * tau);
        for (bool accumulate : {false, true})
          conform<B, T>(
              "distillation backward " + s,
              {accumulate ? random<T>(rows * classes, 3) : garbage<T>(rows * classes)},
              [&](auto k, auto y) {
                decltype(k)::distillation_backward(rows, classes, z.data(), q.data(), tau,
                                                   ls.data(), lt.data(), &upstream, accumulate,
                                                   y[0]);
              },
              tolerance<T>, step);
      }
}

TEST_CASE_TEMPLATE("symmetric_cross_entropy", P, ALL) {
  using T = typename P::scalar;
  for (Index n : {0, 1, 3, 17, 65})
    for (bool with_keys : {false, true})
      for (double smoothing : {0.0, 0.1}) {
        const auto z = random<T>(n * n, 1, 3);
        std::vector<std::int32_t> keys;
        for (Index i = 0; i < n; ++i) keys.push_back(static_cast<std::int32_t>(i % 3 == 2 ? 0 : i));
        conform<typename P::backend, T>("symmetric_cross_entropy " + text({n}),
                                        {garbage<T>(1), garbage<T>(n * n)}, [&](auto k, auto y) {
                                          decltype(k)::symmetric_cross_entropy(
                                              n, z.data(), with_keys ? keys.data() : nullptr,
                                              smoothing, 0.3, 0.7, y[0], y[1]);
                                        });
      }
}

TEST_CASE_TEMPLATE("soft_cross_entropy", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [r, c] :
       {std::pair<Index, Index>{0, 3}, {1, 1}, {1, 2}, {3, 17}, {65, 3}, {17, 197}, {3, 30001}})
    for (double size : {1.0, 10.0})
      for (double tau : {1.0, 0.2}) {
        const Index rows = r, classes = c;
        const auto z = random<T>(rows * classes, 1, size);
        auto q = random<T>(rows * classes, 2);  // some rows do not sum to 1, some entries are 0
        for (std::size_t i = 0; i < q.size(); ++i)
          q[i] = i % 5 == 3 ? T(0) : std::abs(q[i]) / static_cast<T>(classes);
        const T upstream = T(-1.7);
        Values<T> lse(static_cast<std::size_t>(rows)), loss(1);
        Reference::soft_cross_entropy(rows, classes, z.data(), q.data(), tau, loss.data(),
                                      lse.data());
        const std::string s =
            text({rows, classes}) + " size " + std::to_string(size) + " tau " + std::to_string(tau);
        // With one class the loss is 0 up to rounding: its terms are logits.
        conform<B, T>(
            "soft_cross_entropy " + s, {garbage<T>(1), garbage<T>(rows)},
            [&](auto k, auto y) {
              decltype(k)::soft_cross_entropy(rows, classes, z.data(), q.data(), tau, y[0], y[1]);
            },
            tolerance<T>, largest(z) / tau);
        for (bool accumulate : {false, true})
          conform<B, T>(
              "soft_cross_entropy backward " + s,
              {accumulate ? random<T>(rows * classes, 3) : garbage<T>(rows * classes)},
              [&](auto k, auto y) {
                decltype(k)::soft_cross_entropy_backward(rows, classes, z.data(), q.data(), tau,
                                                         lse.data(), &upstream, accumulate, y[0]);
              },
              tolerance<T>, classes == 1 ? 1.7 / tau : 0);  // with one class: q - q
      }
}

TEST_CASE_TEMPLATE("sinkhorn", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [r, c] : {std::pair<Index, Index>{0, 3},
                      {3, 0},
                      {1, 1},
                      {1, 65},
                      {3, 17},
                      {65, 1},
                      {17, 197},
                      {130, 66}})
    for (double size : {0.3, 10.0})
      for (Index iterations : {0, 1, 3}) {
        const Index rows = r, cols = c, n = iterations;
        const auto s = random<T>(rows * cols, 1, size);
        conform<B, T>(
            "sinkhorn " + text({rows, cols, n}) + " size " + std::to_string(size),
            {garbage<T>(rows * cols)},
            [&](auto k, auto y) { decltype(k)::sinkhorn(rows, cols, s.data(), 0.05, n, y[0]); },
            std::is_same_v<T, double> ? 1e-11 : tolerance<T>);  // exponents of hundreds
      }
}
