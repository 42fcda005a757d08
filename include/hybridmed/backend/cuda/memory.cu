#include "hybridmed/backend/cuda/memory.hpp"

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

int device_count() noexcept {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

void synchronize() { check(cudaStreamSynchronize(current().stream), "synchronize"); }

MemoryStatistics memory_statistics() {
  const Context::State& c = current();
  MemoryStatistics s = c.blocks.statistics();
  s.driver_calls += c.staging.driver_calls();
  return s;
}

void* Memory::allocate(std::size_t bytes) { return current().blocks.allocate(bytes); }
void Memory::deallocate(void* p) noexcept { Blocks::release(p, current_if_made()); }
void Memory::copy_from_host(const void* host, void* device, std::size_t bytes) {
  current().staging.upload(host, device, bytes);
}
void Memory::copy_to_host(const void* device, void* host, std::size_t bytes) {
  current().staging.download(device, host, bytes);
}

Download::Download(const void* device, std::size_t bytes) : bytes_(bytes) {
  Context::State& c = current();
  pinned_ = c.staging.begin_download(device, bytes);
  c.retain();
  context_ = &c;
}
Download::~Download() {
  if (!context_) return;
  context_->staging.drop_download(pinned_);
  context_->release();
}
void Download::read(void* host) const {
  if (!context_) fail("cuda", "download", "nothing was sent");
  context_->staging.finish_download(*pinned_, host, bytes_);
}

}  // namespace hybridmed::cuda
