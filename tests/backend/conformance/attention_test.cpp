// Attention.
#include "backend/attention_cases.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("attention", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (const auto& c : attention_cases) {
    AttentionData<T> d(c);
    conform<B, T>(std::string("attention: ") + c.name,
                  {garbage<T>(d.q_rows * d.a.ldo), garbage<T>(d.q_rows * c.heads)},
                  [&](auto k, auto y) { attention_forward<decltype(k)>(d, y[0], y[1]); });
    const std::vector<Values<T>> gradients{
        garbage<T>(d.q_rows * d.a.ldq), garbage<T>(d.k_rows * d.a.ldk),
        garbage<T>(d.k_rows * d.a.ldv), random<T>(c.heads * c.area * c.area, 6)};
    for (bool with_bias : {false, true})
      if (!with_bias || c.bias)
        conform<B, T>(std::string("attention backward: ") + c.name, gradients, [&](auto k, auto y) {
          attention_backward<decltype(k)>(d, y[0], y[1], y[2], with_bias ? y[3] : nullptr);
        });
  }
}

TEST_CASE_TEMPLATE("attention to packed q, k, v in one matrix", P, ALL) {
  using T = typename P::scalar;
  // The layout of self_attention: three column blocks of one matrix, and of its gradient.
  const Index heads = 3, dim = 5, width = heads * dim, rows = 65 + 17;
  const std::vector<std::int32_t> ranges{0, 65, 65, 82};
  const auto qkv = random<T>(rows * 3 * width, 1), dout = random<T>(rows * width, 2);
  AttentionArgs<T> a;
  a.segments = 2;
  a.heads = heads;
  a.head_dim = dim;
  a.q_ranges = a.k_ranges = ranges.data();
  a.scale = T(0.4);
  a.q = qkv.data();
  a.k = a.q + width;
  a.v = a.k + width;
  a.ldq = a.ldk = a.ldv = 3 * width;
  a.ldo = width;
  conform<typename P::backend, T>(
      "packed", {garbage<T>(rows * width), garbage<T>(rows * heads), garbage<T>(rows * 3 * width)},
      [&](auto k, auto y) {
        AttentionArgs<T> f = a;
        f.out = y[0];
        f.lse = y[1];
        decltype(k)::attention(f);
        decltype(k)::attention_backward(
            f, AttentionGradients<T>{dout.data(), y[2], y[2] + width, y[2] + 2 * width, nullptr});
      });
}

namespace {

/// Case "mask" with minus infinity for -100; query 1 of every third segment sees no key.
template <class T>
struct ShutOut : AttentionData<T> {
  ShutOut() : AttentionData<T>({"mask", repeat(9, 7), repeat(9, 7), 2, 3, false, false, 3, 9}) {
    for (T& x : this->mask)
      if (x != T(0)) x = -std::numeric_limits<T>::infinity();
  }
};

}  // namespace

TEST_CASE_TEMPLATE("attention with a mask of minus infinity, some keys of every row left", P, ALL) {
  using T = typename P::scalar;
  ShutOut<T> d;
  for (std::size_t i = 0; i < d.mask.size(); i += 9) d.mask[i] = T(0);
  AttentionArgs<T> forward = d.a;
  forward.out = d.out.data();
  forward.lse = d.lse.data();
  Reference::attention(forward);
  const AttentionData<T>& data = d;
  conform<typename P::backend, T>(
      "forward", {filled<T>(d.q_rows * d.a.ldo, 0), filled<T>(d.q_rows * 2, 0)},
      [&](auto k, auto y) { attention_forward<decltype(k)>(data, y[0], y[1]); });
  conform<typename P::backend, T>(
      "backward",
      {filled<T>(d.q_rows * d.a.ldq, 0), filled<T>(d.k_rows * d.a.ldk, 0),
       filled<T>(d.k_rows * d.a.ldv, 0)},
      [&](auto k, auto y) {
        attention_backward<decltype(k)>(data, y[0], y[1], y[2], static_cast<T*>(nullptr));
      });
}

// Known not to hold: such a row becomes NaN on every backend. Models mask with finite values.
TEST_CASE_TEMPLATE(
    "a softmax over no key gives zeros, never NaN, with a mask of minus infinity too", P, ALL,
    On<Reference, float>, On<Reference, double>) {
  using T = typename P::scalar;
  const ShutOut<T> d;
  const AttentionData<T>& data = d;
  auto out = filled<T>(d.q_rows * d.a.ldo, 0), lse = filled<T>(d.q_rows * 2, 0);
  attention_forward<typename P::backend>(data, out.data(), lse.data());
  const auto row = out.begin() + (d.q_ranges[0] + 1) * d.a.ldo;
  CHECK(std::none_of(out.begin(), out.end(), [](T x) { return std::isnan(x); }));
  CHECK(std::all_of(row, row + d.width, [](T x) { return x == T(0); }));
}
