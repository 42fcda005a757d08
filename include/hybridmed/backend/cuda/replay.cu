#include "hybridmed/backend/cuda/replay.hpp"

#include <memory>
#include <vector>

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

struct Recording::State {
  Context::State& context;
  cudaGraphExec_t run = nullptr;
  std::vector<Block*> held;         // read by the graph, and given back by their owner
  std::vector<std::byte*> numbers;  // pinned, read by the graph

  explicit State(Context::State& c) : context(c) {
    context.blocks.begin_recording();
    context.retain();
  }
  ~State() {
    const OnDevice on_device(context);
    if (run) cudaGraphExecDestroy(run);
    for (std::byte* p : numbers) cudaFreeHost(p);
    context.blocks.drop_recording(held);
    context.release();
  }
  void end() noexcept {
    held = context.blocks.end_recording();
    numbers = context.staging.take_recorded();
  }
};

Recording::~Recording() { delete state_; }

Recording Replay::record(const std::function<void()>& issue) {
  constexpr const char* name = "record";
  Context::State& c = current();
  if (c.blocks.recording())
    fail("cuda", name, "the context records already", "a recorded step cannot record another");
  // Free blocks are free at once from here on, whichever stream their memory goes to.
  check(cudaStreamSynchronize(c.stream), name, &c);
  Recording recording;
  recording.state_ = new Recording::State(c);
  Recording::State& state = *recording.state_;
  cudaGraph_t graph = nullptr;
  try {
    // Of this stream alone: other threads may ask the driver for memory meanwhile, and so may this.
    check(cudaStreamBeginCapture(c.stream, cudaStreamCaptureModeRelaxed), name, &c);
    try {
      issue();
    } catch (...) {
      cudaStreamEndCapture(c.stream, &graph);
      cudaGetLastError();  // of a capture that is given up
      throw;
    }
    check(cudaStreamEndCapture(c.stream, &graph), name, &c);
    check(cudaGraphInstantiate(&state.run, graph, 0), name, &c);
  } catch (...) {
    cudaGetLastError();
    if (graph) cudaGraphDestroy(graph);
    state.end();
    throw;
  }
  cudaGraphDestroy(graph);
  state.end();
  return recording;
}

void Replay::replay(const Recording& recording) {
  constexpr const char* name = "replay";
  if (!recording.state_) fail("cuda", name, "nothing was recorded", "call record first");
  Context::State& c = recording.state_->context;
  if (&c != &current())
    fail("cuda", name, "another context is current than the one it was recorded in",
         "cuda::Use it while the step runs");
  check(cudaGraphLaunch(recording.state_->run, c.stream), name, &c);
}

void Replay::move(const void* from, void* to, std::size_t bytes) {
  if (bytes > 0 && from != to)
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, current().stream), "move");
}

namespace {
template <class T>
__global__ void __launch_bounds__(block_size)
    dropout_mask_kernel(Index n, const Philox* step, std::uint64_t site, double p, T keep, T* y) {
  const Philox random = step->fork(site);
  for (Index i = blockIdx.x * Index{block_size} + threadIdx.x; i < n;
       i += gridDim.x * Index{block_size})
    y[i] = random.uniform(static_cast<std::uint64_t>(i)) < p ? T(0) : keep;
}
}  // namespace

template <class T>
void Replay::dropout_mask(Index n, const Philox* random, std::uint64_t site, double p, T* y) {
  Context::State& c = current();
  if (n <= 0) return;
  dropout_mask_kernel<<<blocks_for(n, block_size), block_size, 0, c.stream>>>(
      n, random, site, p, static_cast<T>(1 / (1 - p)), y);
  check(cudaGetLastError(), "dropout_mask");
}

template void Replay::dropout_mask(Index, const Philox*, std::uint64_t, double, float*);
template void Replay::dropout_mask(Index, const Philox*, std::uint64_t, double, double*);

}  // namespace hybridmed::cuda
