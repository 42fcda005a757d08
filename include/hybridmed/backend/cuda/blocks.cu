#include "hybridmed/backend/cuda/blocks.cuh"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <memory>
#include <unordered_map>
#include <utility>

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

using State = Context::State;

namespace {

/// The block of each address that was taken from a driver and not given back to it. Handing out and
/// back changes nothing here.
class Known {
 public:
  static Known& instance() {
    static Known* known = new Known;  // static tensors may outlive every destructor order
    return *known;
  }
  void add(Block* b) {
    const std::lock_guard lock(mutex_);
    blocks_.emplace(b->memory, b);
  }
  void remove(const void* p) noexcept {
    const std::lock_guard lock(mutex_);
    blocks_.erase(p);
  }
  Block* find(const void* p) noexcept {
    const std::lock_guard lock(mutex_);
    const auto at = blocks_.find(p);
    return at == blocks_.end() ? nullptr : at->second;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<const void*, Block*> blocks_;
};

}  // namespace

SizeClass::SizeClass(std::size_t wanted) {
  constexpr std::size_t finest = smallest * per_octave;  // up to here in steps of `smallest`
  if (wanted <= finest) {
    index = wanted == 0 ? 0 : static_cast<int>((wanted - 1) / smallest);
    bytes = (static_cast<std::size_t>(index) + 1) * smallest;
    return;
  }
  const int octave = std::bit_width(wanted - 1) - 1;  // 2^octave < wanted <= 2^(octave + 1)
  const std::size_t base = std::size_t{1} << octave, step = base / per_octave;
  const std::size_t steps = (wanted - base + step - 1) / step;  // 1 ... per_octave
  bytes = base + steps * step;
  index = per_octave * (octave - std::bit_width(finest) + 2) + static_cast<int>(steps) - 1;
}

Block* FreeBlocks::take(const SizeClass& wanted) noexcept {
  const int end = std::min(wanted.index + SizeClass::per_octave / 2 + 1, SizeClass::most);
  for (int i = wanted.index; i < end; ++i)
    if (Block* b = first_[static_cast<std::size_t>(i)]) {
      first_[static_cast<std::size_t>(i)] = b->next;
      return b;
    }
  return nullptr;
}
void FreeBlocks::put(Block* block) noexcept {
  Block*& first = first_[static_cast<std::size_t>(block->size_class)];
  block->next = first;
  first = block;
}
Block* FreeBlocks::take_all() noexcept {
  Block* all = nullptr;
  for (Block*& first : first_)
    while (Block* b = first) {
      first = b->next;
      b->next = all;
      all = b;
    }
  return all;
}

Blocks::Blocks(State& context)
    : context_(context), exact_(std::getenv("HYBRIDMED_CUDA_NO_CACHE") != nullptr) {}

void* Blocks::allocate(std::size_t bytes) {
  if (bytes > std::size_t{1} << 50) throw_out_of_memory(context_, bytes);
  SizeClass size(bytes);
  if (exact_) size.bytes = std::max<std::size_t>(bytes, 1);
  {
    const std::lock_guard lock(mutex_);
    Block* b = recording_ ? recorded_free_.take(size) : nullptr;
    if (!b && (b = free_.take(size)) && recording_) {
      recorded_.push_back(b);
      b->recorded = true;
    }
    if (b) {
      b->in_use = true;
      b->asked = size.bytes;
      statistics_.in_use += b->asked;
      statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
      context_.retain();
      return b->memory;
    }
  }
  return from_driver(size, bytes);
}

void* Blocks::from_driver(const SizeClass& size, std::size_t wanted) {
  auto block = std::make_unique<Block>();
  // The stream that is recorded takes no request of its own; the other one is waited for.
  const cudaStream_t stream = recording() ? context_.copies : context_.stream;
  const auto ask = [&] {
    cudaError_t status = cudaMallocFromPoolAsync(&block->memory, size.bytes, context_.pool, stream);
    if (status == cudaErrorMemoryAllocation)
      cudaGetLastError();  // not sticky: the next smaller request may succeed
    else if (status == cudaSuccess && recording())
      status = cudaStreamSynchronize(stream);
    return status;
  };
  cudaError_t status = ask();
  if (status == cudaErrorMemoryAllocation) {
    give_back_pools(context_.device);
    status = ask();
  }
  if (status == cudaErrorMemoryAllocation) throw_out_of_memory(context_, wanted);
  check(status, "allocate", &context_);
  block->bytes = block->asked = size.bytes;
  block->size_class = size.index;
  block->context = &context_;
  block->in_use = true;
  try {
    Known::instance().add(block.get());
    const std::lock_guard lock(mutex_);
    block->recorded = recording_;
    if (recording_) recorded_.push_back(block.get());
    ++statistics_.driver_calls;
    statistics_.reserved += size.bytes;
    statistics_.in_use += size.bytes;
    statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
  } catch (...) {
    Known::instance().remove(block->memory);
    cudaFreeAsync(block->memory, stream);
    throw;
  }
  context_.retain();
  return block.release()->memory;
}

void Blocks::release(void* p, State* here) noexcept {
  if (!p) return;
  Block* block = Known::instance().find(p);
  if (!block) return;
  State& home = *block->context;
  if (here && here->blocks.recording() && !block->recorded) {
    // The step that is recorded may read it each time that it runs.
    Blocks& reader = here->blocks;
    const std::lock_guard lock(reader.mutex_);
    reader.held_.push_back(block);
    return;
  }
  const OnDevice on_device(home);
  if (here && here != &home) home.wait_for(*here);  // who frees may have been the last reader
  home.blocks.give_back(block);
  home.release();
}

void Blocks::give_back(Block* block) noexcept {
  {
    const std::lock_guard lock(mutex_);
    block->in_use = false;
    statistics_.in_use -= block->asked;
    if (block->recorded) {
      if (!exact_) recorded_free_.put(block);
      return;
    }
    if (!exact_) {
      free_.put(block);
      return;
    }
  }
  block->next = nullptr;
  free_to_driver(block);
}

void Blocks::free_to_driver(Block* list) noexcept {
  const cudaStream_t stream = recording() ? context_.copies : context_.stream;
  while (list) {
    Block* b = list;
    list = b->next;
    Known::instance().remove(b->memory);
    cudaFreeAsync(b->memory, stream);
    {
      const std::lock_guard lock(mutex_);
      ++statistics_.driver_calls;
      statistics_.reserved -= b->bytes;
    }
    delete b;
  }
}

void Blocks::trim() noexcept {
  Block* all = nullptr;
  {
    const std::lock_guard lock(mutex_);
    all = free_.take_all();
  }
  free_to_driver(all);
}

MemoryStatistics Blocks::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void Blocks::begin_recording() {
  const std::lock_guard lock(mutex_);
  recorded_.reserve(recorded_.size() + 64);
  recording_ = true;
  ++recordings_;
}
std::vector<Block*> Blocks::end_recording() noexcept {
  const std::lock_guard lock(mutex_);
  recording_ = false;
  return std::exchange(held_, {});
}
void Blocks::drop_recording(const std::vector<Block*>& held) noexcept {
  Block* to_driver = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (--recordings_ == 0) {
      recorded_free_.take_all();
      for (Block* b : recorded_) {
        b->recorded = false;
        if (b->in_use) continue;  // it goes the common way when it is given back
        if (exact_) {
          b->next = to_driver;
          to_driver = b;
        } else {
          free_.put(b);
        }
      }
      recorded_.clear();
    }
  }
  free_to_driver(to_driver);
  for (Block* b : held) release(b->memory, &context_);
}

}  // namespace hybridmed::cuda
