#pragma once
// Plain configuration structs to and from JSON. A struct lists its keys in `visit(f)`; an unknown
// key is an error that names the nearest one.
#include <algorithm>
#include <set>
#include <utility>

#include "hybridmed/io/json.hpp"

namespace hybridmed::io {

/// Levenshtein distance of two names; ASCII case does not count.
inline std::size_t edit_distance(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t up = row[j];
      const bool differ = lower(a[i - 1]) != lower(b[j - 1]);
      row[j] = (std::min)({up + 1, row[j - 1] + 1, diagonal + differ});
      diagonal = up;
    }
  }
  return row[b.size()];
}

namespace detail {
template <class Field>
void assign(const Json& v, const std::string& key, Field& field, const std::string& source) {
  const auto wrong = [&](const char* expected) {
    fail(
        "io", "config",
        source + ": the key '" + key + "' expects " + expected + ", got " + v.dump().substr(0, 60));
  };
  if constexpr (std::is_same_v<Field, bool>) {
    if (!v.is_boolean()) wrong("true or false");
    field = v.get<bool>();
  } else if constexpr (std::is_integral_v<Field>) {
    if (!v.is_number_integer()) wrong("a whole number");
    const bool fits = v.is_number_unsigned() ? std::in_range<Field>(v.get<std::uint64_t>())
                                             : std::in_range<Field>(v.get<std::int64_t>());
    if (!fits) wrong("a smaller whole number");
    field = v.get<Field>();
  } else if constexpr (std::is_floating_point_v<Field>) {
    if (!v.is_number()) wrong("a number");
    field = v.get<Field>();
  } else if constexpr (std::is_same_v<Field, std::string>) {
    if (!v.is_string()) wrong("a text");
    field = v.get<std::string>();
    if (field.find('\0') != field.npos) wrong("a text without zero bytes");
  } else {
    if (!v.is_array()) wrong("a list");
    Field list{};
    if constexpr (requires { std::tuple_size<Field>::value; }) {
      if (v.size() != std::tuple_size_v<Field>)
        wrong(("a list of " + std::to_string(std::tuple_size_v<Field>)).c_str());
    } else {
      list.resize(v.size());
    }
    for (std::size_t i = 0; i < v.size(); ++i) assign(v[i], key, list[i], source);
    field = std::move(list);
  }
}
}  // namespace detail

/// Fills the fields of `config` that `j` names. Unless `extra_allowed`, a key that is not a field
/// is an error.
template <class C>
void from_json(const Json& j, C& config, const std::string& source, bool extra_allowed = false) {
  if (!j.is_object()) fail("io", "config", source + ": expected an object of keys and values");
  for (const auto& item : j.items()) {
    const std::string& name = item.key();
    const Json& v = item.value();
    bool found = false;
    std::string nearest;
    std::size_t best = ~std::size_t{0};
    config.visit([&](std::string_view key, auto& field) {
      if (key == name) {
        detail::assign(v, name, field, source);
        found = true;
      } else if (const auto d = edit_distance(name, key); d < best) {
        best = d;
        nearest = key;
      }
    });
    if (!found && !extra_allowed)
      fail("io", "config", source + ": unknown key '" + name + "'",
           "did you mean '" + nearest + "'?");
  }
}

/// Every key and value of `config`.
template <class C>
Json to_json(C config) {
  Json j = Json::object();
  config.visit([&](std::string_view key, auto& field) { j[std::string(key)] = field; });
  return j;
}

/// Applies "key=value"; the value is JSON, or a text where it is not.
template <class C>
void override_key(C& config, const std::string& assignment) {
  const auto eq = assignment.find('=');
  if (eq == assignment.npos || eq == 0)
    fail("io", "config", "--set " + assignment + ": expected key=value");
  const std::string text = assignment.substr(eq + 1);
  try {
    (void)Json(assignment).dump();
  } catch (const Json::exception&) {
    fail("io", "config", "--set: the key or the value is not UTF-8");
  }
  Json v = json_depth(text) > 200 ? Json(text) : Json::parse(text, nullptr, false);
  if (v.is_discarded()) v = text;
  config.visit([&](std::string_view key, auto& field) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(field)>, std::string>)
      if (key == assignment.substr(0, eq) && !v.is_string()) v = text;
  });
  from_json(Json{{assignment.substr(0, eq), v}}, config, "--set");
}

/// Applies several, each to another key.
/// @throws Error where a key is given twice.
template <class C>
void override_keys(C& config, const std::vector<std::string>& assignments) {
  std::set<std::string> seen;
  for (const auto& assignment : assignments) {
    const std::string key = assignment.substr(0, assignment.find('='));
    if (!seen.insert(key).second) fail("io", "config", "--set " + key + ": given twice");
    override_key(config, assignment);
  }
}

}  // namespace hybridmed::io
