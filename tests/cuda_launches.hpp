#pragma once
// The kernels that a program holds, see cuda_launches.cpp.
#include <set>
#include <string>

namespace hybridmed::test {

/// Their mangled names.
std::set<std::string> registered_kernels();

}  // namespace hybridmed::test
