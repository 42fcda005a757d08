// The loss curves of a run.
#include <fstream>
#include <iostream>
#include <map>
#include <set>

#include "commands.hpp"
#include "hybridmed/io/json.hpp"
#include "hybridmed/picture/curves.hpp"

namespace hybridmed::app {

namespace fs = std::filesystem;

/// A long curve of steps as averages of runs of steps.
static picture::Curve thinned(const picture::Curve& c) {
  const std::size_t n = (c.x.size() + 199) / 200;
  if (n < 2 || c.dashed) return c;
  picture::Curve thin{c.name, {}, {}, c.dashed, c.colour};
  for (std::size_t i = 0; i + n <= c.x.size(); i += n) {
    double sum = 0;
    for (std::size_t k = 0; k < n; ++k) sum += c.y[i + k];
    thin.x.push_back(c.x[i + n - 1]);
    thin.y.push_back(sum / static_cast<double>(n));
  }
  return thin;
}

/// The losses of a row: every number that is not of the run itself.
static std::vector<std::string> losses_of(const io::Json& row) {
  static const std::set<std::string> others{"kind", "stage", "epoch",    "step",
                                            "lr",   "total", "grad_norm"};
  std::vector<std::string> names;
  for (const auto& item : row.items())
    if (!others.count(item.key()) && item.value().is_number()) names.push_back(item.key());
  return names;
}

/// What the names of losses stand for.
static std::string spelled(const std::string& name) {
  static const std::map<std::string, std::string> meanings{
      {"cg", "global alignment"},   {"cl", "local alignment"},  {"sum", "summarization"},
      {"cap", "captioning"},        {"dis", "distillation"},    {"siglip", "pairwise sigmoid"},
      {"token", "token alignment"}, {"prototype", "prototypes"}};
  const auto it = meanings.find(name);
  return it == meanings.end() ? name : name + ": " + it->second;
}

int run_curves(const std::string& run) {
  std::array<picture::Panel, 2> panels{{{"stage 1", {}}, {"stage 2", {}}}};
  std::ifstream in(fs::path(run) / "log.jsonl");
  if (!in)
    fail("app", "curves", run + ": no log.jsonl", "--run names the folder that pretrain wrote");
  std::vector<io::Json> rows;
  std::vector<std::string> names;  // those of the last stage first: each has a colour of its own
  for (std::string line; std::getline(in, line);) {
    const std::string where = run + "/log.jsonl, line " + std::to_string(rows.size() + 1);
    if (in.eof()) {  // no line end: the process was killed, or is writing
      std::cerr << "note: " << where << " is not whole, and left out\n";
      break;
    }
    rows.push_back(io::parse_json(line, where));
    const auto stage = io::get<std::int64_t>(rows.back(), "stage", where);
    if (stage != 1 && stage != 2)
      fail("app", "curves", where + ": expected stage 1 or 2, got " + rows.back()["stage"].dump());
    std::vector<std::string> all = losses_of(rows.back());
    for (const auto& name : names)
      if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
    names = std::move(all);
  }
  std::map<std::pair<int, std::string>, std::size_t> index;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string where = run + "/log.jsonl, line " + std::to_string(i + 1);
    const auto stage = static_cast<int>(io::get<std::int64_t>(rows[i], "stage", where));
    const bool valid = io::get<std::string>(rows[i], "kind", where) == "valid";
    auto& curves = panels[static_cast<std::size_t>(stage - 1)].curves;
    for (const auto& name : losses_of(rows[i])) {
      const std::string title = spelled(name) + (valid ? ", valid" : "");
      const auto colour = std::find(names.begin(), names.end(), name) - names.begin();
      const auto [it, fresh] = index.emplace(std::pair(stage, title), curves.size());
      if (fresh) curves.push_back({title, {}, {}, valid, static_cast<int>(colour)});
      curves[it->second].x.push_back(io::get<double>(rows[i], "step", where));
      curves[it->second].y.push_back(rows[i][name].get<double>());
    }
  }
  std::vector<picture::Panel> drawn;
  for (auto& p : panels) {
    for (auto& c : p.curves) c = thinned(c);
    if (!p.curves.empty()) drawn.push_back(p);
  }
  if (drawn.empty()) fail("app", "curves", run + "/log.jsonl: no step was logged");
  const auto path = fs::path(run) / "curves.png";
  picture::draw_curves(path.string(), drawn, "step", "loss");
  std::cerr << "loss curves: " << path.string() << "\n";
  return 0;
}

}  // namespace hybridmed::app
