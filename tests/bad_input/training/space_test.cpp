// No space left: the error names the file, and what was saved before goes on.
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <csignal>

#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// No file may grow beyond `bytes` meanwhile: the portable stand-in for a full disk.
struct FileLimit {
  rlimit before{};
  explicit FileLimit(std::uintmax_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);  // write() then fails instead
    ::getrlimit(RLIMIT_FSIZE, &before);
    const rlimit now{static_cast<rlim_t>(bytes), before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &now) == 0);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;
  ~FileLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, SIG_DFL);
  }
};

/// What a failed save must leave: every checkpoint and best weight of before, nothing half-written.
void only_logs_differ(Snapshot before, Snapshot after) {
  for (const char* log : {"log.jsonl", "log.csv"}) {
    before.erase(log);
    after.erase(log);
  }
  nothing_changed(before, after);
}

}  // namespace

TEST_CASE("no room for a file: the error names it, the previous checkpoint survives and goes on") {
  const std::uintmax_t weights = fs::file_size(
      corpus().whole / "checkpoints" / train::checkpoint_name(all_steps) / "model.safetensors");
  struct Row {
    std::string name;
    std::int64_t saved;                              // steps saved before the disk is full
    std::function<std::uintmax_t(const Run&)> room;  // bytes a file may have
    std::string file;
  };
  for (const Row& row :
       {Row{"weights of a checkpoint, stage 1", 1, [&](const Run&) { return weights / 2; },
            "step-00000002/model.safetensors"},
        {"weights of a checkpoint, stage 2", 7, [&](const Run&) { return weights - 1; },
         "step-00000008/model.safetensors"},
        {"moments of a checkpoint, stage 2", 7, [&](const Run&) { return weights + weights / 2; },
         "step-00000008/optimizer.safetensors"},
        {"best weights at the end of an epoch", 8, [&](const Run&) { return weights / 2; },
         "best-stage2-step-00000009/model.safetensors"},
        {"the log", 10, [&](const Run& r) { return fs::file_size(r.folder / "log.jsonl") + 10; },
         "log.jsonl"}}) {
    INFO(row.name);
    Run r;
    r.start(row.saved);
    REQUIRE(row.room(r) > fs::file_size(r.folder / "config.json"));
    const Snapshot before = snapshot(r.folder);
    std::string e;
    {
      const FileLimit limit(row.room(r));
      e = r.go(true, -1);
    }
    check_error(e, fs::path(row.file).filename(), {"File too large|No space left"});
    CHECK_MESSAGE(holds(e, r.folder.string()), e);
    CHECK_MESSAGE(holds(e, fs::path(row.file).parent_path().string()), e);
    only_logs_differ(before, snapshot(r.folder));
    r.goes_on();
  }
}

TEST_CASE(
    "no room at the start of a run: the error names the file, and the same folder can be used once "
    "there is room") {
  Run r;
  {
    const FileLimit limit(50);
    const std::string e = error_of([&] { Trainer(r.config, r.folder, false, 1).run(); });
    check_error(e, r.folder, {"run/[a-z_]+\\.(txt|json)", "File too large|No space left"});
  }
  CHECK(train::list_checkpoints(r.folder).empty());
  for (const auto& [name, bytes] : snapshot(r.folder)) CHECK_MESSAGE(!name.ends_with(".tmp"), name);
  r.start(1);
  r.goes_on();
}

TEST_CASE("a full device: the reason is the system's, the hint says what to do") {
  if (!fs::exists("/dev/full")) {
    MESSAGE("skipped: no /dev/full here");
    return;
  }
  Trainer t(tiny_config(corpus().data), "unused", false, 1);
  const std::string e = error_of([&] { t.save_model("/dev/full"); });
  check_error(e, "/dev/full", {"No space left on device", "hint: .*space"});
}

TEST_CASE("a full file system: the previous checkpoint survives and goes on") {
  Run r;
  fs::create_directories(r.folder);
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root mounts a small file system");
    return;
  }
  if (::mount("none", r.folder.c_str(), "tmpfs", 0, "size=64m") != 0) {
    MESSAGE("skipped: no file system can be mounted here: ", std::strerror(errno));
    return;
  }
  struct Unmount {
    fs::path at;
    ~Unmount() { ::umount2(at.c_str(), MNT_DETACH); }
  } const unmount{r.folder};
  r.start(7);
  const Snapshot before = snapshot(r.folder);
  const std::uintmax_t weights = fs::file_size(r.checkpoint(7) / "model.safetensors");
  const fs::path ballast = r.scratch.path / "run" / "ballast";
  {  // fill it, but for half of the weights
    struct statvfs s {};
    REQUIRE(::statvfs(r.folder.c_str(), &s) == 0);
    write_bytes(ballast,
                std::string(static_cast<std::size_t>(s.f_bavail * s.f_bsize - weights / 2), 'x'));
  }
  const std::string e = r.go(true, -1);
  check_error(e, r.folder / "checkpoints",
              {"step-00000008/model\\.safetensors", "No space left on device", "hint: .*space"});
  fs::remove(ballast);
  only_logs_differ(before, snapshot(r.folder));
  r.goes_on();
}
