#pragma once
// A bf16 kernel against the same kernel in double, over the same numbers, all of which bf16 (or
// float, where a kernel takes float) holds: a result in bf16 may be off by half an ulp and the
// error of float arithmetic, one in float by the latter alone.
#include "backend/conformance.hpp"

#include <deque>

#include "hybridmed/backend/concept.hpp"

namespace hybridmed::test {

using Doubles = std::vector<double>;

inline Doubles halves(Index n, std::uint64_t stream, double size = 1, double shift = 0) {
  Doubles x = random<double>(n, stream, size, shift);
  for (double& v : x) v = bfloat16(static_cast<float>(v));
  return x;
}
inline Doubles floats(Index n, std::uint64_t stream, double size = 1, double shift = 0) {
  Doubles x = random<double>(n, stream, size, shift);
  for (double& v : x) v = static_cast<float>(v);
  return x;
}
inline Doubles rounded(Doubles x) {
  for (double& v : x) v = bfloat16(static_cast<float>(v));
  return x;
}
/// Distance of the bf16 numbers around x.
inline double ulp(double x) { return std::ldexp(1.0, std::max(std::ilogb(x), -126) - 7); }

/// What an output holds before, and how exact it must become: off by `slack` times its own size,
/// the size of the terms that it is the sum of, or that of the largest output. Slack below 0: every
/// bit.
struct Output {
  enum class Of { own, terms, largest };
  Doubles before;
  double slack = 2e-6;
  Of of = Of::terms;
  bool wide = false;

  static Output exact(Doubles x) { return {std::move(x), -1, Of::own, false}; }
  static Output sum(Doubles x, double slack = 2e-6, Of of = Of::terms) {
    return {std::move(x), slack, of, true};
  }
};

/// The arguments of a kernel in one precision: T for what is computed in, A for sums.
template <class B_, class T_>
class Arguments {
 public:
  using B = B_;
  using T = T_;
  using A = accumulator_of<T>;

  /// `sizes`: of every number its size, so that a sum comes out as the sum of its terms' sizes.
  Arguments(const std::vector<Output>& outputs, bool sizes) : sizes_(sizes) {
    for (const Output& o : outputs) {
      narrow_.emplace_back(o.wide ? Values<T>() : converted<T>(o.before));
      wide_.emplace_back(o.wide ? converted<A>(o.before) : Values<A>());
    }
  }
  const T* x(const Doubles& v) { return inputs_.emplace_back(converted<T>(v)).data(); }
  const A* wide(const Doubles& v) { return wide_inputs_.emplace_back(converted<A>(v)).data(); }
  A factor(double x) const { return static_cast<A>(sizes_ ? std::abs(x) : x); }
  T* y(std::size_t i) { return narrow_[i].data(); }
  A* sum(std::size_t i) { return wide_[i].data(); }
  bool intact(std::size_t i) const { return narrow_[i].intact() && wide_[i].intact(); }
  Doubles result(std::size_t i) const {
    const Values<T> narrow = narrow_[i].values();
    const Values<A> wide = wide_[i].values();
    return wide.empty() ? Doubles(narrow.begin(), narrow.end()) : Doubles(wide.begin(), wide.end());
  }

 private:
  template <class S>
  Values<S> converted(const Doubles& v) const {
    Values<S> out;
    out.reserve(v.size() + 1);  // what is empty has an address too
    for (double x : v) out.push_back(static_cast<S>(static_cast<A>(sizes_ ? std::abs(x) : x)));
    return out;
  }
  bool sizes_;
  std::deque<Guarded<T>> narrow_;
  std::deque<Guarded<A>> wide_;
  std::deque<Values<T>> inputs_;
  std::deque<Values<A>> wide_inputs_;
};

/// How many elements of a result are not what they must be; `want` in double.
inline Index wrong(const Output& o, const Doubles& got, const Doubles& want, const Doubles& terms) {
  constexpr double beyond = 0x1p128;  // where bf16 and float are infinite
  double largest = 0;
  for (double w : want)
    if (std::isfinite(w)) largest = std::max(largest, std::abs(w));
  Index count = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    double g = got[i], w = want[i];
    if (std::isnan(w) || std::isnan(g)) {
      count += std::isnan(w) != std::isnan(g);
      continue;
    }
    if (o.slack < 0) {
      count += g != static_cast<double>(bfloat16(static_cast<float>(w)));
      continue;
    }
    if (w == o.before[i]) {  // what a kernel does not touch, it leaves as it was
      count += g != w;
      continue;
    }
    g = std::clamp(g, -beyond, beyond);
    w = std::clamp(w, -beyond, beyond);
    const double size = o.of == Output::Of::own     ? std::abs(w)
                        : o.of == Output::Of::terms ? terms[i]
                                                    : largest;
    const double bound = o.slack * std::min(size, beyond) + (o.wide ? 0x1p-149 : 0.5 * ulp(w));
    if (!(std::abs(g - w) <= bound)) {
      if (count++ == 0) MESSAGE("element " << i << ": expected " << w << ", got " << g);
    }
  }
  return count;
}

/// Runs `kernel(arguments)` for bf16 on B and for `Scalar` on `Oracle`, and compares all outputs.
template <class B, class Oracle, class Scalar, class F>
void check_against(const std::string& what, const std::vector<Output>& outputs, F&& kernel) {
  INFO(what << " on " << std::string(B::name));
  Arguments<B, bfloat16> mine(outputs, false);
  Arguments<Oracle, Scalar> theirs(outputs, false);
  Arguments<Reference, double> terms(outputs, true);
  kernel(mine);
  kernel(theirs);
  const bool sized = std::any_of(outputs.begin(), outputs.end(),
                                 [](const Output& o) { return o.of == Output::Of::terms; });
  if (sized) kernel(terms);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    INFO("output " << i);
    CHECK(mine.intact(i));
    CHECK(wrong(outputs[i], mine.result(i), theirs.result(i), terms.result(i)) == 0);
  }
}
/// Against the reference in double.
template <class B, class F>
void check(const std::string& what, const std::vector<Output>& outputs, F&& kernel) {
  check_against<B, Reference, double>(what, outputs, kernel);
}

/// What an output that is overwritten held before.
inline Doubles nothing(Index n) { return garbage<double>(n); }

}  // namespace hybridmed::test
