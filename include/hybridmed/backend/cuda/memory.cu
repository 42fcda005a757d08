#include <cstdint>
#include <string>

#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

void check(cudaError_t status, const char* operation) {
  if (status == cudaSuccess) return;
  const std::string message =
      std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
  const bool none = status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver ||
                    status == cudaErrorInitializationError;
  fail("cuda", operation, message,
       none ? "the CUDA backend needs an NVIDIA GPU and its driver; CpuBackend needs neither" : "");
}
void check(cublasStatus_t status, const char* operation) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail("cuda", operation,
         std::string(cublasGetStatusName(status)) + ": " + cublasGetStatusString(status));
}

int device_count() noexcept {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

Context::Context() {
  int device = 0;
  check(cudaGetDevice(&device), "context");
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "context");
  check(cudaDeviceGetDefaultMemPool(&pool, device), "context");
  std::uint64_t keep = UINT64_MAX;  // freed memory stays with the process for the next step
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "context");
  check(cudaMallocAsync(&workspace, workspace_bytes, stream), "context");
  void* sums = nullptr;
  check(cudaMallocAsync(&sums, most_partial_sums * sizeof(double), stream), "context");
  partial_sums = static_cast<double*>(sums);
  check(cublasCreate(&blas), "context");
  check(cublasSetStream(blas, stream), "context");
  check(cublasSetWorkspace(blas, workspace, workspace_bytes), "context");
  check(cublasSetMathMode(blas, CUBLAS_DEFAULT_MATH), "context");  // float32 means float32: no TF32
  check(cublasLtCreate(&blas_lt), "context");
}

Context& Context::get() {
  static Context* context =
      new Context;  // never destroyed: static tensors may outlive every destructor order
  return *context;
}

void synchronize() { check(cudaStreamSynchronize(Context::get().stream), "synchronize"); }

MemoryStatistics memory_statistics() {
  synchronize();
  const auto read = [](cudaMemPoolAttr attribute) {
    std::uint64_t value = 0;
    check(cudaMemPoolGetAttribute(Context::get().pool, attribute, &value), "memory_statistics");
    return static_cast<std::size_t>(value);
  };
  return {read(cudaMemPoolAttrUsedMemCurrent), read(cudaMemPoolAttrUsedMemHigh),
          read(cudaMemPoolAttrReservedMemCurrent)};
}

void* Memory::allocate(std::size_t bytes) {
  void* p = nullptr;
  const cudaError_t status = cudaMallocAsync(&p, bytes ? bytes : 1, Context::get().stream);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: the next smaller request may succeed
    fail("cuda", "allocate",
         "the device is out of memory for " + std::to_string(bytes) + " bytes; " +
             std::to_string(memory_statistics().in_use) + " are in use",
         "a smaller batch needs less");
  }
  check(status, "allocate");
  return p;
}
void Memory::deallocate(void* p) noexcept {
  if (p) cudaFreeAsync(p, Context::get().stream);
}
void Memory::copy_from_host(const void* host, void* device, std::size_t bytes) {
  // From pageable memory the call returns once the bytes are staged.
  if (bytes)
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, Context::get().stream),
          "copy_from_host");
}
void Memory::copy_to_host(const void* device, void* host, std::size_t bytes) {
  if (!bytes) return;
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, Context::get().stream),
        "copy_to_host");
  synchronize();
}

}  // namespace hybridmed::cuda
