#pragma once
// A step as one launch: what a function issues is captured as a CUDA graph, and run again from it.
// What differs from one run to the next lies in device memory: BackendReplay in
// backend/concept.hpp says what a kernel may read on the host.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "hybridmed/core/philox.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed::cuda {

/// A captured graph with the memory that it uses: blocks that no one else gets, and the host
/// numbers that it brings to the device. It keeps its context's stream and handles alive.
class Recording {
 public:
  Recording() = default;
  ~Recording();
  Recording(Recording&& o) noexcept : state_(std::exchange(o.state_, nullptr)) {}
  Recording& operator=(Recording&& o) noexcept {
    Recording taken(std::move(o));
    std::swap(state_, taken.state_);
    return *this;
  }

 private:
  friend struct Replay;
  struct State;
  State* state_ = nullptr;
};

struct Replay {
  using Recording = cuda::Recording;

  /// Calls `issue` once and runs nothing of it. What it issues to the current context is recorded;
  /// it must not wait, nor read on the host, and no other thread may use the context meanwhile.
  /// Tensors that it makes and keeps lie in the recording's memory: each run writes them again.
  /// @throws what `issue` throws, and Error where the device cannot record it; nothing has run
  /// then.
  static Recording record(const std::function<void()>& issue);
  /// Runs what was recorded, in the order of its context, which must be the current one.
  static void replay(const Recording& recording);
  /// From device memory to device memory.
  static void move(const void* from, void* to, std::size_t bytes);
  /// dropout_mask with random->fork(site), where `random` is in device memory.
  template <class T>
  static void dropout_mask(Index n, const Philox* random, std::uint64_t site, double p, T* y);
};

}  // namespace hybridmed::cuda
