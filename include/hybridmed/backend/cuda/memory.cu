#include "hybridmed/backend/cuda/memory.hpp"

#include <functional>
#include <unordered_map>
#include <utility>

#include "hybridmed/backend/cuda/device.cuh"
#include "hybridmed/core/arena.hpp"

namespace hybridmed::cuda {

using State = Context::State;

namespace {

/// Whose memory is it? What is not written down here belongs to the default context, so a program
/// without another one pays the reading of a counter. Its nodes lie in the arena: no heap.
class Owners {
 public:
  static Owners& instance() {
    static Owners* owners = new Owners;  // static tensors may outlive every destructor order
    return *owners;
  }
  void add(const void* p, State& owner) {
    const std::lock_guard lock(mutex_);
    owners_.emplace(p, &owner);
    count_.store(owners_.size(), std::memory_order_relaxed);
    owner.retain();
  }
  /// Null for the default context. Who may free `p` has seen it allocated, and counted.
  State* take(const void* p) noexcept {
    if (count_.load(std::memory_order_relaxed) == 0) return nullptr;
    const std::lock_guard lock(mutex_);
    const auto at = owners_.find(p);
    if (at == owners_.end()) return nullptr;
    State* owner = at->second;
    owners_.erase(at);
    count_.store(owners_.size(), std::memory_order_relaxed);
    return owner;
  }

 private:
  using Entry = std::pair<const void* const, State*>;
  std::mutex mutex_;
  std::unordered_map<const void*, State*, std::hash<const void*>, std::equal_to<const void*>,
                     ArenaAllocator<Entry>>
      owners_;
  std::atomic<std::size_t> count_{0};
};

MemoryStatistics statistics_of(State& c) {
  check(cudaStreamSynchronize(c.stream), "memory_statistics");
  const auto read = [&](cudaMemPoolAttr attribute) {
    std::uint64_t value = 0;
    check(cudaMemPoolGetAttribute(c.pool, attribute, &value), "memory_statistics");
    return static_cast<std::size_t>(value);
  };
  return {read(cudaMemPoolAttrUsedMemCurrent), read(cudaMemPoolAttrUsedMemHigh),
          read(cudaMemPoolAttrReservedMemCurrent)};
}

}  // namespace

int device_count() noexcept {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

void synchronize() { check(cudaStreamSynchronize(current().stream), "synchronize"); }

MemoryStatistics memory_statistics() { return statistics_of(current()); }

void* allocate_in(State& c, std::size_t bytes) {
  void* p = nullptr;
  const auto ask = [&] {
    const cudaError_t status = cudaMallocFromPoolAsync(&p, bytes ? bytes : 1, c.pool, c.stream);
    if (status == cudaErrorMemoryAllocation)
      cudaGetLastError();  // not sticky: the next smaller request may succeed
    return status;
  };
  cudaError_t status = ask();
  if (status == cudaErrorMemoryAllocation) {
    give_back_pools(c.device);
    status = ask();
  }
  if (status == cudaErrorMemoryAllocation)
    fail("cuda", "allocate",
         "the device is out of memory for " + std::to_string(bytes) + " bytes; " +
             std::to_string(statistics_of(c).in_use) + " are in use by this context, on device " +
             std::to_string(c.device) + c.device_name,
         "a smaller batch needs less");
  check(status, "allocate");
  return p;
}
void free_in(State& c, void* p) noexcept { cudaFreeAsync(p, c.stream); }

void* Memory::allocate(std::size_t bytes) {
  State& c = current();
  void* p = allocate_in(c, bytes);
  if (!c.listed) return p;
  try {
    Owners::instance().add(p, c);
  } catch (...) {
    free_in(c, p);
    throw;
  }
  return p;
}
void Memory::deallocate(void* p) noexcept {
  if (!p) return;
  State *owner = Owners::instance().take(p), *here = current_if_made();
  State* home = owner ? owner : standard_if_made();
  if (!home) return;  // no context has ever been used: not memory of this backend
  const OnDevice on_device(*home);
  if (here && here != home) home->wait_for(*here);  // who frees may have been the last reader
  free_in(*home, p);
  if (owner) owner->release();
}
void Memory::copy_from_host(const void* host, void* device, std::size_t bytes) {
  // From pageable memory the call returns once the bytes are staged.
  if (bytes)
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, current().stream),
          "copy_from_host");
}
void Memory::copy_to_host(const void* device, void* host, std::size_t bytes) {
  if (!bytes) return;
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, current().stream),
        "copy_to_host");
  synchronize();
}

}  // namespace hybridmed::cuda
