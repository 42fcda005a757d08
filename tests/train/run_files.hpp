#pragma once
// What a run left behind, against what another one did.
#include <doctest/doctest.h>

#include <filesystem>
#include <set>
#include <string>

#include "hybridmed/io/file.hpp"
#include "hybridmed/train/checkpoint.hpp"

namespace hybridmed::test {

/// Every file of a run is the same, byte for byte, but for the configuration that it was given.
inline void same_files(const std::filesystem::path& a, const std::filesystem::path& b) {
  namespace fs = std::filesystem;
  const auto files = [](const fs::path& run) {
    std::set<std::string> names;
    for (const auto& e : fs::recursive_directory_iterator(run))
      if (e.is_regular_file()) names.insert(fs::relative(e.path(), run).string());
    return names;
  };
  // Checkpoints of an earlier stop are older than those that the undisturbed run kept.
  const auto last = train::list_checkpoints(a).back().filename().string();
  std::set<std::string> mine, theirs;
  for (const auto& f : files(a))
    if (!f.starts_with("checkpoints/") || f.find(last) != f.npos) mine.insert(f);
  for (const auto& f : files(b))
    if (!f.starts_with("checkpoints/") || f.find(last) != f.npos) theirs.insert(f);
  CHECK(mine == theirs);
  for (const auto& f : mine) {
    CAPTURE(f);
    if (const auto name = fs::path(f).filename(); name != "config.json" && name != "checksums.json")
      CHECK(io::read_file(a / f) == io::read_file(b / f));
  }
}

}  // namespace hybridmed::test
