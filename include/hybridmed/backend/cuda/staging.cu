#include "hybridmed/backend/cuda/staging.cuh"

#include <algorithm>
#include <cstring>
#include <utility>

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

namespace {
constexpr const char* up = "copy_from_host";
constexpr const char* down = "copy_to_host";

/// Where the next piece begins: copies of whole vectors.
std::size_t padded(std::size_t bytes) { return (bytes + 255) / 256 * 256; }
}  // namespace

void Staging::make(Pinned& slot, std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes), "pinned memory", &context_);
  slot.host = static_cast<std::byte*>(memory);
  ++driver_calls_;
  check(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming), "pinned memory", &context_);
}

/// The slot that has room, or the next one, once the device has read what it held. Where that is
/// not yet so, a new one takes its place in the ring, up to a limit.
Pinned& Staging::slot_for_upload() {
  if (!ring_.empty() && ring_[at_].used < slot_bytes) return ring_[at_];
  std::size_t next = ring_.empty() ? 0 : (at_ + 1) % ring_.size();
  cudaError_t status = ring_.empty() ? cudaErrorNotReady : cudaEventQuery(ring_[next].done);
  if (status == cudaErrorNotReady) {
    if (!ring_.empty()) cudaGetLastError();  // an answer, not an error
    if (ring_.size() < most_slots) {
      Pinned slot;
      make(slot, slot_bytes);
      next = ring_.empty() ? 0 : at_ + 1;
      ring_.insert(ring_.begin() + static_cast<std::ptrdiff_t>(next), slot);
      status = cudaSuccess;
    } else {
      status = cudaEventSynchronize(ring_[next].done);
    }
  }
  check(status, up, &context_);
  at_ = next;
  ring_[at_].used = 0;
  return ring_[at_];
}

void Staging::upload_piece(const std::byte* from, std::byte* to, std::size_t bytes) {
  while (bytes > 0) {
    Pinned& slot = slot_for_upload();
    const std::size_t n = std::min(bytes, slot_bytes - slot.used);
    std::byte* staged = slot.host + slot.used;
    std::memcpy(staged, from, n);
    if (n <= small) {
      check(cudaMemcpyAsync(to, staged, n, cudaMemcpyHostToDevice, context_.stream), up, &context_);
    } else {
      if (!slot.device) {
        void* arrivals = nullptr;
        check(cudaMallocFromPoolAsync(&arrivals, slot_bytes, context_.pool, context_.copies), up,
              &context_);
        slot.device = static_cast<std::byte*>(arrivals);
        ++driver_calls_;
      }
      std::byte* arrived = slot.device + slot.used;
      check(cudaMemcpyAsync(arrived, staged, n, cudaMemcpyHostToDevice, context_.copies), up,
            &context_);
      check(cudaEventRecord(slot.done, context_.copies), up, &context_);
      check(cudaStreamWaitEvent(context_.stream, slot.done, 0), up, &context_);
      check(cudaMemcpyAsync(to, arrived, n, cudaMemcpyDeviceToDevice, context_.stream), up,
            &context_);
    }
    check(cudaEventRecord(slot.done, context_.stream), up, &context_);
    slot.used = std::min(slot_bytes, slot.used + padded(n));
    from += n;
    to += n;
    bytes -= n;
  }
}

void Staging::upload(const void* host, void* device, std::size_t bytes) {
  if (bytes == 0) return;
  const std::lock_guard lock(mutex_);
  if (context_.blocks.recording()) return upload_recorded(host, device, bytes);
  upload_piece(static_cast<const std::byte*>(host), static_cast<std::byte*>(device), bytes);
}

void Staging::upload_recorded(const void* host, void* device, std::size_t bytes) {
  if (bytes > recorded_room_) {
    const std::size_t room = std::max<std::size_t>(padded(bytes), 64 << 10);
    void* memory = nullptr;
    recorded_.reserve(recorded_.size() + 1);
    check(cudaMallocHost(&memory, room), up, &context_);
    ++driver_calls_;
    recorded_.push_back(static_cast<std::byte*>(memory));
    recorded_room_ = room;
    recorded_at_ = recorded_.back();
  }
  std::memcpy(recorded_at_, host, bytes);
  check(cudaMemcpyAsync(device, recorded_at_, bytes, cudaMemcpyHostToDevice, context_.stream), up,
        &context_);
  const std::size_t taken = std::min(padded(bytes), recorded_room_);
  recorded_at_ += taken;
  recorded_room_ -= taken;
}

std::vector<std::byte*> Staging::take_recorded() noexcept {
  const std::lock_guard lock(mutex_);
  recorded_room_ = 0;
  return std::exchange(recorded_, {});
}

void Staging::need_no_recording() const {
  if (context_.blocks.recording())
    fail("cuda", down, "the host reads nothing while a step is recorded",
         "read after the step, or run it without recording");
}

void Staging::download(const void* device, void* host, std::size_t bytes) {
  if (bytes == 0) return;
  need_no_recording();
  const std::lock_guard lock(downloads_);
  const auto* from = static_cast<const std::byte*>(device);
  auto* to = static_cast<std::byte*>(host);
  const std::size_t pieces = (bytes + slot_bytes - 1) / slot_bytes;
  const auto size_of = [&](std::size_t k) { return std::min(bytes - k * slot_bytes, slot_bytes); };
  const auto ask = [&](std::size_t k) {
    Pinned& slot = down_[k % 2];
    if (!slot.host) make(slot, slot_bytes);
    check(cudaMemcpyAsync(slot.host, from + k * slot_bytes, size_of(k), cudaMemcpyDeviceToHost,
                          context_.stream),
          down, &context_);
    check(cudaEventRecord(slot.done, context_.stream), down, &context_);
  };
  ask(0);
  for (std::size_t k = 0; k < pieces; ++k) {  // one crosses the bus while the host takes another
    if (k + 1 < pieces) ask(k + 1);
    check(cudaEventSynchronize(down_[k % 2].done), down, &context_);
    std::memcpy(to + k * slot_bytes, down_[k % 2].host, size_of(k));
  }
}

Pinned* Staging::begin_download(const void* device, std::size_t bytes) {
  if (bytes > Download::most_bytes)
    fail("cuda", "download",
         "expected at most " + std::to_string(Download::most_bytes) + " bytes, got " +
             std::to_string(bytes),
         "copy_to_host takes any number");
  need_no_recording();
  const std::lock_guard lock(downloads_);
  if (free_down_.empty()) {
    auto made = std::make_unique<Pinned>();
    free_down_.reserve(small_down_.size() + 1);  // so that giving back never allocates
    small_down_.reserve(small_down_.size() + 1);
    make(*made, Download::most_bytes);
    free_down_.push_back(made.get());
    small_down_.push_back(std::move(made));
  }
  Pinned& slot = *free_down_.back();
  check(cudaMemcpyAsync(slot.host, device, bytes, cudaMemcpyDeviceToHost, context_.stream), down,
        &context_);
  check(cudaEventRecord(slot.done, context_.stream), down, &context_);
  free_down_.pop_back();
  return &slot;
}
void Staging::finish_download(const Pinned& pinned, void* host, std::size_t bytes) {
  check(cudaEventSynchronize(pinned.done), down, &context_);
  std::memcpy(host, pinned.host, bytes);
}
void Staging::drop_download(Pinned* pinned) noexcept {
  // What the stream still writes there comes before what the next one has it write.
  const std::lock_guard lock(downloads_);
  free_down_.push_back(pinned);
}

void Staging::close() noexcept {
  const auto free = [&](Pinned& slot) {
    if (slot.done) cudaEventDestroy(slot.done);
    if (slot.host) cudaFreeHost(slot.host);
    if (slot.device) cudaFreeAsync(slot.device, context_.copies);
  };
  for (Pinned& slot : ring_) free(slot);
  for (Pinned& slot : down_) free(slot);
  for (const auto& slot : small_down_) free(*slot);
  for (std::byte* p : recorded_) cudaFreeHost(p);
}

}  // namespace hybridmed::cuda
