// Kernels over rows.
#include "backend/conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gather, scatter, vectors, column sums, normalisation", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (auto [rows, cols] : matrices) {
    const Index r = rows, n = cols;
    const std::string s = text({r, n});
    const auto x = random<T>(r * n, 1), v = random<T>(n, 2), dy = random<T>(2 * r * n, 3);
    std::vector<std::int32_t> index;  // repeated, descending, absent
    for (Index i = 0; i < 2 * r; ++i)
      index.push_back(
          static_cast<std::int32_t>(i % 5 == 4 ? -1 : (7 * i + 3) % std::max<Index>(r, 1)));
    conform<B, T>(
        "gather_rows " + s, {garbage<T>(2 * r * n)},
        [&](auto k, auto o) { decltype(k)::gather_rows(2 * r, n, x.data(), index.data(), o[0]); },
        0);
    conform<B, T>("scatter_add_rows " + s, {x}, [&](auto k, auto o) {
      decltype(k)::scatter_add_rows(2 * r, n, dy.data(), index.data(), o[0]);
    });
    conform<B, T>("add_vector " + s, {garbage<T>(r * n)},
                  [&](auto k, auto o) { decltype(k)::add_vector(r, n, x.data(), v.data(), o[0]); });
    conform<B, T>("add_vector in place " + s, {x},
                  [&](auto k, auto o) { decltype(k)::add_vector(r, n, o[0], v.data(), o[0]); });
    conform<B, T>("column_sum " + s, {v},
                  [&](auto k, auto o) { decltype(k)::column_sum(r, n, x.data(), o[0]); });

    auto some = x;  // with a row of zeros
    if (r > 1) std::fill_n(some.begin(), n, T(0));
    Values<T> y(x.size()), norm(static_cast<std::size_t>(r));
    Reference::normalize_rows(r, n, some.data(), y.data(), norm.data());
    conform<B, T>("normalize_rows " + s, {garbage<T>(r * n), garbage<T>(r)}, [&](auto k, auto o) {
      decltype(k)::normalize_rows(r, n, some.data(), o[0], o[1]);
    });
    conform<B, T>("normalize_rows backward " + s, {garbage<T>(r * n)}, [&](auto k, auto o) {
      decltype(k)::normalize_rows_backward(r, n, y.data(), norm.data(), dy.data(), o[0]);
    });
  }
}

TEST_CASE_TEMPLATE("mix_rows", P, ALL) {
  using T = typename P::scalar;
  struct Case {
    Index batch, outputs, inputs, cols;
  };
  const Case cases[] = {{0, 3, 5, 2},   {1, 1, 1, 1},     {3, 1, 65, 17},
                        {2, 17, 3, 65}, {5, 65, 17, 197}, {3, 4, 7, 33000}};
  for (const auto& c : cases) {
    std::vector<std::int32_t> start{0}, column;
    for (Index o = 0; o < c.outputs; ++o) {
      for (Index i = 0; i < c.inputs; ++i)
        if (o != 1 && (o + i) % 3 != 1)
          column.push_back(static_cast<std::int32_t>(i));  // output 1 takes nothing and is zero
      start.push_back(static_cast<std::int32_t>(column.size()));
    }
    const auto weight = random<T>(static_cast<Index>(column.size()), 1),
               x = random<T>(c.batch * c.inputs * c.cols, 2);
    conform<typename P::backend, T>(
        "mix_rows " + text({c.batch, c.outputs, c.inputs, c.cols}),
        {garbage<T>(c.batch * c.outputs * c.cols)}, [&](auto k, auto y) {
          decltype(k)::mix_rows(c.batch, c.outputs, c.inputs, c.cols, start.data(), column.data(),
                                weight.data(), x.data(), y[0]);
        });
  }
}

TEST_CASE_TEMPLATE("transpose and patchify", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (Index batch : {0, 1, 3})
    for (auto [r, c] :
         {std::pair<Index, Index>{0, 3}, {3, 0}, {1, 1}, {1, 65}, {65, 1}, {17, 33}, {197, 65}}) {
      const Index rows = r, cols = c;
      const auto x = random<T>(batch * rows * cols, 1);
      conform<B, T>(
          "transpose " + text({batch, rows, cols}), {garbage<T>(batch * rows * cols)},
          [&](auto k, auto y) { decltype(k)::transpose(batch, rows, cols, x.data(), y[0]); }, 0);
    }
  for (Index batch : {0, 1, 3})
    for (Index channels : {1, 3})
      for (auto [s, p] : {std::pair<Index, Index>{1, 1}, {3, 1}, {3, 3}, {21, 7}, {30, 5}}) {
        const Index side = s, patch = p, n = batch * channels * side * side;
        const auto x = random<T>(n, 1);
        conform<B, T>(
            "patchify " + text({batch, channels, side, patch}), {garbage<T>(n)},
            [&](auto k, auto y) {
              decltype(k)::patchify(batch, channels, side, patch, x.data(), y[0]);
            },
            0);
      }
}

TEST_CASE("indices repeat from item to item, and negative ones stay as they are") {
  const auto check = [](auto backend) {
    using B = decltype(backend);
    const std::vector<std::int32_t> first{0, -1, 4};
    std::vector<std::int32_t> y(9, 77);
    B::repeat_indices(3, first.data(), 3, 5, y.data());
    CHECK(y == std::vector<std::int32_t>{0, -1, 4, 5, -1, 9, 10, -1, 14});
    B::repeat_indices(3, first.data(), 2, 0, y.data());
    CHECK(y == std::vector<std::int32_t>{0, -1, 4, 0, -1, 4, 10, -1, 14});
    B::repeat_indices(3, first.data(), 0, 5, y.data());
    B::repeat_indices(0, nullptr, 3, 5, y.data());
    CHECK(y.back() == 14);
  };
  check(Reference{});
  check(CpuBackend{});
}
