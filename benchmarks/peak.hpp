#pragma once
// The machine's floating-point peak: fused multiply-adds on registers only, all threads active.
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace hybridmed::bench {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

inline double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// GFLOP/s of one thread: 12 independent accumulators hide the latency of the multiply-add units.
inline double fma_rate_of_this_thread() {
  typedef float Vector __attribute__((vector_size(vector_bytes)));
  constexpr int accumulators = 12, rounds = 1 << 22;  // 12 and two operands fit 16 registers
  Vector a[accumulators], x, y;
  for (int l = 0; l < vector_bytes / 4; ++l) x[l] = 0.999f + 1e-6f * static_cast<float>(l), y[l] = 1e-6f;
  
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

}  // namespace hybridmed::bench
