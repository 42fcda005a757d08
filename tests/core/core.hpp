#pragma once
// What tests of the core share.
#include <string>

namespace hybridmed::test {

inline bool starts_with(const std::string& s, const char* prefix) {
  return s.rfind(prefix, 0) == 0;
}

}  // namespace hybridmed::test
