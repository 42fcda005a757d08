#pragma once
// What the CUDA sources share: error checks, the context, launches, sums within a block. Never
// included by a host compiler.
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "hybridmed/backend/cuda/memory.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed::cuda {

/// @throws Error that names the operation and what CUDA said.
void check(cudaError_t status, const char* operation);
void check(cublasStatus_t status, const char* operation);

/// One device, one stream, the library handles and their workspace. Made at first use, kept until
/// the process ends.
struct Context {
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;
  static constexpr int most_partial_sums = 1024;
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  cublasHandle_t blas = nullptr;
  cublasLtHandle_t blas_lt = nullptr;
  void* workspace = nullptr;       // of the libraries; one stream, so never in use twice
  double* partial_sums = nullptr;  // of sums over whole arrays

  Context();
  static Context& get();
};

/// Device memory for one operation, freed in the order of the stream.
template <class T>
class Scratch {
 public:
  explicit Scratch(Index n)
      : data_(static_cast<T*>(Memory::allocate(static_cast<std::size_t>(n) * sizeof(T)))) {}
  ~Scratch() { Memory::deallocate(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

inline constexpr int block_size = 256, warp_size = 32;

inline unsigned blocks_for(Index n, Index per_block, Index most = 1 << 16) {
  const Index blocks = (n + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

template <class F>
__global__ void __launch_bounds__(block_size) for_each_kernel(Index n, F f) {
  for (Index i = blockIdx.x * Index{block_size} + threadIdx.x; i < n;
       i += gridDim.x * Index{block_size})
    f(i);
}

/// Runs f(i) on the device for i in [0, n).
template <class F>
void for_each(Index n, const char* operation, F f) {
  Context& c = Context::get();
  if (n <= 0) return;
  for_each_kernel<<<blocks_for(n, block_size), block_size, 0, c.stream>>>(n, f);
  check(cudaGetLastError(), operation);
}

template <class T>
__device__ T warp_sum(T x) {
  for (int d = warp_size / 2; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}
template <class T>
__device__ T warp_max(T x) {
  for (int d = warp_size / 2; d > 0; d /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}
/// The sum over a block of block_size threads, in every thread. `shared` holds one element per
/// warp.
template <class T>
__device__ T block_sum(T x, T* shared) {
  x = warp_sum(x);
  __syncthreads();  // the last use of `shared` is over
  if (threadIdx.x % warp_size == 0) shared[threadIdx.x / warp_size] = x;
  __syncthreads();
  T total = T(0);
  for (int w = 0; w < block_size / warp_size; ++w) total += shared[w];
  return total;
}
template <class T>
__device__ T block_max(T x, T* shared) {
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % warp_size == 0) shared[threadIdx.x / warp_size] = x;
  __syncthreads();
  T top = shared[0];
  for (int w = 1; w < block_size / warp_size; ++w) top = max(top, shared[w]);
  return top;
}

}  // namespace hybridmed::cuda
