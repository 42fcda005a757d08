#include "bad_input.hpp"

#include <regex>

namespace hybridmed::test {

bool says(const std::string& text, const std::string& pattern) {
  return std::regex_search(text, std::regex(pattern));
}

void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream out(path, std::ios::binary);
  out << bytes;
  out.close();
  REQUIRE_MESSAGE(out.good(), path.string());
}

Snapshot snapshot(const std::filesystem::path& folder) {
  Snapshot s;
  if (!std::filesystem::exists(folder)) return s;
  for (const auto& e : std::filesystem::recursive_directory_iterator(folder))
    s[std::filesystem::relative(e.path(), folder).string()] =
        e.is_regular_file() ? "file: " + io::read_text(e.path()) : "no file";
  return s;
}

std::string changes(const Snapshot& before, const Snapshot& after) {
  std::vector<std::string> all;
  for (const auto& [name, bytes] : before)
    if (const auto it = after.find(name); it == after.end())
      all.push_back(name + " is gone");
    else if (it->second != bytes)
      all.push_back(name + " has changed");
  for (const auto& [name, bytes] : after)
    if (!before.count(name)) all.push_back(name + " is new");
  std::string s;
  for (std::size_t i = 0; i < all.size() && i < 5; ++i) s += all[i] + "; ";
  return s + (all.size() > 5 ? "and " + std::to_string(all.size() - 5) + " more" : "");
}

void check_error(const std::string& e, const std::filesystem::path& file,
                 const std::vector<std::string>& patterns) {
  if (e.empty()) {
    FAIL_CHECK("no error");
    return;
  }
  CHECK_MESSAGE(e.starts_with("[hybridmed."), e);
  CHECK_MESSAGE(holds(e, file.string()), "the file '", file.string(), "' is not named: ", e);
  for (const auto& p : patterns) CHECK_MESSAGE(says(e, p), "'", p, "' is not said: ", e);
}

void check(const std::vector<BadInput>& table) {
  for (const BadInput& row : table) {
    INFO(row.name);
    const ScratchFolder folder;
    const std::filesystem::path file = row.make(folder.path);
    const Snapshot before = snapshot(folder.path);
    std::string e;
    CHECK_NOTHROW(e = error_of([&] { row.use(file); }));  // no other exception either
    check_error(e, file, row.patterns);
    CHECK_MESSAGE(changes(before, snapshot(folder.path)) == "",
                  changes(before, snapshot(folder.path)));
  }
}

}  // namespace hybridmed::test
