#pragma once
// A bf16 kernel against the same kernel in double, over the same numbers, all of which bf16 (or
// float, where a kernel takes float) holds: a result in bf16 may be off by half an ulp and the
// error of float arithmetic, one in float by the latter alone.
#include "backend/conformance.hpp"

#include <deque>

#include "hybridmed/backend/concept.hpp"
#ifdef HYBRIDMED_TEST_CUDA  // a program of its own
#include "hybridmed/backend/cuda/backend.hpp"
#define BF16_BACKENDS Cuda
#else
#define BF16_BACKENDS Reference, CpuBackend
#endif

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

/// Numbers in memory of B, which an address is exact for: what is read or written beside them is
/// seen by a sanitizer, and by a launcher.
template <class S, class B>
class Held {
 public:
  explicit Held(Values<S> x) : host_(std::move(x)) {
    host_.reserve(host_.size() + 1);  // what is empty has an address too
    if constexpr (on_device) {
      device_ = static_cast<S*>(B::allocate(bytes() + 1));
      B::copy_from_host(host_.data(), device_, bytes());
    }
  }
  ~Held() {
    if constexpr (on_device) B::deallocate(device_);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  S* data() { return on_device ? device_ : host_.data(); }
  Values<S> values() const {
    Values<S> x = host_;
    if constexpr (on_device) B::copy_to_host(device_, x.data(), bytes());
    return x;
  }

 private:
  static constexpr bool on_device = !requires { requires B::host_memory; };
  std::size_t bytes() const { return host_.size() * sizeof(S); }
  Values<S> host_;
  S* device_ = nullptr;
};

/// An output between sentinels.
template <class S, class B>
class Fenced {
 public:
  explicit Fenced(const Values<S>& initial) : held_(fenced(initial)) {}
  S* data() { return held_.data() + fence; }
  bool intact() const {
    const auto x = held_.values();
    for (std::size_t i = 0; i < fence; ++i)
      if (x[i] != sentinel() || x[x.size() - 1 - i] != sentinel()) return false;
    return true;
  }
  Values<S> values() const {
    const auto x = held_.values();
    return Values<S>(x.begin() + fence, x.end() - fence);
  }

 private:
  static constexpr std::ptrdiff_t fence = 32;
  static S sentinel() { return static_cast<S>(-98765.25); }
  static Values<S> fenced(const Values<S>& x) {
    Values<S> all(x.size() + 2 * fence, sentinel());
    std::copy(x.begin(), x.end(), all.begin() + fence);
    return all;
  }
  Held<S, B> held_;
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
  const std::int32_t* index(const std::vector<std::int32_t>& v) {
    return indices_.emplace_back(v).data();
  }
  /// Room for n indices, which the test does not look at.
  std::int32_t* places(Index n) {
    return indices_.emplace_back(std::vector<std::int32_t>(static_cast<std::size_t>(n), -7)).data();
  }
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
    out.reserve(v.size());
    for (double x : v) out.push_back(static_cast<S>(static_cast<A>(sizes_ ? std::abs(x) : x)));
    return out;
  }
  bool sizes_;
  std::deque<Fenced<T, B>> narrow_;
  std::deque<Fenced<A, B>> wide_;
  std::deque<Held<T, B>> inputs_;
  std::deque<Held<A, B>> wide_inputs_;
  std::deque<Held<std::int32_t, B>> indices_;
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
