#pragma once
// A request to stop, for everything that takes long. A program's signal handler raises the flag;
// long phases look at it and throw, the trainer finishes its step and saves.
#include <atomic>

#include "hybridmed/core/error.hpp"

namespace hybridmed {

/// What a long phase throws when it was asked to stop.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// The flag; a signal handler may set it.
inline std::atomic<bool>& interrupt_requested() {
  static std::atomic<bool> flag{false};
  return flag;
}

/// @throws Interrupted when a stop was requested. `phase`: what was going on, "the vocabulary is
/// being learned".
inline void check_interrupt(std::string_view phase) {
  if (interrupt_requested())
    throw Interrupted("core", "interrupt", std::string("stopped on request while ").append(phase));
}

}  // namespace hybridmed
