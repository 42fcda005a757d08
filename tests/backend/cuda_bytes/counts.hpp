#pragma once
// What a counting build of the kernels counts (see counting.cuh), as host and device see it.
#include <cstdint>
#include <vector>

namespace hybridmed::test {

/// In device memory. A cell stands for 16 bytes: the launch that touched them last, and which of
/// them it has read and written.
struct Accesses {
  unsigned long long read, written;  // by each launch, each byte once
  unsigned long long repeated;       // accesses to a byte by a launch that had read or written it
  unsigned long long elsewhere;      // outside of the cells
  unsigned long long launch;
  unsigned long long first, cells;  // address of the first cell's bytes, number of cells
  unsigned long long* cell;
};

/// Every source of kernels adds here how it is told where to count.
inline std::vector<void (*)(Accesses*)>& counting_sources() {
  static std::vector<void (*)(Accesses*)> all;
  return all;
}

}  // namespace hybridmed::test
