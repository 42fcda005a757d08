#pragma once
// The host arena: a two-level segregated-fit allocator (Masmano et al., TLSF, ECRTS 2004) over one
// reserved range of addresses. Blocks are split and merged in place, so any sequence of tensor
// sizes is served in O(1) without touching the heap; memory is committed by the operating system on
// first use and kept for the next step.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <string>

#include "hybridmed/core/error.hpp"
#include "hybridmed/core/memory.hpp"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define HYBRIDMED_ASAN
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define HYBRIDMED_ASAN
#endif
#ifdef HYBRIDMED_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace hybridmed {

/// What an arena holds and has held, in bytes.
struct ArenaStatistics {
  std::size_t in_use = 0;     ///< handed out now
  std::size_t peak = 0;       ///< most ever handed out at once
  std::size_t high_mark = 0;  ///< highest address ever used: the resident size of the arena
};

class HostArena {
 public:
  static constexpr std::size_t alignment = 64;

  static HostArena& instance() {
    static HostArena* arena =
        new HostArena;  // never destroyed: static tensors may outlive every destructor order
    return *arena;
  }

  /// 64-byte-aligned memory.
  /// @throws OutOfMemory where the machine does not have it.
  void* allocate(std::size_t bytes) {
    const std::size_t size = (bytes + alignment - 1) / alignment * alignment + sizeof(Block) +
                             (bytes == 0 ? alignment : 0);
    if (size < bytes)
      fail("core", "allocate", "a size of " + std::to_string(bytes) + " bytes overflows");
    std::lock_guard lock(mutex_);
    Block* b = take_free(size);
    if (!b) b = grow(size);
    split(b, size);
    b->free = false;
    stats_.in_use += b->size;
    if (stats_.in_use > stats_.peak) stats_.peak = stats_.in_use;
    poison(b + 1, b->size - sizeof(Block));
    unpoison(b + 1, bytes);
    return b + 1;
  }

  void deallocate(void* p) noexcept {
    if (!p) return;
    std::lock_guard lock(mutex_);
    Block* b = static_cast<Block*>(p) - 1;
    stats_.in_use -= b->size;
    poison(b + 1, b->size - sizeof(Block));
    if (Block* n = next(b); n && n->free) {
      remove(n);
      b->size += n->size;
    }
    if (b->previous && b->previous->free) {
      Block* q = b->previous;
      remove(q);
      q->size += b->size;
      b = q;
    }
    if (Block* n = next(b)) {
      n->previous = b;
      insert(b);
    } else {  // the last block: give it back to the untouched end
      top_ = reinterpret_cast<std::byte*>(b);
      last_ = b->previous;
    }
  }

  ArenaStatistics statistics() const {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }

 private:
  struct alignas(alignment) Block {
    std::size_t size = 0;       // including this header
    Block* previous = nullptr;  // the block just below in memory
    Block* next_free = nullptr;
    Block* prev_free = nullptr;
    bool free = false;
  };
  static constexpr int sub_bits = 4, first_level = 44;

  HostArena() {
    for (std::size_t bytes = std::size_t{1} << 40; bytes >= (std::size_t{1} << 28); bytes >>= 1) {
      void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) continue;
      ::madvise(p, bytes, MADV_HUGEPAGE);
      begin_ = top_ = static_cast<std::byte*>(p);
      end_ = begin_ + bytes;
      return;
    }
    fail("core", "HostArena", "the system refuses to reserve address space", "check `ulimit -v`");
  }

  /// Under the address sanitizer, what is not handed out may not be touched.
  static void poison([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef HYBRIDMED_ASAN
    ASAN_POISON_MEMORY_REGION(p, bytes);
#endif
  }
  static void unpoison([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef HYBRIDMED_ASAN
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
#endif
  }

  Block* next(Block* b) const {
    auto* p = reinterpret_cast<std::byte*>(b) + b->size;
    return p == top_ ? nullptr : reinterpret_cast<Block*>(p);
  }

  struct Bin {
    int first, sub;
  };
  static Bin bin_of(std::size_t size) {
    const int f = static_cast<int>(std::bit_width(size)) - 1;  // size >= 128, so f >= 7 > sub_bits
    return {f, static_cast<int>((size >> (f - sub_bits)) & ((1u << sub_bits) - 1))};
  }

  Block* take_free(std::size_t size) {
    // round up to the next bin so that every block found is large enough
    const std::size_t rounded =
        size + (std::size_t{1} << (std::bit_width(size) - 1 - sub_bits)) - 1;
    Bin b = bin_of(rounded);
    if (b.first >= first_level) return nullptr;
    std::uint32_t subs = sub_map_[static_cast<std::size_t>(b.first)] & (~0u << b.sub);
    if (!subs) {
      const std::uint64_t firsts = first_map_ & (~std::uint64_t{0} << (b.first + 1));
      if (!firsts) return nullptr;
      b.first = std::countr_zero(firsts);
      subs = sub_map_[static_cast<std::size_t>(b.first)];
    }
    b.sub = std::countr_zero(subs);
    Block* found = heads_[static_cast<std::size_t>(b.first)][static_cast<std::size_t>(b.sub)];
    remove(found);
    return found;
  }

  Block* grow(std::size_t size) {
    check_room(size);
    unpoison(top_, sizeof(Block));
    Block* b = ::new (top_) Block;
    b->size = size;
    b->previous = last_;
    last_ = b;
    top_ += size;
    if (const auto used = static_cast<std::size_t>(top_ - begin_); used > stats_.high_mark)
      stats_.high_mark = used;
    return b;
  }

  /// The range is reserved, not committed: without this, a request beyond the machine's memory
  /// would end the process when it is written to. Memory at hand is looked up again for every 64 MB
  /// that the arena has never used before.
  void check_room(std::size_t size) {
    const auto used = static_cast<std::size_t>(top_ - begin_);
    const auto refuse = [&](std::size_t available) {
      const auto megabytes = [](std::size_t n) { return std::to_string(n >> 20) + " MB"; };
      throw OutOfMemory("core", "allocate",
                        "out of memory: " + std::to_string(size) + " bytes (" + megabytes(size) +
                            ") asked for, " + megabytes(stats_.in_use) + " of tensors held, " +
                            megabytes(available) + " available");
    };
    if (static_cast<std::size_t>(end_ - top_) < size) refuse(static_cast<std::size_t>(end_ - top_));
    if (used + size <= checked_) return;
    const std::size_t fresh = used + size - stats_.high_mark, available = available_memory();
    if (fresh > available) refuse(available);
    checked_ = used + size + (std::min)(std::size_t{64} << 20, (available - fresh) / 2);
  }

  void split(Block* b, std::size_t size) {
    if (b->size < size + 2 * sizeof(Block)) return;
    unpoison(reinterpret_cast<std::byte*>(b) + size, sizeof(Block));
    Block* rest = ::new (reinterpret_cast<std::byte*>(b) + size) Block;
    rest->size = b->size - size;
    rest->previous = b;
    b->size = size;
    if (Block* n = next(rest)) {
      n->previous = rest;
      insert(rest);
    } else {
      top_ = reinterpret_cast<std::byte*>(rest);
      last_ = b;
    }
  }

  void insert(Block* b) {
    const Bin bin = bin_of(b->size);
    const auto f = static_cast<std::size_t>(bin.first), s = static_cast<std::size_t>(bin.sub);
    b->free = true;
    b->prev_free = nullptr;
    b->next_free = heads_[f][s];
    if (b->next_free) b->next_free->prev_free = b;
    heads_[f][s] = b;
    first_map_ |= std::uint64_t{1} << f;
    sub_map_[f] |= 1u << s;
  }

  void remove(Block* b) {
    const Bin bin = bin_of(b->size);
    const auto f = static_cast<std::size_t>(bin.first), s = static_cast<std::size_t>(bin.sub);
    (b->prev_free ? b->prev_free->next_free : heads_[f][s]) = b->next_free;
    if (b->next_free) b->next_free->prev_free = b->prev_free;
    if (!heads_[f][s]) {
      sub_map_[f] &= ~(1u << s);
      if (!sub_map_[f]) first_map_ &= ~(std::uint64_t{1} << f);
    }
    b->free = false;
  }

  mutable std::mutex mutex_;
  std::byte *begin_ = nullptr, *top_ = nullptr, *end_ = nullptr;
  Block* last_ = nullptr;
  std::size_t checked_ = 0;  // offset up to which memory was at hand
  ArenaStatistics stats_;
  std::uint64_t first_map_ = 0;
  std::array<std::uint32_t, first_level> sub_map_{};
  std::array<std::array<Block*, 1 << sub_bits>, first_level> heads_{};
};

/// Lets standard containers live in the arena, for small host arrays inside a training step.
template <class T>
struct ArenaAllocator {
  using value_type = T;
  ArenaAllocator() = default;
  template <class U>
  ArenaAllocator(const ArenaAllocator<U>&) noexcept {}
  T* allocate(std::size_t n) {
    return static_cast<T*>(HostArena::instance().allocate(n * sizeof(T)));
  }
  void deallocate(T* p, std::size_t) noexcept { HostArena::instance().deallocate(p); }
  friend bool operator==(const ArenaAllocator&, const ArenaAllocator&) noexcept { return true; }
};

}  // namespace hybridmed
