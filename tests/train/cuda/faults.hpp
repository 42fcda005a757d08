#pragma once
// The CUDA runtime with faults on demand, and counters of what it was asked for. faults.cpp stands
// between the library and the runtime.
#include <cuda_runtime_api.h>

namespace hybridmed::test {

struct Faults {
  bool no_device = false;
  long launches_until_failure = -1;  // the kernel launch after so many fails; -1: none does
  long memory_until_failure = -1;    // the same of requests for device memory, this one and later
  bool no_capture = false, no_graph = false;

  long kernels = 0, graphs = 0, copies_up = 0, memory = 0;  // asked for so far
  void restart_counters() { kernels = graphs = copies_up = memory = 0; }
};
extern Faults faults;

}  // namespace hybridmed::test
