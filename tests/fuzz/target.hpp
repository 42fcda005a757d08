#pragma once
// What the fuzz targets share. Bytes from outside are either read or refused with an Error;
// whatever else escapes a reader, and whatever an accepted input lacks that it must have, ends the
// process.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "hybridmed/core/error.hpp"

namespace hybridmed::fuzz {

/// The last Error since the replay program cleared this.
inline std::string refusal;

/// `about` names what was looked at: a tensor, a message, a file.
inline void require(bool ok, const char* what, std::string_view about = "") {
  if (ok) return;
  std::fprintf(stderr, "fuzz: violated: %s %.*s\n", what, static_cast<int>(about.size()),
               about.data());
  std::abort();
}

/// Runs f; an Error is fine where it follows the grammar of errors and names `source`.
template <class F>
void guarded(const std::string& source, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    refusal = e.what();
    require(refusal.starts_with("[hybridmed."), "an error starts with its area:", refusal);
    require(refusal.find(source) != refusal.npos, "an error names its source:", refusal);
  }
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// For readers that take a path. A failure here is not the reader's: it must not pass for a refused
/// input.
inline void put(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  require(static_cast<bool>(out), "a scratch file can be written:", path.native());
}

}  // namespace hybridmed::fuzz
