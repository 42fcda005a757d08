#pragma once
// Host: the host's own memory as the backend of a tensor. It holds small tables that the host
// itself reads on every backend, such as word offsets, and has no kernels. Backends that compute in
// host memory inherit from it: their memory is this one, and a Tensor finds it as a member.
#include <cstring>

#include "hybridmed/core/arena.hpp"
#include "hybridmed/core/shape.hpp"

namespace hybridmed {

struct Host {
  static constexpr bool host_memory = true;  // what allocate returns, the host reads and writes

  static void* allocate(std::size_t bytes) { return HostArena::instance().allocate(bytes); }
  static void deallocate(void* p) noexcept { HostArena::instance().deallocate(p); }
  static void copy_from_host(const void* host, void* device, std::size_t bytes) {
    if (bytes) std::memcpy(device, host, bytes);
  }
  static void copy_to_host(const void* device, void* host, std::size_t bytes) {
    if (bytes) std::memcpy(host, device, bytes);
  }
  template <class T>
  static void fill(Index n, T value, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = value;
  }
  template <class T>
  static void copy(Index n, const T* x, T* y) {
    for (Index i = 0; i < n; ++i) y[i] = x[i];
  }
};

}  // namespace hybridmed
