// Gradients of normalisation.
#include "hybridmed/autograd/norm.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// A backend without the fused kernel.
struct Unfused : CpuBackend {
  template <class T>
  static void add_norm(Index, const T*) = delete;
};
static_assert(BackendFusedAddNorm<Reference, float> && BackendFusedAddNorm<CpuBackend, double>);
static_assert(!BackendFusedAddNorm<Unfused, double>);
/// A backend that has it and serves no shape.
struct Unserved : CpuBackend {
  template <class T>
  static bool add_norm(Index, Index, const T*, const T*, const T*, const T*, double, T*, T*, T*,
                       T*) {
    return false;
  }
};

template <class T, class B>
struct Case {
  Tensor<T, B> x, y, gain, bias, dsum, dnorm;
  Case(Index rows, Index cols) {
    std::uint64_t stream = 0;
    for (auto* t : {&x, &y, &dsum, &dnorm}) *t = drawn({rows, cols}, ++stream);
    for (auto* t : {&gain, &bias}) *t = drawn({cols}, ++stream);
  }
  static Tensor<T, B> drawn(const Shape& shape, std::uint64_t stream) {
    Tensor<T, B> t(shape);
    B::fill_normal(t.size(), Philox(1, stream), 1, t.data());
    return t;
  }
};

/// Outputs and gradients of add_norm, or of add and layer_norm; `wanted` inputs, `given` outputs.
template <class T, class B>
std::vector<std::vector<T>> add_norm_run(const Case<T, B>& c, bool fused, unsigned wanted,
                                         unsigned given) {
  using V = Variable<T, B>;
  Tape tape;
  const RecordOn on(tape);
  GradientSlot<T, B> s[4];
  const auto in = [&](const Tensor<T, B>& t, unsigned i) {
    return V(t, wanted >> i & 1u ? &s[i] : nullptr);
  };
  const V x = in(c.x, 0), y = in(c.y, 1), gain = in(c.gain, 2), bias = in(c.bias, 3);
  V sum, norm;
  if (fused) {
    std::tie(sum, norm) = add_norm(x, y, gain, bias, 1e-5);
    CHECK(tape.size() == (wanted ? 1 : 0));
  } else {
    sum = add(x, y);
    norm = layer_norm(sum, gain, bias, 1e-5);
  }
  CHECK((sum.slot != nullptr) == ((wanted & 3u) != 0));
  CHECK((norm.slot != nullptr) == (wanted != 0));
  std::vector<std::vector<T>> all{sum.tensor.to_host(), norm.tensor.to_host()};
  std::vector<std::pair<V, Tensor<T, B>>> roots;
  if (given & 1u) roots.emplace_back(sum, c.dsum);
  if (given & 2u) roots.emplace_back(norm, c.dnorm);
  backward(std::span<const std::pair<V, Tensor<T, B>>>(roots));
  for (const auto& slot : s)
    all.push_back(slot.grad.defined() ? slot.grad.to_host() : std::vector<T>());
  return all;
}

template <class T, class B>
void add_norm_bits() {
  CAPTURE(B::name);
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {17, 3}, {0, 5}, {70, 130}}) {
    const Case<T, B> c(rows, cols);
    for (unsigned wanted = 0; wanted < 16; ++wanted)
      for (unsigned given = 1; given < 4; ++given)
        CHECK(add_norm_run(c, true, wanted, given) == add_norm_run(c, false, wanted, given));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("add_norm has the bits of add and layer_norm", T, float, double) {
  add_norm_bits<T, Reference>();
  add_norm_bits<T, CpuBackend>();
  add_norm_bits<T, Unfused>();
  add_norm_bits<T, Unserved>();
}

TEST_CASE_TEMPLATE("gradients of add_norm", B, BACKENDS) {
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {17, 3}, {0, 5}}) {
    const auto gain = random<B>({cols}, 2, 0.3, 1), bias = random<B>({cols}, 3),
               x0 = random<B>({rows, cols}, 1, 2, 0.5), y0 = random<B>({rows, cols}, 4, 2);
    check<B>("both outputs", {x0, y0, gain, bias}, [](const auto& x) {
      const auto [sum, norm] = add_norm(x[0], x[1], x[2], x[3], 1e-5);
      return add(sum, multiply(norm, sum));
    });
    check<B>("the norm alone", {x0, y0, gain, bias},
             [](const auto& x) { return add_norm(x[0], x[1], x[2], x[3], 1e-5).second; });
    check<B>("x + x", {x0, gain, bias}, [](const auto& x) {
      const auto [sum, norm] = add_norm(x[0], x[0], x[1], x[2], 1e-5);
      return add(add(sum, norm), x[0]);
    });
  }
}

TEST_CASE_TEMPLATE("gradients of layer_norm", B, BACKENDS) {
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {17, 3}, {0, 5}, {1, 65}}) {
    const auto gain = random<B>({cols}, 2, 0.3, 1), bias = random<B>({cols}, 3);
    check<B>("layer_norm", {random<B>({rows, cols}, 1, 2, 0.5), gain, bias},
             [](const auto& x) { return layer_norm(x[0], x[1], x[2], 1e-5); });
  }
  const auto gain = random<B>({5}, 2, 0.3, 1), bias = random<B>({5}, 3);
  // Equal elements: the standard deviation is sqrt(eps) alone; eps as in BERT would need a smaller
  // step than rounding allows.
  check<B>("layer_norm of a constant row", {X<B>::full({2, 5}, 0.7), gain, bias},
           [](const auto& x) { return layer_norm(x[0], x[1], x[2], 1e-4); });
}

TEST_CASE_TEMPLATE("gradients of batch_norm", B, BACKENDS) {
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {17, 3}, {0, 5}, {65, 1}}) {
    const Index n = cols;
    const auto x0 = random<B>({rows, n}, 1, 2, 0.5), gain = random<B>({n}, 2, 0.3, 1),
               bias = random<B>({n}, 3), mean = random<B>({n}, 4), rstd = random<B>({n}, 5, 0.1, 1);
    check<B>("batch_norm with fixed statistics", {x0, gain, bias},
             [&](const auto& x) { return batch_norm(x[0], x[1], x[2], mean, rstd, false); });
    if (rows == 0) continue;  // no statistics
    check<B>("batch_norm with its own statistics", {x0, gain, bias}, [&](const auto& x) {
      X<B> m({n}), v({n});
      B::column_moments(value(x[0]).rows(), n, value(x[0]).data(), m.data(), v.data());
      B::reciprocal_sqrt(n, v.data(), 1e-3, v.data());
      return batch_norm(x[0], x[1], x[2], m, v, true);
    });
  }
}
