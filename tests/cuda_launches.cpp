// Which kernels this program holds and which of them it launches, for scripts/cuda-coverage: these
// functions stand before the CUDA runtime's own of the same names, which the code that nvcc makes
// for a kernel calls, and pass everything on. Where HYBRIDMED_CUDA_LAUNCHES names a file, the
// mangled names of the kernels that were launched are appended to it at the end.
#include "cuda_launches.hpp"

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

namespace hybridmed::test {

namespace {

struct Launches {
  std::mutex mutex;
  std::map<const void*, std::string> names;       // of the host's stand-in for a kernel
  std::map<cudaKernel_t, const void*> stand_ins;  // of a handle
  std::set<std::string> launched;

  static Launches& instance() {
    static Launches* all = new Launches;  // kernels are registered before main and used after it
    return *all;
  }
  void write() {
    const char* file = std::getenv("HYBRIDMED_CUDA_LAUNCHES");
    std::FILE* f = file ? std::fopen(file, "a") : nullptr;
    if (!f) return;
    std::string all;
    for (const auto& name : launched) all += name + "\n";
    std::fwrite(all.data(), 1, all.size(), f);
    std::fclose(f);
  }
};

/// The runtime's own function.
template <class F>
F* next(F*, const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

std::set<std::string> registered_kernels() {
  std::set<std::string> out;
  for (const auto& [stand_in, name] : Launches::instance().names) out.insert(name);
  return out;
}

}  // namespace hybridmed::test

using hybridmed::test::Launches;
using hybridmed::test::next;

extern "C" {

void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*,
                            dim3*, int*);
cudaError_t __cudaGetKernel(cudaKernel_t*, const void*);
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t);

void __cudaRegisterFunction(void** binary, const char* stand_in, char* device, const char* name,
                            int limit, uint3* thread, uint3* block, dim3* block_extents,
                            dim3* grid_extents, int* warp_size) {
  static auto* const own = next(&__cudaRegisterFunction, "__cudaRegisterFunction");
  {
    Launches& all = Launches::instance();
    const std::lock_guard lock(all.mutex);
    if (all.names.empty()) std::atexit([] { Launches::instance().write(); });
    all.names[stand_in] = name;
  }
  own(binary, stand_in, device, name, limit, thread, block, block_extents, grid_extents, warp_size);
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* stand_in) {
  static auto* const own = next(&__cudaGetKernel, "__cudaGetKernel");
  const cudaError_t status = own(kernel, stand_in);
  Launches& all = Launches::instance();
  const std::lock_guard lock(all.mutex);
  if (status == cudaSuccess) all.stand_ins[*kernel] = stand_in;
  return status;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared, cudaStream_t stream) {
  static auto* const own = next(&__cudaLaunchKernel, "__cudaLaunchKernel");
  const bool spoilt = hybridmed::test::launch_shall_fail && hybridmed::test::launch_shall_fail();
  const cudaError_t status =
      own(kernel, grid, spoilt ? dim3(4096) : block, arguments, shared, stream);
  Launches& all = Launches::instance();
  const std::lock_guard lock(all.mutex);
  if (status == cudaSuccess) all.launched.insert(all.names[all.stand_ins[kernel]]);
  return status;
}

}  // extern "C"
