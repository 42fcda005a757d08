#pragma once
// How much memory the machine, or the container that the process lives in, can still give.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace hybridmed {

namespace detail {
/// The first number of a one-line file, or -1 ("max" and absent files alike).
inline long long number_in(const char* path) {
  std::FILE* f = std::fopen(path, "r");
  if (!f) return -1;
  long long n = -1;
  if (std::fscanf(f, "%lld", &n) != 1) n = -1;
  std::fclose(f);
  return n;
}
/// A field of /proc/meminfo in bytes, or -1.
inline long long meminfo(const char* field) {
  std::FILE* f = std::fopen("/proc/meminfo", "r");
  if (!f) return -1;
  char name[64];
  long long kilobytes = -1, found = -1;
  while (std::fscanf(f, "%63s %lld kB\n", name, &kilobytes) == 2)
    if (std::strcmp(name, field) == 0) {
      found = kilobytes * 1024;
      break;
    }
  std::fclose(f);
  return found;
}
}  // namespace detail

/// Bytes that can be used before the system runs out, by /proc/meminfo and the control group (v2); where neither says, no bound.
inline std::size_t available_memory() {
  long long available = detail::meminfo("MemAvailable:");
  const long long limit = detail::number_in("/sys/fs/cgroup/memory.max"), used = detail::number_in("/sys/fs/cgroup/memory.current");
  if (limit >= 0 && used >= 0) {
    const long long left = (std::max)(limit - used, 0LL);
    available = available < 0 ? left : (std::min)(available, left);
  }
  return available < 0 ? (std::numeric_limits<std::size_t>::max)() : static_cast<std::size_t>(available);
}

}  // namespace hybridmed
