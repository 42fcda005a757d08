#pragma once
// What tests of errors and files share.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "hybridmed/core/error.hpp"

namespace hybridmed::test {

/// The message of the Error that f throws, or "" when it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}
inline bool holds(const std::string& s, const std::string& part) {
  return s.find(part) != std::string::npos;
}

/// A folder that goes away with the test.
struct ScratchFolder {
  std::filesystem::path path;
  ScratchFolder() {
    static int number = 0;
    path = std::filesystem::temp_directory_path() /
           ("hybridmed_test_" + std::to_string(::getpid()) + "_" + std::to_string(number++));
    std::filesystem::create_directories(path);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() { std::filesystem::remove_all(path); }

  /// Writes a file in it, and the folders it stands in.
  void write(const std::filesystem::path& name, const std::string& bytes) const {
    std::filesystem::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << bytes;
  }
};

}  // namespace hybridmed::test
