#pragma once
// Included before each source of kernels in the counting build, whose PTX calls hybridmed_touch
// before each access to memory (count_accesses.awk). Bytes are counted where a launch touches them
// for the first time, whoever does, so the counts do not depend on the order of warps and blocks.
#include <cuda_runtime.h>

#include "counts.hpp"

namespace {

__device__ hybridmed::test::Accesses* accesses;

}  // namespace

/// `what`: bytes, at most 16 and a divisor of the address; plus 256 for a store.
extern "C" __attribute__((weak)) __device__ __noinline__ void hybridmed_touch(const void* p,
                                                                              unsigned what) {
  using Number = unsigned long long;
  hybridmed::test::Accesses* const a = accesses;
  if (!a || !__isGlobal(p)) return;
  const auto address = reinterpret_cast<Number>(p);
  const unsigned bytes = what & 255u;
  const bool store = what >= 256u;
  const Number at = (address - a->first) / 16;
  if (address < a->first || at >= a->cells) {
    atomicAdd(&a->elsewhere, Number{bytes});
    return;
  }
  const Number bits = ((Number{1} << bytes) - 1) << (address % 16 + (store ? 16 : 0)),
               fresh = a->launch << 32;
  Number seen = a->cell[at], before;
  do {
    before = seen;
    const Number known = before >> 32 == a->launch ? before : fresh;
    if ((known | bits) == before) break;
    seen = atomicCAS(&a->cell[at], before, known | bits);
  } while (seen != before);
  const Number known = before >> 32 == a->launch ? before : fresh;
  const auto first_time = static_cast<Number>(__popcll(bits & ~known));
  if (first_time > 0) atomicAdd(store ? &a->written : &a->read, first_time);
  if (first_time < bytes) atomicAdd(&a->repeated, bytes - first_time);
}

namespace {

/// Without a caller in the source the function would be left out.
__global__ void keep_hybridmed_touch(const void* p, unsigned what) { hybridmed_touch(p, what); }

const bool counted_source = [] {
  hybridmed::test::counting_sources().push_back(
      [](hybridmed::test::Accesses* a) { cudaMemcpyToSymbol(accesses, &a, sizeof a); });
  return true;
}();

}  // namespace
