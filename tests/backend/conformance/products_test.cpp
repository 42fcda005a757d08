// Products of matrices.
#include "backend/conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gemm", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  struct Case {
    Index m, n, k;
  };
  // Every side at 0 and 1, odd sizes, and more than one tile (192 rows, 512 columns).
  const Case cases[] = {{0, 3, 5},      {3, 0, 5},      {3, 5, 0},     {1, 1, 1},     {1, 17, 3},
                        {17, 1, 3},     {3, 17, 1},     {3, 3, 3},     {17, 65, 3},   {65, 3, 17},
                        {3, 65, 197},   {65, 65, 65},   {197, 17, 65}, {1, 197, 197}, {197, 1, 197},
                        {193, 513, 17}, {17, 1030, 33}, {400, 5, 65}};
  for (const auto& [m, n, kk] : cases)
    for (int transposed = 0; transposed < 4; ++transposed)
      for (Index gap : {0, 3})  // between the end of a row and the next
        for (auto [alpha, beta] :
             {std::pair{1.0, 0.0}, std::pair{-0.5, 1.0}, std::pair{2.0, 0.7}}) {
          const Index rows = m, cols = n, depth = kk;
          const bool ta = transposed & 1, tb = transposed & 2;
          const Index lda = (ta ? rows : depth) + gap, ldb = (tb ? depth : cols) + gap,
                      ldc = cols + gap;
          if (lda == 0 || ldb == 0 || ldc == 0) continue;  // a leading dimension is at least 1
          const auto a = random<T>((ta ? depth : rows) * lda, 1),
                     b = random<T>((tb ? cols : depth) * ldb, 2);
          const auto c = beta == 0 ? garbage<T>(rows * ldc)
                                   : random<T>(rows * ldc, 3);  // beta 0 ignores what c held
          const T al = static_cast<T>(alpha), be = static_cast<T>(beta);
          const std::string s = text({rows, cols, depth}) + (ta ? " a^T" : "") +
                                (tb ? " b^T" : "") + " gap " + std::to_string(gap) + " beta " +
                                std::to_string(beta);
          conform<B, T>("gemm " + s, {c}, [&](auto k, auto y) {
            decltype(k)::gemm(ta, tb, rows, cols, depth, al, a.data(), lda, b.data(), ldb, be, y[0],
                              ldc);
          });
        }
}

TEST_CASE_TEMPLATE("gemm of nothing: the weight gradient of a layer whose input has no rows", P,
                   ALL) {
  using T = typename P::scalar;
  const T none[1] = {T(0)};  // dw (3, 5) = beta dw + dy^T x with k = 0
  conform<typename P::backend, T>("beta 0", {garbage<T>(15)}, [&](auto k, auto y) {
    decltype(k)::gemm(true, false, 3, 5, 0, T(1), none, 3, none, 5, T(0), y[0], 5);
  });
  conform<typename P::backend, T>("beta 1", {random<T>(15, 1)}, [&](auto k, auto y) {
    decltype(k)::gemm(true, false, 3, 5, 0, T(1), none, 3, none, 5, T(1), y[0], 5);
  });
  conform<typename P::backend, T>("beta 0.7", {random<T>(15, 1)}, [&](auto k, auto y) {
    decltype(k)::gemm(true, false, 3, 5, 0, T(1), none, 3, none, 5, T(0.7), y[0], 5);
  });
}
