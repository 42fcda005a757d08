// Gradients of selecting, stacking, mixing and normalising rows.
#include "hybridmed/autograd/rows.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gradients of row selections", B, BACKENDS) {
  const auto x0 = random<B>({5, 3}, 1), none = random<B>({0, 3}, 2), other = random<B>({7, 3}, 3);
  for (const auto& list :
       {std::vector<std::int32_t>{0, 4, 4, -1, 2, 4, -3, 0}, {}, {-1, -1}, {3}}) {
    const auto index = indices<B>(list);
    check<B>("gather_rows", {x0}, [&](const auto& x) { return gather_rows(x[0], index); });
  }
  check<B>("gather_rows of nothing", {none},
           [index = indices<B>({-1, -1})](const auto& x) { return gather_rows(x[0], index); });
  for (auto [a, b] : {std::pair<Index, Index>{1, 3}, {0, 5}, {2, 2}, {0, 1}, {4, 5}, {5, 5}})
    check<B>("slice_rows", {x0}, [a = a, b = b](const auto& x) { return slice_rows(x[0], a, b); });
  check<B>("slice_rows of a slice", {x0},
           [](const auto& x) { return slice_rows(slice_rows(x[0], 1, 5), 1, 3); });
  check<B>("stack_rows", {x0, other}, [](const auto& x) { return stack_rows(x[0], x[1]); });
  check<B>("stack_rows on nothing", {none, other},
           [](const auto& x) { return stack_rows(slice_rows(x[0], 0, 0), x[1]); });
  check<B>("stack_rows, x on x", {x0}, [](const auto& x) { return stack_rows(x[0], x[0]); });
}

TEST_CASE_TEMPLATE("stack_rows with an empty part is the other part", B, BACKENDS) {
  Tape tape;
  const RecordOn on(tape);
  Slot<B> sa, sb;
  const Var<B> a(random<B>({3, 2}, 1), &sa), none(random<B>({0, 2}, 2), &sb);
  CHECK(stack_rows(a, none).slot == &sa);
  CHECK(stack_rows(none, a).slot == &sa);
  CHECK(stack_rows(none, none).rows() == 0);
  CHECK(tape.size() == 0);
}

TEST_CASE_TEMPLATE("gradients of row operations", B, BACKENDS) {
  for (Index rows : {0, 1, 5}) {
    const auto x0 = random<B>({rows, 17}, 1), v = random<B>({17}, 2);
    check<B>("add_row_vector", {x0, v}, [](const auto& x) { return add_row_vector(x[0], x[1]); });
    check<B>("normalize_rows", {x0}, [](const auto& x) { return normalize_rows(x[0]); });
    check<B>("reshape", {x0}, [=](const auto& x) { return reshape(x[0], {17, rows}); });
  }
  check<B>("reshape to five extents", {random<B>({6, 4}, 1)}, [](const auto& x) {
    return reshape(x[0], {1, 2, 3, 2, 2});
  });
  const RowMixing<double, B> mixing(3, 5,
                                    {0.5, 0.25, 0, 0, 0.25, 0, 0, 0, 0, 0, -1, 0, 2, 0,
                                     0.3});  // one output takes nothing, one input goes nowhere
  for (Index batch : {0, 1, 3})
    check<B>("mix_rows", {random<B>({batch * 5, 7}, 1)},
             [&](const auto& x) { return mix_rows(x[0], mixing); });
}

TEST_CASE("a map of squares is the product of both sides, entry by entry") {
  using B = Reference;
  const Index out = 3, in = 5;
  const std::vector<double> axis{1, 0, 0, 0, 0, 0, 0.3, 0.7, 0, 0, 0, 0, 0, 0.5, 0.5};
  std::vector<double> dense;
  for (Index y = 0; y < out; ++y)
    for (Index x = 0; x < out; ++x)
      for (Index i = 0; i < in; ++i)
        for (Index j = 0; j < in; ++j)
          dense.push_back(axis[static_cast<std::size_t>(y * in + i)] *
                          axis[static_cast<std::size_t>(x * in + j)]);
  const RowMixing<double, B> whole(out * out, in * in, dense);
  const auto squares = RowMixing<double, B>::of_squares(out, in, axis);
  CHECK(squares.outputs == whole.outputs);
  CHECK(squares.inputs == whole.inputs);
  const auto same = [](const auto& a, const auto& b) {
    CHECK(a.start.to_host() == b.start.to_host());
    CHECK(a.column.to_host() == b.column.to_host());
    CHECK(a.weight.to_host() == b.weight.to_host());
  };
  same(squares.forward, whole.forward);
  same(squares.transposed, whole.transposed);
}

TEST_CASE_TEMPLATE("gradient of normalize_rows at a zero row", B, BACKENDS) {
  // Below length 1e-12 the divisor is a constant: the differences must stay below it as well.
  check<B>(
      "a zero row", {X<B>::zeros({1, 5})}, [](const auto& x) { return normalize_rows(x[0]); },
      1e-14);
  // Beside other rows it changes nothing for them, and nothing becomes NaN.
  X<B> x0 = random<B>({3, 5}, 1);
  for (Index c = 0; c < 5; ++c) x0.data()[5 + c] = 0;
  Tape tape;
  const RecordOn on(tape);
  Slot<B> s;
  const Var<B> y = normalize_rows(Var<B>(x0, &s));
  const auto w = random<B>({3, 5}, 2);
  y.slot->add(w);
  tape.backward();
  for (Index r : {0, 2}) {
    Slot<B> alone;
    normalize_rows(Var<B>(x0.row_slice(r, r + 1), &alone)).slot->add(w.row_slice(r, r + 1));
    tape.backward();
    CHECK(s.grad.row_slice(r, r + 1).to_host() == alone.grad.to_host());
  }
  for (Index c = 0; c < 5; ++c) {
    CHECK(y.tensor.data()[5 + c] == 0);
    CHECK(s.grad.data()[5 + c] == doctest::Approx(w.data()[5 + c] * 1e12));
  }
}
