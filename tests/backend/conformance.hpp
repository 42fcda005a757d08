#pragma once
// A kernel of a CPU backend against the reference backend's, over the same inputs.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"

namespace hybridmed::test {

template <class B, class T>
struct On {
  using backend = B;
  using scalar = T;
};

using Serial = Cpu<cpu::EigenGemm, executor::Serial>;
using Threads = Cpu<cpu::EigenGemm, executor::StdThread>;
#ifdef _OPENMP
using OpenMP = Cpu<cpu::EigenGemm, executor::OpenMP>;
#define EIGEN_OPENMP , On<OpenMP, float>, On<OpenMP, double>
#define EIGEN_PARALLEL \
  On<OpenMP, float>, On<OpenMP, double>, On<Threads, float>, On<Threads, double>
#else
#define EIGEN_OPENMP
#define EIGEN_PARALLEL On<Threads, float>, On<Threads, double>
#endif
#ifdef HYBRIDMED_WITH_ONEDNN  // a program of its own, since oneDNN is optional; Eigen's kernels are
                              // tested in the other one
using OneDnn = Cpu<cpu::OneDnnGemm>;
#define ALL On<OneDnn, float>, On<OneDnn, double>
#else
#define ALL \
  On<Serial, float>, On<Serial, double>, On<Threads, float>, On<Threads, double> EIGEN_OPENMP
#endif

/// Relative tolerance: the reference sums in double, so double differs by the order of a sum and
/// float by its own rounding.
template <class T>
constexpr double tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;

template <class T>
using Values = std::vector<T>;

template <class T>
Values<T> random(Index n, std::uint64_t stream, double size = 1, double shift = 0) {
  Values<T> v;
  v.reserve(static_cast<std::size_t>(n) + 1);  // an empty tensor has an address too
  v.resize(static_cast<std::size_t>(n));
  const Philox p(2024, stream);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(shift + size * p.normal(i));
  return v;
}
template <class T>
Values<T> filled(Index n, double x) {
  return Values<T>(static_cast<std::size_t>(n), static_cast<T>(x));
}
template <class T>
Values<T> garbage(Index n) {  // what an output that is overwritten held before
  return filled<T>(n, std::numeric_limits<double>::quiet_NaN());
}

/// An output buffer between sentinels.
template <class T>
class Guarded {
 public:
  explicit Guarded(const Values<T>& initial) : memory_(initial.size() + 2 * fence, sentinel()) {
    std::copy(initial.begin(), initial.end(), memory_.begin() + fence);
  }
  T* data() { return memory_.data() + fence; }
  std::size_t size() const { return memory_.size() - 2 * fence; }
  bool intact() const {
    for (std::size_t i = 0; i < fence; ++i)
      if (memory_[i] != sentinel() || memory_[memory_.size() - 1 - i] != sentinel()) return false;
    return true;
  }
  Values<T> values() const { return Values<T>(memory_.begin() + fence, memory_.end() - fence); }

 private:
  static constexpr std::ptrdiff_t fence = 32;
  static T sentinel() { return static_cast<T>(-98765.25); }
  Values<T> memory_;
};

/// max|a - b| / max(max|b|, scale). Equal infinities agree; an element that is NaN on both sides
/// was written by neither.
template <class T>
double error(const Values<T>& a, const Values<T>& b, double scale) {
  double worst = 0, largest = scale;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    if (x == y || (std::isnan(x) && std::isnan(y))) {
      if (std::isfinite(y)) largest = std::max(largest, std::abs(y));
      continue;
    }
    if (!std::isfinite(x) || !std::isfinite(y)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(x - y));
    largest = std::max(largest, std::abs(y));
  }
  return worst == 0 ? 0 : largest == 0 ? std::numeric_limits<double>::infinity() : worst / largest;
}

/// Runs `kernel(backend, outputs)` on B and on the reference, from the same initial outputs, and
/// compares all of them; the reference decides which elements a kernel writes. `scale`: what errors
/// are measured against when the results are differences of larger numbers and happen to be small.
template <class B, class T, class F>
void conform(const std::string& what, const std::vector<Values<T>>& initial, F&& kernel,
             double bound = tolerance<T>, double scale = 0) {
  INFO(what);
  std::vector<Guarded<T>> mine, theirs;
  for (const auto& v : initial) {
    mine.emplace_back(v);
    theirs.emplace_back(v);
  }
  std::vector<T*> p, q;
  for (std::size_t i = 0; i < initial.size(); ++i) {
    p.push_back(mine[i].data());
    q.push_back(theirs[i].data());
  }
  kernel(B{}, p);
  kernel(Reference{}, q);
  for (std::size_t i = 0; i < initial.size(); ++i) {
    INFO("output " << i);
    CHECK(mine[i].intact());
    CHECK(error(mine[i].values(), theirs[i].values(), scale) <= bound);
  }
}

template <class T>
double largest(const Values<T>& x) {
  double top = 0;
  for (T v : x) top = std::max(top, std::abs(static_cast<double>(v)));
  return top;
}
inline std::string text(std::initializer_list<Index> numbers) {
  std::string s;
  for (Index n : numbers) s += (s.empty() ? "" : " x ") + std::to_string(n);
  return s;
}

inline const std::vector<Index> lengths{
    0, 1, 3, 17, 65, 197, 32768, 32769, 100003};  // around one and several tiles of 2^15
inline const std::vector<std::pair<Index, Index>> matrices{
    {0, 3},    {1, 1},     {1, 65},  {3, 17},    {17, 3},   {65, 197},
    {197, 65}, {1025, 17}, {5, 257}, {2051, 33}, {3, 33000}};

}  // namespace hybridmed::test
