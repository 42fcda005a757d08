#pragma once
// The CUDA backend beside the roofline's recorder: each call is declared there, runs here, and its
// launches and bytes are counted (counting.cuh).
#include <cuda_runtime.h>

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "counts.hpp"
#include "cuda_launches.hpp"
#include "hybridmed/backend/cuda/backend.hpp"
#include "roofline/recorder.hpp"

namespace hybridmed::test {

/// Launches and bytes of a call, or of several.
struct Moved {
  double launches = 0;
  double bytes = 0;  ///< each byte once a launch
  double again = 0;  ///< of accesses to bytes that the launch had touched before

  void add(const Moved& o) {
    launches += o.launches;
    bytes += o.bytes;
    again += o.again;
  }
};

/// Counts what kernels touch, launch by launch.
class Counter {
 public:
  static Counter& instance() {
    static Counter counter;
    return counter;
  }
  /// From here on, of calls of this thread.
  void restart() {
    take();
    launch_shall_fail = [] {
      instance().next_launch();
      return false;
    };
  }
  void stop() { launch_shall_fail = nullptr; }
  bool running() const { return launch_shall_fail != nullptr; }
  /// What was touched since the last call of this.
  Moved take() {
    check(cudaDeviceSynchronize());
    Accesses now{};
    check(cudaMemcpy(&now, device_, sizeof now, cudaMemcpyDeviceToHost));
    if (now.elsewhere > 0) fail("bytes", "count", "accesses outside of the memory that is counted");
    const Moved moved{static_cast<double>(std::exchange(launches_, 0)),
                      static_cast<double>(now.read + now.written),
                      static_cast<double>(now.repeated)};
    now.read = now.written = now.repeated = 0;
    check(cudaMemcpy(device_, &now, sizeof now, cudaMemcpyHostToDevice));
    return moved;
  }

 private:
  /// Cells for the memory around the first block that the context hands out: more than the tests
  /// take.
  Counter() {
    constexpr unsigned long long below = 64ull << 20, bytes = 512ull << 20;
    void* const block = Cuda::allocate(1 << 20);
    Accesses a{};
    a.first = (reinterpret_cast<unsigned long long>(block) - below) / 16 * 16;
    a.cells = bytes / 16;
    check(cudaMalloc(reinterpret_cast<void**>(&a.cell), a.cells * sizeof *a.cell));
    check(cudaMemset(a.cell, 0, a.cells * sizeof *a.cell));
    check(cudaMalloc(reinterpret_cast<void**>(&device_), sizeof a));
    check(cudaMemcpy(device_, &a, sizeof a, cudaMemcpyHostToDevice));
    for (const auto& tell : counting_sources()) tell(device_);
    check(cudaDeviceSynchronize());
    Cuda::deallocate(block);
  }
  void next_launch() {
    ++launches_;
    const unsigned long long number = ++launch_;
    check(cudaDeviceSynchronize());
    check(cudaMemcpy(&device_->launch, &number, sizeof number, cudaMemcpyHostToDevice));
  }
  static void check(cudaError_t status) {
    if (status != cudaSuccess) fail("bytes", "count", cudaGetErrorString(status));
  }

  Accesses* device_ = nullptr;
  unsigned long long launch_ = 0;
  long launches_ = 0;
};

struct Counted {
  static constexpr const char* name = "counted";

  /// One call: what its kernels declare and what was counted.
  struct Call {
    std::string name;
    Moved declared, counted;
    bool by_library = false;  ///< a product, a copy of the driver's: nothing of it is declared here
  };
  static inline std::vector<Call> calls;

  template <class D, class R>
  static auto count(const char* call, D declare, R run) {
    auto& ledger = roofline::ledger;
    ledger.clear();
    Counter& counter = Counter::instance();
    if (counter.running()) counter.take();
    declare();
    const auto finish = [&] {
      if (!counter.running()) return;
      Call c{call, {}, counter.take()};
      for (const auto& e : ledger.entries()) {
        if (e.library)
          c.by_library = true;
        else
          c.declared.add({static_cast<double>(e.launches), e.touched(), e.again});
      }
      calls.push_back(std::move(c));
    };
    if constexpr (std::is_void_v<decltype(run())>) {
      run();
      finish();
    } else {
      auto result = run();
      finish();
      return result;
    }
  }

  static void* allocate(std::size_t bytes) { return Cuda::allocate(bytes); }
  static void deallocate(void* p) noexcept { Cuda::deallocate(p); }
  static void copy_from_host(const void* host, void* device, std::size_t bytes) {
    roofline::Recorder::copy_from_host(host, device, bytes);
    Cuda::copy_from_host(host, device, bytes);
  }
  static void copy_to_host(const void* device, void* host, std::size_t bytes) {
    Cuda::copy_to_host(device, host, bytes);
  }

#define HYBRIDMED_COUNT(f)                                                               \
  template <class... P>                                                                  \
  static auto f(const P&... p) {                                                         \
    return count(                                                                        \
        #f, [&] { return roofline::Recorder::f(p...); }, [&] { return Cuda::f(p...); }); \
  }
  HYBRIDMED_COUNT(fill)
  HYBRIDMED_COUNT(copy)
  HYBRIDMED_COUNT(convert)
  HYBRIDMED_COUNT(add)
  HYBRIDMED_COUNT(multiply)
  HYBRIDMED_COUNT(divide)
  HYBRIDMED_COUNT(scale)
  HYBRIDMED_COUNT(axpy)
  HYBRIDMED_COUNT(scale_by)
  HYBRIDMED_COUNT(dot)
  HYBRIDMED_COUNT(sum)
  HYBRIDMED_COUNT(exponential)
  HYBRIDMED_COUNT(logarithm)
  HYBRIDMED_COUNT(clamp)
  HYBRIDMED_COUNT(reciprocal_sqrt)
  HYBRIDMED_COUNT(activation)
  HYBRIDMED_COUNT(activation_backward)
  HYBRIDMED_COUNT(sigmoid_cross_entropy)
  HYBRIDMED_COUNT(sigmoid_cross_entropy_backward)
  HYBRIDMED_COUNT(fill_normal)
  HYBRIDMED_COUNT(dropout_mask)
  HYBRIDMED_COUNT(squared_norm)
  HYBRIDMED_COUNT(gemm)
  HYBRIDMED_COUNT(linear)
  HYBRIDMED_COUNT(add_vector)
  HYBRIDMED_COUNT(column_sum)
  HYBRIDMED_COUNT(layer_norm)
  HYBRIDMED_COUNT(add_norm)
  HYBRIDMED_COUNT(layer_norm_backward)
  HYBRIDMED_COUNT(add_norm_backward)
  HYBRIDMED_COUNT(cross_entropy)
  HYBRIDMED_COUNT(distillation)
  HYBRIDMED_COUNT(soft_cross_entropy)
  HYBRIDMED_COUNT(symmetric_cross_entropy)
  HYBRIDMED_COUNT(sinkhorn)
  HYBRIDMED_COUNT(local_scores)
  HYBRIDMED_COUNT(local_scores_backward)
  HYBRIDMED_COUNT(token_alignment)
  HYBRIDMED_COUNT(token_alignment_backward)
  HYBRIDMED_COUNT(repeat_indices)
  HYBRIDMED_COUNT(gather_rows)
  HYBRIDMED_COUNT(scatter_add_rows)
  HYBRIDMED_COUNT(mix_rows)
  HYBRIDMED_COUNT(normalize_rows)
  HYBRIDMED_COUNT(normalize_rows_backward)
  HYBRIDMED_COUNT(transpose)
  HYBRIDMED_COUNT(patchify)
  HYBRIDMED_COUNT(attention)
  HYBRIDMED_COUNT(attention_backward)
  HYBRIDMED_COUNT(column_moments)
  HYBRIDMED_COUNT(batch_norm)
  HYBRIDMED_COUNT(batch_norm_backward)
  HYBRIDMED_COUNT(conv2d)
  HYBRIDMED_COUNT(conv2d_backward_input)
  HYBRIDMED_COUNT(conv2d_backward_weight)
  HYBRIDMED_COUNT(max_pool)
  HYBRIDMED_COUNT(max_pool_backward)
#undef HYBRIDMED_COUNT

// These are called with their scalar said.
#define HYBRIDMED_COUNT(f)                                              \
  template <class T, class... P>                                        \
  static void f(Index rows, Index classes, const T* z, const P&... p) { \
    count(                                                              \
        #f, [&] { roofline::Recorder::f(rows, classes, z, p...); },     \
        [&] { Cuda::f(rows, classes, z, p...); });                      \
  }
  HYBRIDMED_COUNT(cross_entropy_backward)
  HYBRIDMED_COUNT(distillation_backward)
  HYBRIDMED_COUNT(soft_cross_entropy_backward)
#undef HYBRIDMED_COUNT

  template <class M>
  struct AdamWList {
    Cuda::AdamWList<M> cuda;
    roofline::Recorder::AdamWList<M> noted;
    void assign(std::span<const AdamWTensor<M>> all) {
      cuda.assign(all);
      noted.assign(all);
    }
  };
  template <class M>
  static void gradient_norm(const AdamWList<M>& list, const M* loss, StepState* state) {
    count(
        "gradient_norm", [&] { roofline::Recorder::gradient_norm(list.noted, loss, state); },
        [&] { Cuda::gradient_norm(list.cuda, loss, state); });
  }
  template <class M>
  static void adamw(const AdamWList<M>& list, const AdamWArgs& a) {
    count(
        "adamw", [&] { roofline::Recorder::adamw(list.noted, a); },
        [&] { Cuda::adamw(list.cuda, a); });
  }
  template <class M>
  static void adamw(Index n, const AdamWArgs& a, const M* g, M* m, M* v, M* p) {
    count(
        "adamw", [&] { roofline::Recorder::adamw(n, a, g, m, v, p); },
        [&] { Cuda::adamw(n, a, g, m, v, p); });
  }
};

}  // namespace hybridmed::test
