#pragma once
// The kernels that a program holds, see cuda_launches.cpp.
#include <set>
#include <string>

namespace hybridmed::test {

/// Their mangled names.
std::set<std::string> registered_kernels();

/// Asked before each launch, where a test sets it: shall it fail, by more threads than a device
/// takes?
inline bool (*launch_shall_fail)() = nullptr;

}  // namespace hybridmed::test
