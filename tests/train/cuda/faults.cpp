#include "train/cuda/faults.hpp"

#include "cuda_launches.hpp"

#include <dlfcn.h>

#include <cstddef>

namespace hybridmed::test {
Faults faults;
}  // namespace hybridmed::test

using hybridmed::test::faults;

namespace {

/// The runtime's own function of that name.
template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

/// Counts down; true once nothing is left.
bool fails(long& left, bool for_good) {
  if (left < 0) return false;
  if (left > 0) {
    --left;
    return false;
  }
  if (!for_good) left = -1;
  return true;
}

bool launch_fails() {
  ++faults.kernels;
  return fails(faults.launches_until_failure, false);
}
struct AskForLaunches {
  AskForLaunches() { hybridmed::test::launch_shall_fail = launch_fails; }
} const ask_for_launches;

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  static const auto next = real<decltype(cudaGetDeviceCount)>("cudaGetDeviceCount");
  if (!faults.no_device) return next(count);
  *count = 0;
  return cudaErrorNoDevice;
}

cudaError_t cudaMallocFromPoolAsync(void** p, std::size_t bytes, cudaMemPool_t pool,
                                    cudaStream_t stream) {
  static const auto next = real<cudaError_t(void**, std::size_t, cudaMemPool_t, cudaStream_t)>(
      "cudaMallocFromPoolAsync");
  ++faults.memory;
  if (fails(faults.memory_until_failure, true)) return cudaErrorMemoryAllocation;
  return next(p, bytes, pool, stream);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  static const auto next =
      real<cudaError_t(void*, const void*, std::size_t, cudaMemcpyKind, cudaStream_t)>(
          "cudaMemcpyAsync");
  faults.copies_up += kind == cudaMemcpyHostToDevice;
  return next(to, from, bytes, kind, stream);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  static const auto next = real<cudaError_t(cudaStream_t, cudaGraph_t*)>("cudaStreamEndCapture");
  const cudaError_t status = next(stream, graph);
  if (status != cudaSuccess || !faults.no_capture) return status;
  cudaGraphDestroy(*graph);
  *graph = nullptr;
  return cudaErrorStreamCaptureInvalidated;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* run, cudaGraph_t graph,
                                 unsigned long long flags) {
  static const auto next =
      real<cudaError_t(cudaGraphExec_t*, cudaGraph_t, unsigned long long)>("cudaGraphInstantiate");
  return faults.no_graph ? cudaErrorNotSupported : next(run, graph, flags);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t run, cudaStream_t stream) {
  static const auto next = real<cudaError_t(cudaGraphExec_t, cudaStream_t)>("cudaGraphLaunch");
  ++faults.graphs;
  return next(run, stream);
}

}  // extern "C"
