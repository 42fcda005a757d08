#pragma once
// What tests of files share: their bytes, safetensors files put together by hand, and a child
// process for what may crash.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "errors.hpp"

namespace hybridmed::test {

inline const std::filesystem::path fixtures = HYBRIDMED_FIXTURES;

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {(std::istreambuf_iterator<char>(in)), {}};
}
inline std::vector<std::byte> bytes(const std::string& s) {
  std::vector<std::byte> b(s.size());
  std::copy(s.begin(), s.end(), reinterpret_cast<char*>(b.data()));
  return b;
}
inline std::string length(std::uint64_t n) {
  std::string s;
  for (int i = 0; i < 8; ++i) s += static_cast<char>(n >> 8 * i & 255);
  return s;
}
/// A safetensors file image: the header's true length, the header, `data` zero bytes.
inline std::string file(const std::string& header, std::size_t data = 0) {
  return length(header.size()) + header + std::string(data, '\0');
}

/// Runs f in a child process: "ok", "error" (threw Error), "exception", or "crash". For inputs that
/// may exhaust the stack.
template <class F>
inline std::string in_child(F&& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (int signal : {SIGSEGV, SIGBUS, SIGABRT})
      std::signal(signal,
                  SIG_DFL);  // the test runner's handlers would report the child's end as their own
    ::alarm(20);
    int rc = 0;
    try {
      f();
    } catch (const Error&) {
      rc = 1;
    } catch (...) {
      rc = 2;
    }
    ::_exit(rc);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status)) return "crash";
  return WEXITSTATUS(status) == 0 ? "ok" : WEXITSTATUS(status) == 1 ? "error" : "exception";
}

}  // namespace hybridmed::test
