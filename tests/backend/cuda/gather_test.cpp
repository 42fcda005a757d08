// CUDA kernels that pick, add up, mix and normalise rows, against the reference backend.
#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendRows<Cuda, float> && BackendRows<Cuda, double>);

/// The sum by target must have the reference's bits; `offset` elements before x and dx take away
/// their alignment.
template <class T>
void same_sums(Index targets, Index cols, const std::vector<std::int32_t>& index,
               Index offset = 0) {
  const auto rows = static_cast<Index>(index.size());
  CAPTURE(targets);
  CAPTURE(cols);
  CAPTURE(rows);
  const auto run = [&](auto b) {
    using B = decltype(b);
    const auto dy = tensor<T, B>(normal(rows * cols + offset, 1), {rows * cols + offset});
    const auto dx = tensor<T, B>(normal(targets * cols + offset, 2), {targets * cols + offset});
    const auto i = indices<B>(index);
    b.scatter_add_rows(rows, cols, dy.data() + offset, i.data(), dx.data() + offset);
    return values(dx);
  };
  const Values want = run(Reference{});
  CHECK(difference(run(Cuda{}), want) == 0);
}

template <class F>
std::vector<std::int32_t> chosen(Index rows, F f) {
  std::vector<std::int32_t> index;
  for (Index r = 0; r < rows; ++r) index.push_back(static_cast<std::int32_t>(f(r)));
  return index;
}

struct Matrix {
  Index rows, cols;
};
constexpr Matrix matrices[] = {{0, 5}, {1, 1}, {3, 17}, {33, 32}, {2, 600}, {300, 3}, {5, 0}};

}  // namespace

TEST_CASE_TEMPLATE("gather and scatter", T, float, double) {
  for (auto [rows, cols] : matrices) {
    const Index r = rows, n = cols;
    const std::string s = sizes({r, n});
    // Repeated, descending, absent.
    const auto index = chosen(
        2 * r, [&](Index i) { return i % 5 == 4 ? -1 : (7 * i + 3) % std::max<Index>(r, 1); });
    conform<T>("gather_rows" + s, {normal(r * n, 1)}, index, {garbage(2 * r * n)},
               [&](auto k, auto& x, auto i, auto& y) {
                 k.gather_rows(2 * r, n, x[0].data(), i, y[0].data());
               });
    same_sums<T>(r, n, index);
  }
  same_sums<T>(6, 8, {5, 0, -1, 5, 3, 3}, 1);  // no aligned address
  conform<T>("gather_rows unaligned", {normal(25, 1)}, {2, -1, 0}, {garbage(13)},
             [&](auto k, auto& x, auto i, auto& y) {
               k.fill(1, T(0), y[0].data());
               k.gather_rows(3, 4, x[0].data() + 1, i, y[0].data() + 1);
             });
}

TEST_CASE_TEMPLATE("scatter: few targets with many sources, and permutations", T, float, double) {
  same_sums<T>(1, 5, chosen(700, [](Index) { return 0; }));
  same_sums<T>(1, 4, chosen(700, [](Index r) { return r % 50 ? -1 : 0; }));  // class tokens
  same_sums<T>(49, 3, chosen(600, [](Index r) { return r % 49; }));          // positions
  same_sums<T>(257, 36, chosen(257, [](Index r) { return 100 * r % 257; }));
  same_sums<T>(30, 2, chosen(33, [](Index) { return -1; }));
}

TEST_CASE_TEMPLATE("scatter: more rows than are compared with each other", T, float, double) {
  // A sort of several tiles. Targets of one, two and three digits of it; one digit that is the same
  // everywhere; negative ones in between.
  same_sums<T>(1, 3, chosen(2500, [](Index) { return 0; }));
  same_sums<T>(200, 2, chosen(5000, [](Index r) { return 7 * r % 201 - 1; }));
  same_sums<T>(9001, 1, chosen(9001, [](Index r) { return 1000 * r % 9001; }));
  same_sums<T>(5 * 256, 1, chosen(4097, [](Index r) { return r % 5 * 256; }));
  same_sums<T>(70000, 1, chosen(4096, [](Index r) { return r % 3 ? 17 * r : -7; }));
  same_sums<T>(2, 1, chosen(2049, [](Index) { return INT32_MIN; }));
  if constexpr (std::is_same_v<T, float>)
    same_sums<T>((1 << 24) + 300, 1,
                 chosen(2200, [](Index r) { return r % 2 ? (1 << 24) + r / 8 : r; }));
}

TEST_CASE_TEMPLATE("mix_rows", T, float, double) {
  struct Case {
    Index batch, outputs, inputs, cols;
  };
  for (const auto& c : {Case{0, 3, 5, 2}, Case{1, 1, 1, 1}, Case{3, 1, 65, 17}, Case{2, 17, 3, 65},
                        Case{2, 65, 17, 36}, Case{3, 4, 7, 3300}}) {
    std::vector<std::int32_t> index{0}, column;
    for (Index o = 0; o < c.outputs; ++o) {
      for (Index i = 0; i < c.inputs; ++i)
        if (o != 1 && (o + i) % 3 != 1)
          column.push_back(static_cast<std::int32_t>(i));  // output 1 takes nothing and is zero
      index.push_back(static_cast<std::int32_t>(column.size()));
    }
    index.insert(index.end(), column.begin(), column.end());
    conform<T>(
        "mix_rows" + sizes({c.batch, c.outputs, c.inputs, c.cols}),
        {normal(static_cast<Index>(column.size()), 1), normal(c.batch * c.inputs * c.cols, 2)},
        index, {garbage(c.batch * c.outputs * c.cols)}, [&](auto k, auto& x, auto i, auto& y) {
          k.mix_rows(c.batch, c.outputs, c.inputs, c.cols, i, i + c.outputs + 1, x[0].data(),
                     x[1].data(), y[0].data());
        });
  }
}

TEST_CASE_TEMPLATE("normalize_rows", T, float, double) {
  for (auto [rows, cols] : matrices)
    for (double size : {1.0, 1e-30, 1e30, 0.0}) {
      const Index r = rows, n = cols;
      Values x0 = normal(r * n, 1, size);
      if (r > 1) std::fill_n(x0.begin(), n, 0.0);  // with a row of zeros
      conform<T>("normalize_rows" + sizes({r, n}), {x0}, {}, {garbage(r * n), garbage(r)},
                 [&](auto k, auto& x, auto, auto& y) {
                   k.normalize_rows(r, n, x[0].data(), y[0].data(), y[1].data());
                 });
      if (size != 1) continue;
      Values unit(x0.size()), norm(static_cast<std::size_t>(r));
      Reference::normalize_rows(r, n, x0.data(), unit.data(), norm.data());
      for (double& l : norm) l = std::max(l, 1e-3);  // else the gradient is of size 1e12
      if (r > 1) norm[0] = 1e-12;
      Values dy = normal(r * n, 3);
      if (r > 1) std::fill_n(dy.begin(), n, 1e-12);
      conform<T>("normalize_rows_backward" + sizes({r, n}), {unit, norm, dy}, {}, {garbage(r * n)},
                 [&](auto k, auto& x, auto, auto& y) {
                   k.normalize_rows_backward(r, n, x[0].data(), x[1].data(), x[2].data(),
                                             y[0].data());
                 });
    }
}

TEST_CASE_TEMPLATE("patchify", T, float, double) {
  for (Index batch : {0, 1, 3})
    for (Index channels : {1, 3})
      for (auto [s, p] : {Matrix{1, 1}, Matrix{3, 1}, Matrix{3, 3}, Matrix{21, 7}, Matrix{24, 8},
                          Matrix{11, 4}}) {
        const Index side = s, patch = p, n = side / patch * patch;
        conform<T>("patchify" + sizes({batch, channels, side, patch}),
                   {normal(batch * channels * side * side, 1)}, {},
                   {garbage(batch * channels * n * n)}, [&](auto k, auto& x, auto, auto& y) {
                     k.patchify(batch, channels, side, patch, x[0].data(), y[0].data());
                   });
      }
}
