// AdamW against a recurrence written out by hand, and the learning-rate schedule against its
// formula.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <numbers>

#include "../support.hpp"
#include "hybridmed/optim/adamw.hpp"
#include "hybridmed/optim/schedule.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

template <class T, class B>
struct Inner {
  Parameter<T, B> kept{{3, 2}, init::zeros(), no_decay};
  Parameter<T, B> pos = leaf<T, B>(normal(6, 4), {3, 2});  // a name decides nothing
  Inner() { kept.value = tensor<T, B>(normal(6, 1), {3, 2}); }
  template <class F>
  void visit(F&& f) {
    f("kept", kept);
    f("pos", pos);
  }
};

/// One parameter of every decay group; `large` does not fit a kernel's tile; `idle` has no
/// gradient, `frozen` is not trained.
template <class T, class B>
struct Toy {
  Parameter<T, B> log_scale = leaf<T, B>({2.5}, {}), weight = leaf<T, B>(normal(12, 5), {3, 4}),
                  bias = leaf<T, B>(normal(4, 6), {4});
  Parameter<T, B> kernel = leaf<T, B>(normal(24, 7), {2, 3, 2, 2}),
                  large = leaf<T, B>(normal(101 * 99, 8), {101, 99});
  Parameter<T, B> idle = leaf<T, B>(normal(6, 9), {2, 3}),
                  frozen = leaf<T, B>(normal(6, 10), {2, 3});
  std::vector<Inner<T, B>> blocks{1};

  Toy() { frozen.trainable = false; }
  template <class F>
  void visit(F&& f) {
    f("log_scale", log_scale);
    f("weight", weight);
    f("bias", bias);
    f("kernel", kernel);
    f("large", large);
    f("idle", idle);
    f("frozen", frozen);
    f("blocks", blocks);
  }
};

const std::map<std::string, bool> decayed{
    {"log_scale", false}, {"weight", true}, {"bias", false},          {"kernel", true},
    {"large", true},      {"idle", true},   {"blocks.0.kept", false}, {"blocks.0.pos", true}};

/// Gradient of one parameter at one step. `idle` has none at all, `kernel` has none at step 2.
bool has_gradient(const std::string& name, int step) {
  return name != "idle" && !(name == "kernel" && step == 2);
}
Values gradient_of(const std::string& name, Index n, int step) {
  return normal(n, 100 + static_cast<std::uint64_t>(step) * 31 + name.size(),
                step == 3 ? 1e-4 : 0.3);
}

/// One scalar: Loshchilov & Hutter's algorithm 2 with decoupled decay times the rate.
struct Scalar {
  double p, m = 0, v = 0;
  void step(double g, double rate, double decay, int t, const optim::AdamWOptions& o) {
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    const double mhat = m / (1 - std::pow(o.beta1, t)), vhat = v / (1 - std::pow(o.beta2, t));
    p -= rate * decay * p + rate * mhat / (std::sqrt(vhat) + o.eps);
  }
};

template <class T, class B>
void follow(const optim::AdamWOptions& o) {
  constexpr bool exact = std::is_same_v<T, double>;
  Toy<T, B> toy;
  std::map<std::string, std::vector<Scalar>> want;
  nn::for_each_parameter(toy, [&](const std::string& name, Parameter<T, B>& p) {
    for (double x : values(p.value)) want[name].push_back({x});
  });
  const Values frozen = values(toy.frozen.value);
  optim::AdamW<T, B> optimizer(toy, o);
  CHECK(optimizer.entries().size() == decayed.size());
  for (int step = 0; step < 5; ++step) {
    double square = 0;
    nn::for_each_parameter(toy, [&](const std::string& name, Parameter<T, B>& p) {
      if (!has_gradient(name, step)) return;
      p.slot.grad = tensor<T, B>(gradient_of(name, p.value.size(), step), p.value.shape());
      if (p.trainable)
        for (double g : values(p.slot.grad)) square += g * g;
    });
    const double norm = std::sqrt(square),
                 factor = o.clip > 0 ? std::min(1.0, o.clip / (norm + 1e-6)) : 1.0,
                 rate = 1e-2 / (step + 1);
    if (o.clip == 1) CHECK((factor < 1) == (step != 3));  // both sides of the clip are walked
    const double got = optimizer.step(rate);
    CHECK(std::abs(got - norm) <= (exact ? 1e-12 : 1e-5) * norm);
    nn::for_each_parameter(toy, [&](const std::string& name, Parameter<T, B>& p) {
      if (!p.trainable) return;
      CHECK_FALSE(p.slot.grad.defined());
      Values g(static_cast<std::size_t>(p.value.size()), 0.0), expected;
      if (has_gradient(name, step))
        g = values(tensor<T, B>(gradient_of(name, p.value.size(), step), p.value.shape()));
      for (std::size_t i = 0; i < g.size(); ++i) {
        want[name][i].step(factor * g[i], rate, decayed.at(name) ? o.weight_decay : 0, step + 1, o);
        expected.push_back(want[name][i].p);
      }
      CAPTURE(name);
      CAPTURE(step);
      CHECK(difference(values(p.value), expected) <= (exact ? 1e-13 : 2e-6));
    });
    for (auto& e : optimizer.entries()) {
      Values m, v;
      for (const Scalar& s : want[e.name]) {
        m.push_back(s.m);
        v.push_back(s.v);
      }
      CAPTURE(e.name);
      CHECK(difference(values(e.m), m) <= (exact ? 1e-15 : 1e-7));
      CHECK(difference(values(e.v), v) <= (exact ? 1e-15 : 1e-8));
    }
  }
  CHECK(optimizer.steps() == 5);
  CHECK(difference(values(toy.frozen.value), frozen) == 0);
}

}  // namespace

#define BACKENDS \
  On<double, Reference>, On<double, CpuBackend>, On<float, Reference>, On<float, CpuBackend>

TEST_CASE_TEMPLATE("AdamW follows the scalar recurrence", X, BACKENDS) {
  follow<typename X::T, typename X::B>({});
  follow<typename X::T, typename X::B>({.9, .98, 1e-6, .2, 0});  // no clipping
  follow<typename X::T, typename X::B>(
      {.8, .99, 1e-8, 0, 1e6});  // a clip that never binds, no decay
}

TEST_CASE_TEMPLATE("what decays and what does not", X, BACKENDS) {
  Toy<typename X::T, typename X::B> toy;
  optim::AdamW<typename X::T, typename X::B> optimizer(toy, {});
  for (const auto& e : optimizer.entries()) {
    CAPTURE(e.name);
    CHECK(e.parameter->decays == decayed.at(e.name));
  }
}

TEST_CASE_TEMPLATE("without a gradient a parameter still decays and its moments shrink", X,
                   BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  Toy<T, B> toy;
  optim::AdamW<T, B> optimizer(toy, {});
  const Values start = values(toy.idle.value);
  optimizer.step(.1);
  Values want = start;
  for (double& x : want) x *= 1 - .1 * .05;
  CHECK(difference(values(toy.idle.value), want) <= 1e-6);  // decay alone: its moments are zero
  CHECK(largest(want) < largest(start));

  const auto entry = [&]() -> auto& {
    return *std::find_if(optimizer.entries().begin(), optimizer.entries().end(),
                         [](const auto& e) { return e.name == "idle"; });
  };
  toy.idle.slot.grad = tensor<T, B>({.1, .2, .3, -.1, -.2, -.3}, {2, 3});
  optimizer.step(.1);
  const Values m = values(entry().m), v = values(entry().v);
  CHECK(largest(m) > 0);
  optimizer.step(.1);
  Values less_m = m, less_v = v;
  for (double& x : less_m) x *= .9;
  for (double& x : less_v) x *= .999;
  CHECK(difference(values(entry().m), less_m) <= 1e-8);
  CHECK(difference(values(entry().v), less_v) <= 1e-10);
}

TEST_CASE("a discarded gradient changes nothing and a resumed step counter is used") {
  Toy<double, CpuBackend> toy;
  optim::AdamW<double, CpuBackend> optimizer(toy, {});
  const Values start = values(toy.weight.value);
  toy.weight.slot.grad = tensor<double, CpuBackend>(normal(12, 1), {3, 4});
  optimizer.discard();
  CHECK_FALSE(toy.weight.slot.grad.defined());
  CHECK(difference(values(toy.weight.value), start) == 0);

  optimizer.set_steps(9);
  const Values g = normal(12, 2, .01);
  toy.weight.slot.grad = tensor<double, CpuBackend>(g, {3, 4});
  optimizer.step(1e-2);
  Values want;
  for (std::size_t i = 0; i < g.size(); ++i) {
    Scalar s{start[i]};
    s.step(g[i], 1e-2, .05, 10, {});
    want.push_back(s.p);
  }
  CHECK(difference(values(toy.weight.value), want) <= 1e-14);
  CHECK(optimizer.steps() == 10);
}

TEST_CASE("WarmupCosine is a pure function of the step") {
  const auto formula = [](double peak, double warmup, double floor, double steps, double t) {
    return std::max(floor, peak * std::min(1.0, (t + 1) / (warmup * steps)) *
                               (0.5 + 0.5 * std::cos(std::numbers::pi * t / steps)));
  };
  for (const double warmup : {.05, .1, .4})
    for (const std::int64_t steps : {std::int64_t{20}, std::int64_t{200}, std::int64_t{1000}}) {
      const optim::WarmupCosine rate{3e-4, warmup, 1e-8, steps};
      double worst = 0;
      for (std::int64_t t = 0; t < steps; ++t)
        worst = std::max(worst,
                         std::abs(rate(t) - formula(3e-4, warmup, 1e-8, static_cast<double>(steps),
                                                    static_cast<double>(t))));
      CHECK(worst <= 1e-18);
    }
  const optim::WarmupCosine rate{1, .1, 0, 100};  // warm-up over ten steps
  CHECK(rate(0) == doctest::Approx(.1));
  CHECK(rate(9) == doctest::Approx(.5 + .5 * std::cos(std::numbers::pi * .09)));
  CHECK(rate(50) == doctest::Approx(.5));
  CHECK(rate(100) == doctest::Approx(0).epsilon(1e-12));
  CHECK(optim::WarmupCosine{1, .1, 1e-3, 100}(100) == 1e-3);  // the floor
  CHECK(optim::WarmupCosine{1, .1, 1e-3, 100}(250) == 1e-3);  // past the end: no second period
  CHECK(optim::WarmupCosine{1, 0, 0, 10}(0) == 1);            // no warm-up
}

namespace {
struct TwoWeights {
  Parameter<double, CpuBackend> a{{2, 2}, init::zeros()}, b{{2, 2}, init::zeros()};
  template <class F>
  void visit(F&& f) {
    f("a", a);
    f("b", b);
  }
};
}  // namespace

TEST_CASE(
    "a parameter that is frozen after the optimizer was made stays as it is, and one that is "
    "released meets an error") {
  using T = double;
  using B = CpuBackend;
  TwoWeights m;
  for (auto* p : {&m.a, &m.b}) p->value = Tensor<T, B>::full({2, 2}, 1);
  optim::AdamW<T, B> o(m, {});
  const auto give = [&](Parameter<T, B>& p) { p.slot.grad = Tensor<T, B>::full({2, 2}, 0.5); };
  give(m.a);
  give(m.b);
  m.b.trainable = false;
  const double norm = o.step(0.1);
  CHECK(norm == doctest::Approx(1));  // of a alone: sqrt(4 * 0.25)
  CHECK(m.a.value.to_host()[0] != 1);
  CHECK(m.b.value.to_host() == std::vector<T>(4, 1));
  CHECK_FALSE(m.b.slot.grad.defined());
  for (T x : o.entries()[1].m.to_host()) CHECK(x == 0);

  optim::AdamW<T, B> without(m, {});  // b is frozen now
  m.b.trainable = true;
  give(m.b);
  try {
    without.step(0.1);
    FAIL_CHECK("no error");
  } catch (const Error& e) {
    CHECK(std::string(e.what()).find("'b'") != std::string::npos);
  }
}

TEST_CASE(
    "AdamW refuses options, rates and gradients that make no sense, and changes nothing then") {
  using T = double;
  using B = CpuBackend;
  TwoWeights m;
  const double nan = std::nan(""), inf = HUGE_VAL;
  for (const optim::AdamWOptions& o : {optim::AdamWOptions{1, 0.999, 1e-8, 0, 1},
                                       {-0.1, 0.999, 1e-8, 0, 1},
                                       {0.9, 1, 1e-8, 0, 1},
                                       {0.9, nan, 1e-8, 0, 1},
                                       {0.9, 0.999, 0, 0, 1},
                                       {0.9, 0.999, inf, 0, 1},
                                       {0.9, 0.999, 1e-8, -1, 1},
                                       {0.9, 0.999, 1e-8, nan, 1},
                                       {0.9, 0.999, 1e-8, 0, -1},
                                       {0.9, 0.999, 1e-8, 0, inf}})
    CHECK_THROWS_AS((optim::AdamW<T, B>(m, o)), Error);
  optim::AdamW<T, B> o(m, {});
  const auto before = m.a.value.to_host();
  for (double rate : {-1.0, nan, inf}) CHECK_THROWS_AS(o.step(rate), Error);
  m.a.slot.grad = Tensor<T, B>::full({3, 2}, 1);  // of another shape than the weight
  CHECK_THROWS_AS(o.step(0.1), Error);
  CHECK(m.a.value.to_host() == before);
  CHECK(o.steps() == 0);
}
