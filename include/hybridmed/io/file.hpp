#pragma once
// Files: whole reads, and writes that never leave a half-written file behind.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hybridmed/core/error.hpp"

namespace hybridmed::io {

/// The whole file. Throws Error naming the file and the reason.
inline std::vector<std::byte> read_file(const std::filesystem::path& path) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) fail("io", "read", path.string() + ": is a folder");
  if (std::filesystem::exists(path, ec) && !std::filesystem::is_regular_file(path, ec))
    fail("io", "read", path.string() + ": is no regular file");  // a pipe would block
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) fail("io", "read", path.string() + ": " + std::strerror(errno));
  const auto size = in.tellg();
  if (size < 0) fail("io", "read", path.string() + ": cannot tell its size");
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  in.seekg(0);
  if (!bytes.empty() && !in.read(reinterpret_cast<char*>(bytes.data()), size))
    fail("io", "read", path.string() + ": " + std::strerror(errno));
  return bytes;
}
inline std::string read_text(const std::filesystem::path& path) {
  const auto bytes = read_file(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Flushes a file or folder to the disk.
inline void sync_path(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY);
  if (fd < 0) fail("io", "sync", path.string() + ": " + std::strerror(errno));
  const int rc = ::fsync(fd), e = errno;
  ::close(fd);
  if (rc != 0) fail("io", "sync", path.string() + ": " + std::strerror(e));
}

/// Lets two paths change their places in one step; false where the file system cannot.
inline bool exchange(const std::filesystem::path& a, const std::filesystem::path& b) {
#ifdef RENAME_EXCHANGE
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#else
  (void)a;
  (void)b;
  return false;
#endif
}

/// Holds a folder against other processes until it is destroyed; no file is made.
/// @throws Error when another process holds it.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder)
      : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0) fail("io", "lock", folder.string() + ": " + std::strerror(errno));
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
      return;  // a file system without locks is no error
    ::close(fd_);
    fail("io", "lock", folder.string() + ": another process is writing to this folder",
         "wait for it or stop it, or write to another folder");
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() { ::close(fd_); }

 private:
  int fd_;
};

/// What to do about a file that could not be written, by errno; empty where nothing can be advised.
inline const char* write_hint(int error) {
  return error == ENOSPC || error == EDQUOT ? "free some disk space" : "";
}

/// A file being written; `close` checks that every byte reached the disk.
class Writer {
 public:
  explicit Writer(const std::filesystem::path& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd_ < 0) fail("io", "write", path.string() + ": " + std::strerror(errno));
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() {
    if (fd_ >= 0) ::close(fd_);
  }
  void write(const void* data, std::size_t bytes) {
    const char* p = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::write(fd_, p, bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0)
        fail("io", "write", path_.string() + ": " + std::strerror(errno), write_hint(errno));
      p += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }
  void close() {
    const int fd = std::exchange(fd_, -1);
    const bool synced = ::fsync(fd) == 0;
    const int e = errno;
    if (::close(fd) != 0 || !synced)
      fail("io", "write", path_.string() + ": " + std::strerror(e), write_hint(e));
  }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

/// Writes a text file and waits until it is on the disk.
inline void write_text(const std::filesystem::path& path, std::string_view text) {
  Writer w(path);
  w.write(text.data(), text.size());
  w.close();
}

/// For long work that ends in a file.
/// @throws Error where the file could not be written.
inline void need_writable(const std::filesystem::path& path) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) fail("io", "write", path.string() + ": is a folder");
  const auto parent = path.parent_path().empty() ? std::filesystem::path(".") : path.parent_path();
  if (::access(parent.c_str(), W_OK | X_OK) != 0)
    fail("io", "write", parent.string() + ": " + std::strerror(errno));
}

/// Calls write(temporary path) and renames what it wrote to `path`: the file is there whole, or as
/// it was. `sync`: also after the machine stops, for what cannot be made again.
template <class F>
void write_atomically(const std::filesystem::path& path, F&& write, bool sync = true) {
  static std::atomic<unsigned> number{
      0};  // so that several threads or processes may write the same file
  const std::filesystem::path temporary =
      path.string() + "." + std::to_string(::getpid()) + "-" + std::to_string(number++) + ".tmp";
  std::error_code ec, ignored;
  try {
    write(temporary);
    if (sync) sync_path(temporary);
  } catch (...) {
    std::filesystem::remove(temporary, ignored);
    throw;
  }
  std::filesystem::rename(temporary, path, ec);
  if (ec) {
    std::filesystem::remove(temporary, ignored);
    fail("io", "write", path.string() + ": " + ec.message());
  }
}
inline void write_text_atomically(const std::filesystem::path& path, std::string_view text) {
  write_atomically(
      path, [&](const std::filesystem::path& temporary) { write_text(temporary, text); },
      /*sync=*/false);  // write_text syncs
}

}  // namespace hybridmed::io
