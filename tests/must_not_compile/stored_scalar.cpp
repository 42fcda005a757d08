// expects: hybridmed: a safetensors file holds float, double, bfloat16, signed integers, bytes
// and bool, and not this scalar

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/io/safetensors.hpp>

using namespace hybridmed;

#ifdef HYBRIDMED_CONTROL
using T = std::int64_t;
#else
using T = std::uint64_t;
#endif
void f(io::SafetensorsWriter& file, const Tensor<T, Reference>& t) { file.add("t", t); }
