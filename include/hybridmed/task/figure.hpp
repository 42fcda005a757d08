#pragma once
// One measured figure, and figures as JSON and as a table.
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "hybridmed/data/csv.hpp"
#include "hybridmed/data/wordpiece.hpp"

namespace hybridmed::task {

/// One figure; absent parts are null in JSON.
struct Figure {
  std::string name;
  std::optional<double> value, low, high;
  std::size_t n = 0;
  std::optional<double> chance;
  std::vector<std::string> labels{};  ///< of a mean: the labels that it holds
  bool count = false;                 ///< a number of things
};

inline io::Json to_json(const std::vector<Figure>& figures) {
  io::Json out = io::Json::array();
  const auto number = [](const std::optional<double>& x) {
    return x && std::isfinite(*x) ? io::Json(*x) : io::Json(nullptr);
  };
  for (const Figure& f : figures) {
    out.push_back({{"name", f.name},
                   {"value", number(f.value)},
                   {"low", number(f.low)},
                   {"high", number(f.high)},
                   {"n", f.n},
                   {"chance", number(f.chance)}});
    if (!f.labels.empty()) out.back()["labels"] = f.labels;
  }
  return out;
}

inline std::string to_table(const std::vector<Figure>& figures) {
  std::size_t width = 44;
  for (const Figure& f : figures)
    width = (std::max)(width, data::characters_in(data::printable(f.name)));
  const auto padded = [&](const std::string& s) {
    return s + std::string(width - data::characters_in(s), ' ');
  };
  std::string out = padded("figure") + "   value   95 % interval      n   chance\n";
  for (const Figure& f : figures) {
    char line[160], interval[32] = "", chance[16] = "", value[16] = "-";
    const char* format = f.count ? "%.0f" : "%.3f";
    if (f.value && std::isfinite(*f.value)) std::snprintf(value, sizeof value, format, *f.value);
    if (f.low && f.high && std::isfinite(*f.low))
      std::snprintf(interval, sizeof interval, "%.3f - %.3f", *f.low, *f.high);
    if (f.chance) std::snprintf(chance, sizeof chance, format, *f.chance);
    std::snprintf(line, sizeof line, " %7s   %-13s %6zu   %6s\n", value, interval, f.n, chance);
    out += padded(data::printable(f.name)) + line;
  }
  return out;
}

}  // namespace hybridmed::task
