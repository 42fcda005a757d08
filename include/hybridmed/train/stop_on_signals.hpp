#pragma once
// Ctrl-C and its kin as a request to stop, without a signal handler: a thread of its own waits for
// them. A handler would run on the stack of whichever thread computes, and kernels of oneDNN 2.6
// for AVX-512 do not keep that stack free for it: memory is overwritten.
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <ctime>
#include <system_error>
#include <thread>

#include "hybridmed/core/interrupt.hpp"

namespace hybridmed::train {

/// While it lives, the first SIGINT, SIGTERM or SIGHUP raises interrupt_requested() and says so on
/// stderr; the second SIGINT or SIGTERM ends the process at once. A signal that is ignored stays so
/// (nohup). Make it before any other thread: those that are made later do not see these signals.
/// It begins with the request taken back, and leaves it as it is: what trains after a stop, in the
/// same process, makes another one, or sets interrupt_requested() = false.
class StopOnSignals {
 public:
  /// @throws Error where the signals cannot be blocked or waited for.
  StopOnSignals() {
    interrupt_requested() = false;
    sigemptyset(&signals_);
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
      struct sigaction now {};
      if (::sigaction(signal, nullptr, &now) == 0 && now.sa_handler != SIG_IGN)
        sigaddset(&signals_, signal);
    }
    if (const int error = ::pthread_sigmask(SIG_BLOCK, &signals_, &before_); error != 0)
      fail("train", "signals", "they cannot be blocked: error " + std::to_string(error));
    try {
      watcher_ = std::thread([this] { watch(); });
    } catch (const std::system_error& e) {
      ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
      fail("train", "signals", std::string("no thread can be made to wait for them: ") + e.what());
    }
  }
  ~StopOnSignals() {
    over_ = true;
    watcher_.join();
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  StopOnSignals(const StopOnSignals&) = delete;
  StopOnSignals& operator=(const StopOnSignals&) = delete;

 private:
  void watch() const {
    constexpr timespec moment{0, 50'000'000};  // then it looks whether it is over
    while (!over_) {
      const int signal = ::sigtimedwait(&signals_, nullptr, &moment);
      if (signal < 0) continue;
      if (!interrupt_requested().exchange(true)) {
        static constexpr char said[] =
            "\nstopping when this step is done and saved; once more ends at once\n";
        [[maybe_unused]] const auto written = ::write(STDERR_FILENO, said, sizeof said - 1);
      } else if (signal != SIGHUP) {  // which a closing terminal sends more than once
        end_by(signal);
      }
    }
  }
  static void end_by(int signal) {
    std::signal(signal, SIG_DFL);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    std::raise(signal);
  }

  sigset_t signals_{}, before_{};
  std::atomic<bool> over_{false};
  std::thread watcher_;
};

}  // namespace hybridmed::train
