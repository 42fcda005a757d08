// Every key of a configuration: default, values, and what it is.
#include "hybridmed/train/run_config.hpp"

#include <iostream>

#include "commands.hpp"

namespace hybridmed::app {

namespace {

struct Row {
  Key key;
  std::string value;  // the default
};

std::vector<Row> all_keys() {
  std::vector<Row> rows;
  train::RunConfig defaults;
  defaults.visit([&](const Key& key, auto& field) {
    const io::Json value = field;
    rows.push_back({key, value.is_string() ? value.get<std::string>() : value.dump()});
  });
  return rows;
}

/// The rows of these keys; all where none is named.
/// @throws Error for a name that is no key.
std::vector<Row> asked(const std::vector<std::string>& names) {
  const std::vector<Row> all = all_keys();
  if (names.empty()) return all;
  std::vector<std::string> known;
  for (const Row& row : all) known.emplace_back(row.key.name);
  std::vector<Row> out;
  for (const auto& name : names) {
    const auto it = std::find(known.begin(), known.end(), name);
    if (it == known.end())
      fail("app", "config", "there is no key '" + name + "'", data::did_you_mean(name, known));
    out.push_back(all[static_cast<std::size_t>(it - known.begin())]);
  }
  return out;
}

std::string padded(std::string text, std::size_t width) {
  text.resize((std::max)(width, text.size() + 1), ' ');
  return text;
}

void print_text(const std::vector<Row>& rows) {
  std::string_view part;
  for (const Row& row : rows) {
    if (row.key.part != part) {
      std::cout << (part.empty() ? "" : "\n") << row.key.part << "\n";
      part = row.key.part;
    }
    std::cout << "  " << padded(std::string(row.key.name), 20)
              << padded(row.value.empty() ? "(empty)" : row.value, 16)
              << padded(range_text(row.key.range), 24) << row.key.sentence << "\n";
  }
}

void print_markdown(const std::vector<Row>& rows) {
  std::cout << "# Configuration\n\n"
               "A configuration is one flat JSON object; every key can also be set on the command "
               "line, `--set key=value`, once for each key. An unknown key is an error. The key "
               "`preset` names the values that the others change: "
            << model::Config::presets
            << ". `hybridmed config KEY` prints one of these lines. This page is what `hybridmed "
               "config --markdown` prints.\n";
  std::string_view part;
  for (const Row& row : rows) {
    if (row.key.part != part)
      std::cout << "\n## " << row.key.part
                << "\n\n| key | default | values | |\n|---|---|---|---|\n";
    part = row.key.part;
    std::cout << "| `" << row.key.name << "` | " << (row.value.empty() ? "" : "`" + row.value + "`")
              << " | " << range_text(row.key.range) << " | " << row.key.sentence << " |\n";
  }
}

}  // namespace

int run_config(const ConfigOptions& o) {
  const std::vector<Row> rows = asked(o.keys);
  if (o.markdown)
    print_markdown(rows);
  else
    print_text(rows);
  return 0;
}

}  // namespace hybridmed::app
