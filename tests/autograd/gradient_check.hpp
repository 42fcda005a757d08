#pragma once
// Gradients of a differentiable operation against central differences, in double.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "hybridmed/autograd/attention.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"

#define BACKENDS Reference, CpuBackend

namespace hybridmed::test {

template <class B>
using X = Tensor<double, B>;
template <class B>
using Var = Variable<double, B>;
template <class B>
using Slot = GradientSlot<double, B>;

template <class B>
X<B> random(const Shape& shape, std::uint64_t stream, double size = 1, double shift = 0) {
  std::vector<double> v(static_cast<std::size_t>(shape.size()));
  const Philox p(11, stream);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = shift + size * p.normal(i);
  return X<B>::from_host(v, shape);
}
template <class B>
IndexTensor<B> indices(const std::vector<std::int32_t>& v) {
  return IndexTensor<B>::from_host(v, {static_cast<Index>(v.size())});
}
template <class B>
Segments<B> segments(const std::vector<Index>& lengths) {
  std::vector<std::int32_t> ranges;
  Index at = 0;
  for (Index n : lengths) {
    ranges.push_back(static_cast<std::int32_t>(at));
    ranges.push_back(static_cast<std::int32_t>(at += n));
  }
  return Segments<B>(ranges, at);
}

template <class B>
std::vector<double> host(const Slot<B>& s, Index n) {
  return s.grad.defined() ? s.grad.to_host() : std::vector<double>(static_cast<std::size_t>(n));
}
/// max|a - b| / max(max|b|, floor): a difference quotient is exact to about 1e-10, so gradients
/// below 0.01 count as that.
inline double error(const std::vector<double>& a, const std::vector<double>& b,
                    double floor = 1e-2) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0, largest = floor;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i]))
      return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(b[i]));
  }
  return worst / largest;
}

/// Checks everything about one operation at one point. f takes a vector of Variables or of plain
/// Tensors.
/// - plain Tensors give the same result and record nothing, and so do Variables without slots or
/// under NoGrad;
/// - the gradient of <random weights, f> equals central differences for every input;
/// - any subset of the inputs may be frozen: the others get the same gradient, the frozen ones
/// none;
/// - a second pass adds the same gradient once more, and no memory stays behind.
template <class B, class F>
void check(const std::string& what, const std::vector<X<B>>& inputs, F&& f, double step = 1e-6,
           double bound = 1e-6) {
  INFO(what << " on " << B::name);
  const auto in_use = HostArena::instance().statistics().in_use;
  {
    const X<B> plain = f(inputs);
    const auto y0 = plain.to_host();
    const X<B> weight = random<B>(plain.shape(), 999);
    const auto loss = [&](const std::vector<X<B>>& x) {
      const X<B> y = f(x);
      double s = 0;
      for (Index i = 0; i < y.size(); ++i) s += y.data()[i] * weight.data()[i];
      return s;
    };
    std::vector<std::vector<double>> expected;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      auto moved = inputs;
      moved[i] = inputs[i].clone();
      std::vector<double> g;
      for (Index e = 0; e < inputs[i].size(); ++e) {
        double& x = moved[i].data()[e];
        const double x0 = x;
        x = x0 + step;
        const double up = x, above = loss(moved);
        x = x0 - step;
        const double down = x, below = loss(moved);
        x = x0;
        g.push_back((above - below) / (up - down));
      }
      expected.push_back(std::move(g));
    }

    Tape tape;
    const RecordOn on(tape);
    CHECK(f(inputs).to_host() == y0);
    CHECK(tape.size() == 0);
    const auto run = [&](unsigned wanted, int times) {
      std::vector<Slot<B>> slots(inputs.size());
      std::vector<Var<B>> x;
      for (std::size_t i = 0; i < inputs.size(); ++i)
        x.emplace_back(inputs[i], wanted >> i & 1u ? &slots[i] : nullptr);
      {
        const NoGrad off;
        CHECK(f(x).tensor.to_host() == y0);
      }
      CHECK(tape.size() == 0);
      for (int t = 0; t < times; ++t) {
        const Var<B> y = f(x);
        CHECK(y.tensor.to_host() == y0);
        CHECK(y.shape() == plain.shape());
        if (wanted == 0) {
          CHECK(tape.size() == 0);
          CHECK(y.slot == nullptr);
        } else if (y.slot) {
          y.slot->add(weight.clone());
          tape.backward();
          CHECK(tape.size() == 0);
        }
      }
      return slots;
    };
    const unsigned all = (1u << inputs.size()) - 1;
    const auto full = run(all, 1), twice = run(all, 2);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      INFO("input " << i);
      const auto g = host(full[i], inputs[i].size());
      CHECK(error(g, expected[i]) <= bound);
      auto doubled = g;
      for (double& d : doubled) d *= 2;
      CHECK(error(host(twice[i], inputs[i].size()), doubled) <= 1e-12);
    }
    for (unsigned wanted = 0; wanted < all; ++wanted) {
      INFO("wanted inputs " << wanted);
      const auto some = run(wanted, 1);
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (wanted >> i & 1u)
          CHECK(host(some[i], inputs[i].size()) == host(full[i], inputs[i].size()));
        else
          CHECK_FALSE(some[i].grad.defined());
      }
    }
  }
  CHECK(HostArena::instance().statistics().in_use == in_use);
}

inline const std::pair<Activation, const char*> activations[] = {
    {Activation::identity, "identity"},
    {Activation::relu, "relu"},
    {Activation::gelu, "gelu"},
    {Activation::gelu_tanh, "gelu_tanh"}};

/// Random values at least 0.01 away from the kink of relu.
template <class B>
X<B> off_zero(const Shape& shape, std::uint64_t stream) {
  X<B> x = random<B>(shape, stream);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] += x.data()[i] < 0 ? -0.01 : 0.01;
  return x;
}

inline bool from(const std::string& message, const std::string& operation) {
  return message.rfind("[hybridmed.autograd] " + operation + ": ", 0) == 0;
}

}  // namespace hybridmed::test
