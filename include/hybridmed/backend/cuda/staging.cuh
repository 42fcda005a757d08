#pragma once
// Copies between the host and one context. They pass through pinned memory that the context owns,
// so that the caller's memory is free again when a call returns and no copy waits for the whole
// stream. Never included by a host compiler.
#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "hybridmed/backend/cuda/context.hpp"

namespace hybridmed::cuda {

/// Pinned memory and the event after which nothing of the device uses it any more.
struct Pinned {
  std::byte* host = nullptr;
  std::byte* device = nullptr;  // where large uploads arrive, beside the stream; null at first
  cudaEvent_t done = nullptr;
  std::size_t used = 0;
};

class Staging {
 public:
  static constexpr std::size_t slot_bytes = std::size_t{4} << 20, most_slots = 32;
  /// Up to here an upload is one copy in the stream; a larger one crosses the bus on a stream of
  /// its own while kernels run, and moves to its place in their order.
  static constexpr std::size_t small = std::size_t{64} << 10;

  explicit Staging(Context::State& context) : context_(context) {}
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// The host array may change as soon as this returns. In a step that is recorded the bytes are
  /// kept, and brought to the device each time that it runs.
  void upload(const void* host, void* device, std::size_t bytes);
  /// Waits for what was issued before, and for nothing else.
  void download(const void* device, void* host, std::size_t bytes);
  /// The same in two halves, for a few bytes: see Download.
  Pinned* begin_download(const void* device, std::size_t bytes);
  void finish_download(const Pinned& pinned, void* host, std::size_t bytes);
  void drop_download(Pinned* pinned) noexcept;

  /// What the step that was recorded last uploads: pinned memory, for its owner to free.
  std::vector<std::byte*> take_recorded() noexcept;
  void close() noexcept;
  /// Times that pinned memory was asked for.
  std::size_t driver_calls() const { return driver_calls_.load(std::memory_order_relaxed); }

 private:
  void make(Pinned& slot, std::size_t bytes);
  void need_no_recording() const;
  Pinned& slot_for_upload();
  void upload_piece(const std::byte* from, std::byte* to, std::size_t bytes);
  void upload_recorded(const void* host, void* device, std::size_t bytes);

  Context::State& context_;
  mutable std::mutex mutex_, downloads_;
  std::vector<Pinned> ring_;  // of uploads
  std::size_t at_ = 0;
  Pinned down_[2];
  std::vector<std::unique_ptr<Pinned>> small_down_;
  std::vector<Pinned*> free_down_;  // those of them that no Download holds
  std::vector<std::byte*> recorded_;
  std::byte* recorded_at_ = nullptr;
  std::size_t recorded_room_ = 0;
  std::atomic<std::size_t> driver_calls_{0};
};

}  // namespace hybridmed::cuda
