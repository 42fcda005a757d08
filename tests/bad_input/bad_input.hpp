#pragma once
// Tables of bad input: how each file is made, what reads it, and what the error must say.
#include <doctest/doctest.h>

#include <functional>
#include <map>

#include "errors.hpp"
#include "hybridmed/io/file.hpp"

namespace hybridmed::test {

/// True where the text holds a match of the regular expression.
bool says(const std::string& text, const std::string& pattern);

void write_bytes(const std::filesystem::path& path, std::string_view bytes);

/// What a folder holds: every file's bytes, every other entry's name.
using Snapshot = std::map<std::string, std::string>;
Snapshot snapshot(const std::filesystem::path& folder);
/// The first names that differ, for a message; "" where none does.
std::string changes(const Snapshot& before, const Snapshot& after);

/// One error: it is the library's own, names the file, and says each of the patterns (place,
/// reason).
void check_error(const std::string& e, const std::filesystem::path& file,
                 const std::vector<std::string>& patterns);

struct BadInput {
  std::string name;
  /// Writes into an empty folder; returns the file that the error must name.
  std::function<std::filesystem::path(const std::filesystem::path& folder)> make;
  std::function<void(const std::filesystem::path& file)> use;
  /// Regular expressions of the place (where there is one inside the file) and of the reason.
  std::vector<std::string> patterns;
};

/// Makes, uses and checks each row; a reader leaves the files as they are.
void check(const std::vector<BadInput>& table);

}  // namespace hybridmed::test
