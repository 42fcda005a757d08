#pragma once
// Checksums of the files of a folder, kept in its checksums.json: a bit that flipped on the disk is
// noticed when a file is read. They guard against damage, not against people.
#include <cinttypes>
#include <cstdio>

#include "hybridmed/io/json.hpp"

namespace hybridmed::io {

/// FNV-1a over 64-bit words, the last one filled up with zeros, then over the length. Every step is
/// a bijection of the state, so two texts that differ in one word never agree.
inline std::uint64_t checksum(std::span<const std::byte> bytes) {
  constexpr std::uint64_t prime = 1099511628211ull;
  std::uint64_t h = 14695981039346656037ull;
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    h = (h ^ word) * prime;
  }
  std::uint64_t rest = 0;
  if (i < bytes.size()) std::memcpy(&rest, bytes.data() + i, bytes.size() - i);
  return ((h ^ rest) * prime ^ bytes.size()) * prime;
}
inline std::string checksum_text(std::span<const std::byte> bytes) {
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, checksum(bytes));
  return text;
}

inline constexpr const char* checksum_file = "checksums.json";

/// Writes the checksums of all files of `folder`.
inline void write_checksums(const std::filesystem::path& folder) {
  std::map<std::string, std::string> sums;
  for (const auto& e : std::filesystem::directory_iterator(folder))
    if (e.is_regular_file())
      sums[e.path().filename().string()] = checksum_text(read_file(e.path()));
  write_text(folder / checksum_file, Json(sums).dump(1) + "\n");
}

/// Compares the checksum of what was read from `file` with the one that was written beside it; a
/// folder without checksums passes.
/// @throws Error where they differ, or where the list does not hold the file.
inline void verify_checksum(const std::filesystem::path& file, const std::string& checksum) {
  const auto list = file.parent_path() / checksum_file;
  std::error_code ec;
  if (!std::filesystem::exists(list, ec)) return;
  const Json sums = read_json(list);
  const std::string name = file.filename().string();
  if (!sums.is_object() || !sums.contains(name))
    fail(
        "io", "checksum",
        list.string() + ": holds no checksum of " + name + ", which lies beside it",
        "take a copy of the folder that is whole; if the file is yours, keep it in another folder");
  if (!sums[name].is_string() || sums[name].get<std::string>() != checksum)
    fail("io", "checksum",
         file.string() + ": its checksum is not the one that " + list.string() +
             " holds: the file was damaged or changed since it was written",
         "take a copy that is whole; if the change is yours, remove " + list.string());
}
inline void verify_checksum(const std::filesystem::path& file, std::span<const std::byte> bytes) {
  verify_checksum(file, checksum_text(bytes));
}

}  // namespace hybridmed::io
