#pragma once
// JSON through nlohmann/json, with the checks that configuration files need: no duplicate keys,
// errors that name the file and the place.
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <set>

#include "hybridmed/io/file.hpp"

namespace hybridmed::io {

using Json = nlohmann::ordered_json;

/// Keys of one object; an ordered object is searched from its front, so this bounds the work.
inline constexpr std::size_t most_keys = 20000;

/// How deep a text nests, brackets inside strings aside: the parser recurses, so this is bounded
/// before it starts.
inline std::size_t json_depth(std::string_view text) {
  std::size_t depth = 0, deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = (std::max)(deepest, ++depth);
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}

/// Parses strictly; `source` is named in errors.
inline Json parse_json(std::string_view text, const std::string& source) {
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  const auto watch = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      if (!keys.back().insert(value.get<std::string>()).second)
        duplicate = value.get<std::string>();
      if (keys.back().size() > most_keys)
        fail("io", "json",
             source + ": an object of more than " + std::to_string(most_keys) + " keys");
    }
    return true;
  };
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  if (text.find('\0') != text.npos)
    fail("io", "json",
         source + ": a zero byte at offset " + std::to_string(text.find('\0')) + ": it is no UTF-8",
         "an editor may have saved it as UTF-16: save it as UTF-8");
  if (json_depth(text) > 200) fail("io", "json", source + ": nested more than 200 levels deep");
  try {
    Json j = Json::parse(text, watch);
    if (!duplicate.empty())
      fail("io", "json", source + ": the key '" + duplicate + "' stands twice");
    return j;
  } catch (const Json::exception& e) {
    const std::string what = e.what();
    const auto at = what.find("] ");
    fail("io", "json", source + ": " + (at == what.npos ? what : what.substr(at + 2)));
  }
}
inline Json read_json(const std::filesystem::path& path) {
  return parse_json(read_text(path), path.string());
}

/// The member `key` of `j` as a T; errors name the source, the key, and what was found.
template <class T>
T get(const Json& j, const std::string& key, const std::string& source) {
  if (!j.is_object() || !j.contains(key))
    fail("io", "json", source + ": the key '" + key + "' is missing");
  try {
    return j.at(key).get<T>();
  } catch (const Json::exception&) {
    fail("io", "json",
         source + ": the key '" + key + "' has the wrong type: " + j.at(key).dump().substr(0, 60));
  }
}

}  // namespace hybridmed::io
