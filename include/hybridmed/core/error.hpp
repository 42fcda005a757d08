#pragma once
// Errors: one exception type, one sentence grammar.
//   [hybridmed.area] operation: what went wrong; hint: what to do
#if __cplusplus < 202002L
#error "hybridmed needs C++20: compile with -std=c++20"
#endif
#ifndef __cpp_exceptions
#error "hybridmed reports errors by exceptions: compile without -fno-exceptions"
#endif

#include <stdexcept>
#include <string>
#include <string_view>

namespace hybridmed {

/// Every error this library throws. `area()` is the folder it comes from ("data", "io", "nn", ...).
class Error : public std::runtime_error {
 public:
  Error(std::string_view area, std::string_view operation, std::string_view message,
        std::string_view hint = {})
      : std::runtime_error(compose(area, operation, message, hint)),
        area_(area),
        reason_(message),
        hint_(hint) {}

  const std::string& area() const noexcept { return area_; }
  /// What went wrong, without area, operation and hint: for an error that says where it happened.
  const std::string& reason() const noexcept { return reason_; }
  const std::string& hint() const noexcept { return hint_; }

 private:
  static std::string compose(std::string_view area, std::string_view operation,
                             std::string_view message, std::string_view hint) {
    std::string s = "[hybridmed.";
    s.append(area).append("] ").append(operation).append(": ").append(message);
    if (!hint.empty()) s.append("; hint: ").append(hint);
    return s;
  }
  std::string area_, reason_, hint_;
};

/// Memory that the machine does not have. Callers that know what was asked for add it to the
/// message.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

[[noreturn]] inline void fail(std::string_view area, std::string_view operation,
                              std::string_view message, std::string_view hint = {}) {
  throw Error(area, operation, message, hint);
}

}  // namespace hybridmed
