#pragma once
// What the benchmarks share: the machine's floating-point peak (fused multiply-adds on registers
// only, all threads active), times, inputs, and the comparison with the reference.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "hybridmed/core/philox.hpp"
#include "hybridmed/core/tensor.hpp"

namespace hybridmed::bench {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// GFLOP/s of one thread: 12 independent accumulators hide the latency of the multiply-add units.
inline double fma_rate_of_this_thread() {
  typedef float Vector __attribute__((vector_size(vector_bytes)));
  constexpr int accumulators = 12, rounds = 1 << 22;  // 12 and two operands fit 16 registers
  Vector a[accumulators], x, y;
  for (int l = 0; l < vector_bytes / 4; ++l) {
    x[l] = 0.999f + 1e-6f * static_cast<float>(l);
    y[l] = 1e-6f;
  }

#pragma GCC unroll 16
  for (int i = 0; i < accumulators; ++i) a[i] = x;
  const double t = seconds_now();
  for (int r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < accumulators; ++i) {
      a[i] = a[i] * x + y;
      asm volatile("" : "+x"(a[i]));  // keep every accumulator in a register
    }
  }
  const double elapsed = seconds_now() - t;
  return 2.0 * accumulators * rounds * (vector_bytes / 4) / elapsed / 1e9;
}

/// Sum over `threads` threads running together; the best of three tries.
inline double peak_gflops(int threads) {
  double best = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    std::vector<double> rate(static_cast<std::size_t>(threads));
    std::vector<std::thread> team;
    for (auto& r : rate) team.emplace_back([&r] { r = fma_rate_of_this_thread(); });
    for (auto& t : team) t.join();
    double sum = 0;
    for (double r : rate) sum += r;
    best = std::max(best, sum);
  }
  return best;
}

/// Seconds of one call of f, the best of five rounds of 20 calls; `wait` ends a round.
template <class F, class W = void (*)()>
double fastest(
    F&& f, W wait = [] {}) {
  constexpr int repeats = 20;
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    wait();
    const double start = seconds_now();
    for (int i = 0; i < repeats; ++i) f();
    wait();
    best = std::min(best, (seconds_now() - start) / repeats);
  }
  return best;
}

/// A tensor of a stream of normal numbers, the same on every backend.
template <class Backend>
Tensor<float, Backend> normal(const Shape& s, std::uint64_t stream, double stddev = 1) {
  Tensor<float, Backend> t(s);
  Backend::fill_normal(t.size(), Philox(7, stream), stddev, t.data());
  return t;
}

/// Ends the program where a result is off: a wrong kernel is not worth timing.
inline void compare(const char* what, const std::vector<float>& a, const std::vector<float>& b,
                    double tolerance = 1e-4) {
  if (a.size() != b.size()) {
    std::fprintf(stderr, "%s: %zu numbers, the reference has %zu\n", what, a.size(), b.size());
    std::exit(1);
  }
  double diff = 0, top = 0;
  for (std::size_t i = 0; i < a.size() && diff == diff; ++i) {  // a NaN stays
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= diff)) diff = d;
    top = std::max(top, std::abs(static_cast<double>(b[i])));
  }
  if (!(diff <= tolerance * top)) {
    std::fprintf(stderr, "%s: differs from the reference by %g of %g\n", what, diff, top);
    std::exit(1);
  }
}

}  // namespace hybridmed::bench
