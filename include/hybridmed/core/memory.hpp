#pragma once
// How much memory the machine, or the container that the process lives in, can still give.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

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
/// The number behind `field` in a file of "name number" lines, or -1.
inline long long field_of(const char* path, const char* field) {
  std::FILE* f = std::fopen(path, "r");
  if (!f) return -1;
  char line[256], name[128];
  long long n = 0, found = -1;
  while (found < 0 && std::fgets(line, sizeof line, f))
    if (std::sscanf(line, "%127s %lld", name, &n) == 2 && std::strcmp(name, field) == 0) found = n;
  std::fclose(f);
  return found;
}
/// The control group of this process below the mount, "" for its root.
inline std::string control_group() {
  std::FILE* f = std::fopen("/proc/self/cgroup", "r");
  if (!f) return {};
  char line[4096];
  std::string group;
  while (std::fgets(line, sizeof line, f))
    if (std::strncmp(line, "0::/", 4) == 0) group = line + 3;
  std::fclose(f);
  while (!group.empty() && (group.back() == '\n' || group.back() == '/')) group.pop_back();
  return group;
}
}  // namespace detail

/// Bytes that can be used before the system runs out, by /proc/meminfo and by the limits of the
/// control group (v2) and its ancestors, where the cache of files counts as free; where nothing
/// says, no bound.
inline std::size_t available_memory() {
  long long available = detail::field_of("/proc/meminfo", "MemAvailable:");
  if (available >= 0) available *= 1024;
  std::string group = detail::control_group();
  for (;;) {
    const std::string folder = "/sys/fs/cgroup" + group;
    const long long limit = detail::number_in((folder + "/memory.max").c_str()),
                    used = detail::number_in((folder + "/memory.current").c_str());
    if (limit >= 0 && used >= 0) {
      long long cache = 0;
      for (const char* kind : {"active_file", "inactive_file", "slab_reclaimable"})
        cache += (std::max)(detail::field_of((folder + "/memory.stat").c_str(), kind), 0LL);
      const long long left = (std::max)(limit - used + (std::min)(cache, used), 0LL);
      available = available < 0 ? left : (std::min)(available, left);
    }
    if (group.empty()) break;
    group.resize(group.rfind('/') == group.npos ? 0 : group.rfind('/'));
  }
  return available < 0 ? (std::numeric_limits<std::size_t>::max)()
                       : static_cast<std::size_t>(available);
}

}  // namespace hybridmed
