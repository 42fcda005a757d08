#pragma once
// Training runs to spoil: a small corpus with its undisturbed run, runs that are stopped and go on,
// and the trainer behind a class, so that training.cpp alone compiles it.
#include <fcntl.h>

#include <memory>
#include <set>
#include <utility>

#include "../../train/tiny_config.hpp"
#include "../bad_input.hpp"
#include "hybridmed/train/checkpoint.hpp"

namespace hybridmed::test {

namespace fs = std::filesystem;

inline constexpr std::int64_t epoch_steps = 3, stage1_steps = 2 * epoch_steps,
                              all_steps = 2 * stage1_steps;

/// The trainer in float on the CPU of whatever system the configuration names.
class Trainer {
 public:
  Trainer(const train::RunConfig& config, const fs::path& run, bool resume, std::int64_t stop_after,
          const fs::path& init = {});
  ~Trainer();
  bool run();
  std::string describe();
  void save_model(const fs::path& file);
  /// Every parameter and buffer of a matching name holds x. Returns how many there are.
  std::size_t fill(const std::string& pattern, float x);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
/// Reads what a run has trained, as the commands that use a run do.
void open_trained_run(const fs::path& run);

/// What standard error says meanwhile.
class Listening {
 public:
  explicit Listening(const fs::path& file) : file_(file) {
    std::fflush(stderr);
    kept_ = ::dup(2);
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(fd, 2);
    ::close(fd);
  }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;
  ~Listening() { stop(); }
  std::string text() {
    stop();
    return io::read_text(file_);
  }

 private:
  void stop() {
    if (kept_ < 0) return;
    std::fflush(stderr);
    ::dup2(kept_, 2);
    ::close(std::exchange(kept_, -1));
  }
  fs::path file_;
  int kept_ = -1;
};

/// A small corpus and its undisturbed run.
struct Corpus {
  ScratchFolder scratch;
  fs::path data = scratch.path / "data", whole = scratch.path / "whole";
  Corpus();
};
const Corpus& corpus();
std::set<std::string> ids_of(const std::string& split);

/// A run of its own: what it printed, and the error that ended it.
struct Run {
  ScratchFolder scratch;
  fs::path folder = scratch.path / "run";
  train::RunConfig config = tiny_config(corpus().data);
  std::string printed;
  Run();
  ~Run();

  /// The error's text, or "".
  std::string go(bool resume, std::int64_t stop_after, const fs::path& init = {},
                 bool interrupt = false);
  void start(std::int64_t stop_after) { REQUIRE(go(false, stop_after) == ""); }
  fs::path checkpoint(std::int64_t step) const {
    return folder / "checkpoints" / train::checkpoint_name(step);
  }
  Snapshot saved() const { return snapshot(folder / "checkpoints"); }

  /// Goes on from its newest checkpoint and ends as the undisturbed run did, byte for byte.
  void goes_on();
};

void nothing_changed(const Snapshot& before, const Snapshot& after);
/// The steps in a run's log.
std::int64_t logged_steps(const fs::path& run);

}  // namespace hybridmed::test
