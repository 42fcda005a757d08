#pragma once
// CUDA memory. A context (context.hpp) keeps what is freed, in blocks of size classes over a pool
// of its own, so that a step that ran once asks the driver for nothing when it runs again. Where
// the variable HYBRIDMED_CUDA_NO_CACHE is set when a context is made, each request goes to the
// driver as it is: for tools that look for accesses outside of an allocation.
#include <cstddef>
#include <utility>

#include "hybridmed/backend/cuda/context.hpp"

namespace hybridmed::cuda {

struct Pinned;  // staging.cuh

/// Number of usable devices; 0 where there is none or no driver.
int device_count() noexcept;

/// Waits until everything issued to the current context so far has run.
/// @throws Error when one of it failed.
void synchronize();

/// Device memory of the current context, in bytes.
struct MemoryStatistics {
  std::size_t in_use = 0;        ///< handed out now; each request counts as its size class
  std::size_t peak = 0;          ///< most ever handed out at once
  std::size_t reserved = 0;      ///< taken from the device: in use, or kept for the next request
  std::size_t driver_calls = 0;  ///< requests to the driver so far, for device or pinned memory
};
MemoryStatistics memory_statistics();

/// A few bytes on their way to the host: read() waits for them, and for nothing that was issued
/// later. Holds pinned memory of its context meanwhile.
class Download {
 public:
  static constexpr std::size_t most_bytes = 4096;

  Download() = default;
  /// Begins the copy, in the order of the current context.
  /// @throws Error where it is of more than most_bytes, or the device refuses.
  Download(const void* device, std::size_t bytes);
  ~Download();
  Download(Download&& o) noexcept
      : context_(std::exchange(o.context_, nullptr)), pinned_(o.pinned_), bytes_(o.bytes_) {}
  Download& operator=(Download&& o) noexcept {
    Download taken(std::move(o));
    std::swap(context_, taken.context_);
    std::swap(pinned_, taken.pinned_);
    std::swap(bytes_, taken.bytes_);
    return *this;
  }
  /// @throws Error when something before it failed.
  void read(void* host) const;

 private:
  Context::State* context_ = nullptr;
  Pinned* pinned_ = nullptr;
  std::size_t bytes_ = 0;
};

struct Memory {
  using Download = cuda::Download;
  /// @throws OutOfMemory when the device has too little, also after its contexts have given back
  /// what they keep; Error when there is no device.
  static void* allocate(std::size_t bytes);
  /// Also memory of another context than the current one: in the order of the stream it belongs to,
  /// after what the current one has been given so far.
  static void deallocate(void* p) noexcept;
  /// The host array may change as soon as this returns; nothing waits, as long as pinned memory is
  /// left.
  static void copy_from_host(const void* host, void* device, std::size_t bytes);
  /// Waits for everything issued to the current context before.
  static void copy_to_host(const void* device, void* host, std::size_t bytes);
};

}  // namespace hybridmed::cuda
