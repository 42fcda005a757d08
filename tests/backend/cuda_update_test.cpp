// The update of all parameters at once against the reference's, one tensor at a time: tensors of
// many sizes, empty ones, without gradient, at any address.
#include "backend/cuda/conformance.hpp"
#include "hybridmed/optim/adamw.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendAdamWList<Cuda, float> && BackendAdamWList<Cuda, double>);
static_assert(!BackendAdamWList<Reference, float> && !BackendAdamWList<CpuBackend, double>);

// More than one chunk, not a multiple of a vector, empty, one element.
constexpr Index sizes_of_all[] = {3, 0, 8192, 1, 20001, 257, 0, 64};

/// Parameters of those sizes, some without gradient, some frozen.
template <class T, class B>
struct Many {
  std::vector<Parameter<T, B>> w;
  Many() {
    std::uint64_t seed = 0;
    for (Index n : sizes_of_all) {
      w.emplace_back(n % 2 ? Shape{n} : Shape{n, 1}, init::zeros());
      w.back().value = tensor<T, B>(normal(n, ++seed), w.back().value.shape());
    }
  }
  void set_gradients(int step, double factor = 1) {
    for (std::size_t i = 0; i < w.size(); ++i)
      if (i != 3)
        w[i].slot.grad = tensor<T, B>(
            normal(w[i].value.size(), 100 * static_cast<std::uint64_t>(step) + i, factor),
            w[i].value.shape());
  }
  template <class F>
  void visit(F&& f) {
    for (std::size_t i = 0; i < w.size(); ++i) f("w" + std::to_string(i), w[i]);
  }
};

template <class T, class B>
Values after_steps(int steps, double factor, bool freeze, const std::vector<double>& losses = {}) {
  Many<T, B> m;
  optim::AdamW<T, B> o(m, {.weight_decay = 0.1, .clip = 1});
  Values out;
  for (int k = 0; k < steps; ++k) {
    m.set_gradients(k, factor);
    if (freeze) m.w[4].trainable = k % 2 == 0;
    o.begin_step(1e-2);
    o.update(losses.empty() ? Tensor<T, B>()
                            : Tensor<T, B>::full(
                                  Shape{}, static_cast<T>(losses[static_cast<std::size_t>(k)])));
    out.push_back(std::isfinite(o.norm().read()) ? o.norm().read() : -1);
  }
  for (auto& e : o.entries())
    for (const auto& t : {e.parameter->value, e.m, e.v})
      for (double x : values(t)) out.push_back(x);
  return out;
}

template <class T>
void same(int steps, double factor, bool freeze, const std::vector<double>& losses = {}) {
  const Values want = after_steps<T, Reference>(steps, factor, freeze, losses),
               got = after_steps<T, Cuda>(steps, factor, freeze, losses);
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(got[i] - want[i]) <=
          tolerance<T> * std::max({1.0, std::abs(want[i]), std::abs(got[i])})))
      FAIL_CHECK(i << ": " << got[i] << " instead of " << want[i]);
}

}  // namespace

TEST_CASE_TEMPLATE("the update of many tensors at once equals the reference's", T, float, double) {
  same<T>(3, 1, false);
  same<T>(3, 1e-4, true);  // not clipped
  const double inf = std::numeric_limits<double>::infinity();
  same<T>(4, 1, false, {1, inf, std::nan(""), -2});
}

TEST_CASE("squares that overflow are summed as the reference does") {
  const Values want = after_steps<double, Reference>(2, 1e200, false),
               got = after_steps<double, Cuda>(2, 1e200, false);
  for (std::size_t i = 2; i < want.size(); ++i)
    CHECK(std::abs(got[i] - want[i]) <= 1e-9 * std::max(1.0, std::abs(want[i])));
}

TEST_CASE("two runs of one update give the same bits") {
  CHECK(after_steps<float, Cuda>(2, 1, false) == after_steps<float, Cuda>(2, 1, false));
}

TEST_CASE_TEMPLATE(
    "addresses change no bit of the norm, and bf16 copies are written with the update", T, float,
    double) {
  const Index n = 9000;
  const Values g = normal(n, 1), p = normal(n, 2);
  const auto run = [&](Index shift) {
    const auto at = [&](const Values& x) {
      Values all(static_cast<std::size_t>(shift), 7.0);
      all.insert(all.end(), x.begin(), x.end());
      return tensor<T, Cuda>(all, {n + shift});
    };
    const auto gradient = at(g), value = at(p), m = at(Values(g.size(), 0.0)),
               v = at(Values(g.size(), 0.0));
    const auto rounded = Tensor<bfloat16, Cuda>::from_host(std::vector<bfloat16>(9000), {n});
    const StepState now{0.1, 0.1, 0.001, 0, -1};
    const auto state = Tensor<StepState, Cuda>::from_host({&now, 1}, {1});
    Cuda::AdamWList<T> list;
    const AdamWTensor<T> one{n,
                             gradient.data() + shift,
                             m.data() + shift,
                             v.data() + shift,
                             value.data() + shift,
                             rounded.data(),
                             0.1};
    list.assign({&one, 1});
    Cuda::gradient_norm(list, static_cast<const T*>(nullptr), state.data());
    Cuda::adamw(list, AdamWArgs{.clip = 1, .step = state.data()});
    Values out = values(value);
    CHECK(Values(out.begin(), out.begin() + shift) == Values(static_cast<std::size_t>(shift), 7.0));
    out.erase(out.begin(), out.begin() + shift);
    const auto copy = rounded.to_host();
    for (std::size_t i = 0; i < copy.size(); ++i)
      if (copy[i].bits != bfloat16(static_cast<float>(out[i])).bits) FAIL_CHECK(i);
    out.push_back(state.item().squared_norm);
    return out;
  };
  const Values want = run(0);
  for (Index shift : {1, 2, 3}) CHECK(run(shift) == want);
}
