#pragma once
// What the CUDA sources share: error checks, the context, launches, sums within a block. Never
// included by a host compiler.
#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>

#include "hybridmed/backend/cuda/blocks.cuh"
#include "hybridmed/backend/cuda/context.hpp"
#include "hybridmed/backend/cuda/staging.cuh"
#include "hybridmed/core/scalars.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed::cuda {

/// One device, one stream, the library handles and their workspace. It lives as long as its
/// Context, a Use or memory of it.
struct Context::State {
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;
  static constexpr int most_partial_sums = 1024;
  const int device;
  const FloatProducts float_products;
  int compute_capability = 0;   // 10 * major + minor
  bool one_of_several = false;  // has the machine more devices?
  std::string device_name;      // for messages
  cudaStream_t stream = nullptr;
  cudaStream_t copies = nullptr;  // uploads cross the bus here while kernels run
  cudaEvent_t event = nullptr;    // of wait_for
  cudaMemPool_t pool = nullptr;
  cublasHandle_t blas = nullptr;
  cublasLtHandle_t blas_lt = nullptr;
  void* workspace = nullptr;       // of the libraries; one stream, so never in use twice
  double* partial_sums = nullptr;  // of sums over whole arrays
  std::shared_ptr<void> plans;     // of products.cu: how cuBLASLt computes which shape
  /// Held while launches that share workspace, partial sums or event are issued: another thread's
  /// must not come between them.
  std::mutex issue;
  Blocks blocks{*this};
  Staging staging{*this};

  State(int on, FloatProducts products);
  ~State();
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  void retain() noexcept;
  void release() noexcept;
  /// What is issued here from now on runs after what `other` has been given so far.
  cudaError_t wait_for(State& other) noexcept;

 private:
  void open();
  void close() noexcept;
  std::atomic<std::int64_t> references{1};
};

/// The context of the calling thread, whose device becomes the context's.
Context::State& current();
/// The same, for a kernel of tensors in T.
/// @throws Error for bfloat16 where the device computes in none.
template <class T>
Context::State& current_for(const char* operation);
/// The current context, without touching the device; null where it is the default and that is not
/// yet made.
Context::State* current_if_made() noexcept;
/// The default context; null where it is not yet made.
Context::State* standard_if_made() noexcept;

/// Makes a context's device the calling thread's for a while.
class OnDevice {
 public:
  explicit OnDevice(const Context::State& context) noexcept {
    if (!context.one_of_several || cudaGetDevice(&before_) != cudaSuccess) return;
    changed_ = before_ != context.device && cudaSetDevice(context.device) == cudaSuccess;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

/// @throws Error that names the operation, what CUDA said and the device; that of the current
/// context where none is given.
void check(cudaError_t status, const char* operation);
void check(cublasStatus_t status, const char* operation);
void check(cudaError_t status, const char* operation, const Context::State* state);
void check(cublasStatus_t status, const char* operation, const Context::State* state);

/// Waits for every context of a device and hands what they keep back to it.
void give_back_pools(int device) noexcept;
[[noreturn]] void throw_out_of_memory(const Context::State& context, std::size_t bytes);

/// @throws Error where the device of a context has no bfloat16.
void need_bfloat16(const Context::State& context, const char* operation);
template <class T>
Context::State& current_for(const char* operation) {
  Context::State& context = current();
  if constexpr (std::is_same_v<T, bfloat16>) need_bfloat16(context, operation);
  return context;
}

/// Device memory for one operation, freed in the order of the stream.
template <class T>
class Scratch {
 public:
  Scratch(Context::State& context, Index n)
      : context_(context),
        data_(static_cast<T*>(context.blocks.allocate(static_cast<std::size_t>(n) * sizeof(T)))) {}
  ~Scratch() { Blocks::release(data_, &context_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }

 private:
  Context::State& context_;
  T* data_;
};

inline constexpr int block_size = 256, warp_size = 32, block_warps = block_size / warp_size;

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
  Context::State& c = current();
  if (n <= 0) return;
  for_each_kernel<<<blocks_for(n, block_size), block_size, 0, c.stream>>>(n, f);
  check(cudaGetLastError(), operation);
}

/// Launches a kernel with dynamic shared memory.
template <class... P, class... Arguments>
void launch(Context::State& c, const char* operation, void (*kernel)(P...), dim3 blocks, int block,
            std::size_t bytes, Arguments... arguments) {
  if (bytes > std::size_t{48} << 10)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)),
          operation);
  kernel<<<blocks, static_cast<unsigned>(block), bytes, c.stream>>>(arguments...);
  check(cudaGetLastError(), operation);
}
/// The same, one block a tile.
template <class... P, class... Arguments>
void launch(Context::State& c, const char* operation, void (*kernel)(P...), Index tiles, int block,
            std::size_t bytes, Arguments... arguments) {
  if (tiles > INT32_MAX)
    fail("cuda", operation, std::to_string(tiles) + " tiles are more than a grid has blocks");
  launch(c, operation, kernel, dim3(static_cast<unsigned>(tiles)), block, bytes, arguments...);
}

template <class T>
__device__ double wide(T x) {
  return static_cast<double>(x);
}
/// x in the scalar that kernels compute in and hold sums in.
template <class T>
__device__ accumulator_of<T> widen(T x) {
  return x;
}
/// x rounded to T, to nearest even.
template <class T>
__device__ T narrow(accumulator_of<T> x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, bfloat16>) {
    T y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
#endif
  return static_cast<T>(x);
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
  for (int w = 0; w < block_warps; ++w) total += shared[w];
  return total;
}
template <class T>
__device__ T block_max(T x, T* shared) {
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % warp_size == 0) shared[threadIdx.x / warp_size] = x;
  __syncthreads();
  T top = shared[0];
  for (int w = 1; w < block_warps; ++w) top = max(top, shared[w]);
  return top;
}

}  // namespace hybridmed::cuda
