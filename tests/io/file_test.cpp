// Whole files, and writes that replace a file whole or not at all.
#include <doctest/doctest.h>

#include <unistd.h>

#include <atomic>
#include <thread>

#include "hybridmed/io/file.hpp"
#include "io.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
namespace fs = std::filesystem;

TEST_CASE("reading: whole files, and errors that name the file") {
  const ScratchFolder f;
  const fs::path path = f.path / "a file.bin";
  const std::string content("line\r\n\0\xFFtail", 12);
  std::ofstream(path, std::ios::binary) << content;
  CHECK(io::read_text(path) == content);
  CHECK(io::read_file(path).size() == 12);
  std::ofstream(f.path / "empty").close();
  CHECK(io::read_text(f.path / "empty").empty());
  for (const fs::path& bad : {f.path / "missing", f.path / "no folder" / "x", f.path}) {
    const std::string e = error_of([&] { io::read_file(bad); });
    CHECK_MESSAGE(holds(e, bad.string()), e);
  }
}

TEST_CASE("an atomic write replaces the file whole, or leaves the old one") {
  const ScratchFolder f;
  const fs::path path = f.path / "config.json";
  io::write_text_atomically(path, "old");
  CHECK(text_of(path) == "old");
  io::write_text_atomically(path, "new, and longer");
  CHECK(text_of(path) == "new, and longer");
  io::write_text_atomically(path, "");
  CHECK(text_of(path) == "");
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& e : fs::directory_iterator(f.path)) ++files;
  CHECK(files == 1);  // no temporary file stays

  const fs::path orphan = f.path / "no folder" / "config.json";
  std::string e = error_of([&] { io::write_text_atomically(orphan, "x"); });
  CHECK_MESSAGE(holds(e, orphan.string()), e);

  // A disk that fills up while writing: a device without room stands for it.
  if (fs::exists("/dev/full")) {
    io::write_text_atomically(path, "old");
    e = error_of([&] {
      io::write_atomically(path, [](const fs::path&) { io::write_text("/dev/full", "new"); });
    });
    CHECK_MESSAGE(holds(e, "No space left"), e);
    CHECK(text_of(path) == "old");
  }
  // A folder of that name stands in the way.
  fs::create_directories(f.path / "taken" / "inside");
  e = error_of([&] { io::write_text_atomically(f.path / "taken", "x"); });
  CHECK_MESSAGE(holds(e, (f.path / "taken").string()), e);
  CHECK(fs::is_directory(f.path / "taken" / "inside"));

  if (::geteuid() != 0) {  // root may write anywhere
    io::write_text_atomically(path, "old");
    fs::permissions(f.path, fs::perms::owner_read | fs::perms::owner_exec);
    e = error_of([&] { io::write_text_atomically(path, "new"); });
    CHECK_MESSAGE(holds(e, path.string()), e);
    CHECK(text_of(path) == "old");
    fs::permissions(f.path, fs::perms::owner_all);
  }
}

TEST_CASE("a failed atomic write leaves no temporary file behind") {
  const ScratchFolder f;
  fs::create_directories(f.path / "taken" / "inside");
  CHECK(error_of([&] { io::write_text_atomically(f.path / "taken", "x"); }) != "");
  CHECK(!fs::exists(f.path / "taken.tmp"));
}

TEST_CASE("a file may be written by several threads at once: it is always whole") {
  const ScratchFolder f;
  std::vector<std::thread> writers;
  std::atomic<int> failures{0};
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([&] {
      for (int i = 0; i < 25; ++i) try {
          io::write_text_atomically(f.path / "file", std::string(1000, 'x'));
          if (io::read_text(f.path / "file").size() != 1000) ++failures;
        } catch (const Error&) {
          ++failures;
        }
    });
  for (auto& w : writers) w.join();
  CHECK(failures == 0);
}
