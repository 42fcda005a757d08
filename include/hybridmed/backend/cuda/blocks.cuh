#pragma once
// Device memory of one context: blocks that come from its pool and stay with it, so that a step
// asks the driver for nothing from the second one on. Everything runs in the order of the context's
// stream: a block that is given back may be handed out at once, since what the next owner does
// comes after what the last one did. Never included by a host compiler.
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "hybridmed/backend/cuda/context.hpp"
#include "hybridmed/backend/cuda/memory.hpp"

namespace hybridmed::cuda {

/// Size classes: eight in each power of two, so that less than an eighth of a block is lost; of 512
/// bytes at least.
struct SizeClass {
  static constexpr std::size_t smallest = 512;
  static constexpr int per_octave = 8, most = 8 + 8 * 44;
  int index;
  std::size_t bytes;
  explicit SizeClass(std::size_t wanted);
};

/// A piece of device memory, handed out or free.
struct Block {
  void* memory = nullptr;
  std::size_t bytes = 0, asked = 0;  // of the block; of the request that it serves
  int size_class = 0;
  Context::State* context = nullptr;
  bool recorded = false;  // does a recorded step use it?
  bool in_use = false;
  Block* next = nullptr;  // in the list of free ones
};

/// Free blocks by size class, the last one given back first: it is the likeliest to be in a cache.
class FreeBlocks {
 public:
  /// Null where there is none of that class or of one that is at most half as large again.
  Block* take(const SizeClass& wanted) noexcept;
  void put(Block* block) noexcept;
  /// All of them, as one list.
  Block* take_all() noexcept;

 private:
  std::array<Block*, SizeClass::most> first_{};
};

class Blocks {
 public:
  explicit Blocks(Context::State& context);
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;

  /// @throws OutOfMemory, after what this and the other contexts of the device keep was given back.
  void* allocate(std::size_t bytes);
  /// Gives memory of any context back to it, after what `here` (null: nobody) has been given so
  /// far.
  static void release(void* p, Context::State* here) noexcept;
  /// Hands free blocks back to the driver.
  void trim() noexcept;
  MemoryStatistics statistics() const;

  // While a step is recorded, and as long as recorded ones live, memory that they use belongs to
  // them: it is handed out to recordings alone. They share it, since they run one after the other.
  void begin_recording();
  /// What was given back meanwhile and may be read by the step: for the recording to hold.
  std::vector<Block*> end_recording() noexcept;
  /// One recording less. `held`: what it has held.
  void drop_recording(const std::vector<Block*>& held) noexcept;
  /// Only the thread that records asks for memory of the context then.
  bool recording() const { return recording_.load(std::memory_order_relaxed); }

 private:
  void* from_driver(const SizeClass& size, std::size_t wanted);
  void give_back(Block* block) noexcept;
  void free_to_driver(Block* list) noexcept;

  Context::State& context_;
  const bool exact_;  // each request goes to the driver as it is
  mutable std::mutex mutex_;
  FreeBlocks free_, recorded_free_;
  std::vector<Block*> recorded_;  // every block that recordings use
  std::vector<Block*> held_;      // given back while a step was recorded that may read them
  int recordings_ = 0;
  std::atomic<bool> recording_{false};
  MemoryStatistics statistics_;
};

}  // namespace hybridmed::cuda
