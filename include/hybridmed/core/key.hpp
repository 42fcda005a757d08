#pragma once
// Keys of a configuration. A struct declares each key once, in its `visit(f)`, by calling
// f(Key, field); reading, checking, errors, `hybridmed config` and docs/configuration.md follow.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "hybridmed/core/error.hpp"

namespace hybridmed {

/// Which values of a key make sense.
struct Range {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  bool most_excluded = false;
  std::string_view choices = {};  ///< of a text, separated by '|'
  bool named = false;             ///< a text that may not be empty
};
constexpr Range anything() { return {}; }
constexpr Range between(double least, double most) { return {least, most}; }
constexpr Range at_least(double least) { return {least}; }
/// `least` included, `most` not.
constexpr Range below(double least, double most) { return {least, most, true}; }
constexpr Range one_of(std::string_view choices) { return {.choices = choices}; }
constexpr Range not_empty() { return {.named = true}; }

/// A key: its name, the part of the configuration that it belongs to, its values, and one sentence.
struct Key {
  std::string_view name, part;
  Range range;
  std::string_view sentence;
  constexpr operator std::string_view() const { return name; }
};

/// Makes the keys of one part.
struct Keys {
  std::string_view part;
  constexpr Key operator()(std::string_view name, Range range, std::string_view sentence) const {
    return {name, part, range, sentence};
  }
};

namespace detail {
inline std::string number_text(double x) {
  char text[40];
  std::snprintf(text, sizeof text, x == std::floor(x) && std::abs(x) < 1e16 ? "%.0f" : "%g", x);
  return text;
}
template <class F>
void each_choice(std::string_view choices, F&& f) {
  while (!choices.empty()) {
    const std::size_t end = (std::min)(choices.find('|'), choices.size());
    const std::string_view choice = choices.substr(0, end);
    choices.remove_prefix((std::min)(end + 1, choices.size()));
    f(choice, choices.empty());
  }
}
/// "a, b or c" of "a|b|c".
inline std::string choices_text(std::string_view choices) {
  std::string out;
  each_choice(choices, [&](std::string_view choice, bool last) {
    if (!out.empty()) out.append(last ? " or " : ", ");
    out.append(choice);
  });
  return out;
}
inline bool is_choice(std::string_view choices, std::string_view value) {
  bool found = false;
  each_choice(choices, [&](std::string_view choice, bool) { found = found || choice == value; });
  return found;
}

}  // namespace detail

/// The values of a range in words: "1 to 65536", "vit, swin or resnet"; empty where all are fine.
inline std::string range_text(const Range& r) {
  if (!r.choices.empty()) return detail::choices_text(r.choices);
  if (r.named) return "not empty";
  if (std::isinf(r.least)) return {};
  if (std::isinf(r.most)) return "at least " + detail::number_text(r.least);
  return detail::number_text(r.least) + " to " + (r.most_excluded ? "below " : "") +
         detail::number_text(r.most);
}

/// @throws Error that names the key, where the value is not in its range.
template <class Field>
void check_key(const Key& key, const Field& value, std::string_view area,
               std::string_view operation) {
  const Range& r = key.range;
  const auto wrong = [&](const std::string& expected, const std::string& got) {
    fail(area, operation, std::string(key.name) + ": expected " + expected + ", got " + got);
  };
  if constexpr (requires { std::tuple_size<Field>::value; }) {
    for (const auto& x : value) check_key(key, x, area, operation);
  } else if constexpr (std::is_same_v<Field, std::string>) {
    if (!r.choices.empty() && !detail::is_choice(r.choices, value))
      wrong(range_text(r), "'" + value + "'");
    if (r.named && value.empty()) wrong("a name", "an empty one");
  } else if constexpr (std::is_arithmetic_v<Field> && !std::is_same_v<Field, bool>) {
    const double x = static_cast<double>(value);
    const bool fits =
        x >= r.least && (r.most_excluded ? x < r.most : x <= r.most) && std::isfinite(x);
    const char* kind = std::is_integral_v<Field> ? "a whole number" : "a number";
    const std::string values = range_text(r);
    if (!fits)
      wrong(std::string(kind) +
                (values.starts_with("at least") ? " of "
                 : values.empty()               ? ""
                                                : " from ") +
                values,
            std::is_integral_v<Field> ? std::to_string(value) : detail::number_text(x));
  }
}

/// Checks every key of a configuration against its range.
/// @throws Error that names the first key that does not fit.
template <class C>
void check_keys(C config, std::string_view area, std::string_view operation) {
  config.visit([&](const Key& key, auto& field) { check_key(key, field, area, operation); });
}

}  // namespace hybridmed
