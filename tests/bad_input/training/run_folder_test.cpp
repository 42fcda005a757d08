// Run folders that cannot be made, that are taken, or that another process writes to.
#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("two processes do not write to one run folder") {
  Run r;
  r.start(2);
  const Snapshot before = r.saved();
  {
    const io::FolderLock other(r.folder);
    check_error(r.go(true, 3), r.folder, {"another process"});
    nothing_changed(before, r.saved());
  }
  r.goes_on();

  Run fresh;  // nor before the other's first checkpoint
  fs::create_directories(fresh.folder / "checkpoints");
  write_bytes(fresh.folder / "log.jsonl", "the other's log\n");
  const Snapshot others = snapshot(fresh.folder);
  const io::FolderLock other(fresh.folder);
  check_error(fresh.go(false, 1), fresh.folder, {"another process"});
  nothing_changed(others, snapshot(fresh.folder));
}

TEST_CASE(
    "a run folder that cannot be made is named with the reason, and what is in the way stays") {
  struct Row {
    std::string name;
    std::function<fs::path(const fs::path&)> make;
    std::vector<std::string> patterns;
  };
  std::vector<Row> table{
      {"a file of that name",
       [](const fs::path& f) {
         write_bytes(f / "run", "notes");
         return f / "run";
       },
       {"cannot be made", "Not a directory|File exists"}},
      {"a file above it",
       [](const fs::path& f) {
         write_bytes(f / "file", "notes");
         return f / "file" / "run";
       },
       {"cannot be made", "Not a directory"}},
      {"a file in place of its checkpoints",
       [](const fs::path& f) {
         write_bytes(f / "run" / "checkpoints", "notes");
         return f / "run";
       },
       {"cannot be made", "Not a directory|File exists"}},
      {"a link that leads nowhere",
       [](const fs::path& f) {
         fs::create_symlink(f / "nowhere" / "x", f / "run");
         return f / "run";
       },
       {"cannot be made", "[A-Z][a-z]+ "}},
      {"a name that is too long",
       [](const fs::path& f) { return f / std::string(300, 'r'); },
       {"cannot be made", "name too long"}},
      {"where no folder can be",
       [](const fs::path&) { return fs::path("/proc/hybridmed-run"); },
       {"cannot be made", "No such file|not permitted|denied"}},
  };
  if (::geteuid() != 0)  // root may write anywhere
    table.push_back({"no permission",
                     [](const fs::path& f) {
                       fs::permissions(f, fs::perms::owner_read | fs::perms::owner_exec);
                       return f / "run";
                     },
                     {"cannot be made", "Permission denied"}});
  for (const Row& row : table) {
    INFO(row.name);
    const ScratchFolder f;
    Run r;
    r.folder = row.make(f.path);
    const Snapshot before = snapshot(f.path);
    check_error(r.go(false, 1), r.folder, row.patterns);
    nothing_changed(before, snapshot(f.path));
    fs::permissions(f.path, fs::perms::owner_all);
  }
  Run nothing;
  check_error(nothing.go(true, 1), nothing.folder, {"no checkpoint to resume from"});
  CHECK(!fs::exists(nothing.folder));
  Run taken;
  taken.start(2);
  const Snapshot before = snapshot(taken.folder);
  check_error(taken.go(false, 1), taken.folder, {"already holds checkpoints", "--resume"});
  nothing_changed(before, snapshot(taken.folder));
  taken.goes_on();
}
