#pragma once
// CUDA memory. It comes from a stream-ordered pool of the thread's current context (context.hpp),
// which keeps what is freed for the next step.
#include <cstddef>

namespace hybridmed::cuda {

/// Number of usable devices; 0 where there is none or no driver.
int device_count() noexcept;

/// Waits until everything issued to the current context so far has run.
/// @throws Error when one of it failed.
void synchronize();

/// The pool of the current context, in bytes, once everything issued to it so far has run.
struct MemoryStatistics {
  std::size_t in_use = 0;    ///< handed out now
  std::size_t peak = 0;      ///< most ever handed out at once
  std::size_t reserved = 0;  ///< taken from the device
};
MemoryStatistics memory_statistics();

struct Memory {
  /// @throws Error when the device is out of memory, or there is no device.
  static void* allocate(std::size_t bytes);
  /// Also memory of another context than the current one: in the order of the stream it belongs to,
  /// after what the current one has been given so far.
  static void deallocate(void* p) noexcept;
  /// The host array may change as soon as this returns.
  static void copy_from_host(const void* host, void* device, std::size_t bytes);
  /// Waits for everything issued to the current context before.
  static void copy_to_host(const void* device, void* host, std::size_t bytes);
};

}  // namespace hybridmed::cuda
