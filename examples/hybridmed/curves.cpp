// The loss curves of a run.
#include <fstream>
#include <iostream>
#include <map>

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

int run_curves(const std::string& run) {
  std::array<picture::Panel, 2> panels{{{"stage 1", {}}, {"stage 2", {}}}};
  std::map<std::pair<int, std::string>, std::size_t> index;
  std::ifstream in(fs::path(run) / "log.jsonl");
  if (!in)
    fail("app", "curves", run + ": no log.jsonl", "--run names the folder that pretrain wrote");
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const std::string where = run + "/log.jsonl, line " + std::to_string(number);
    const io::Json row = io::parse_json(line, where);
    const auto stage = io::get<std::int64_t>(row, "stage", where);
    if (stage != 1 && stage != 2)
      fail("app", "curves", where + ": expected stage 1 or 2, got " + row["stage"].dump());
    const bool valid = io::get<std::string>(row, "kind", where) == "valid";
    int colour = 0;
    for (const char* name : {"cg", "cl", "sum", "cap", "dis"}) {
      if (!row.contains(name) || !row[name].is_number()) {
        ++colour;
        continue;
      }
      auto& curves = panels[static_cast<std::size_t>(stage - 1)].curves;
      static const std::map<std::string, std::string> meanings{{"cg", "global alignment"},
                                                               {"cl", "local alignment"},
                                                               {"sum", "summarization"},
                                                               {"cap", "captioning"},
                                                               {"dis", "distillation"}};
      const std::string title =
          std::string(name) + ": " + meanings.at(name) + (valid ? ", valid" : "");
      const auto [it, fresh] =
          index.emplace(std::pair(static_cast<int>(stage), title), curves.size());
      if (fresh) curves.push_back({title, {}, {}, valid, colour});
      curves[it->second].x.push_back(io::get<double>(row, "step", where));
      curves[it->second].y.push_back(row[name].get<double>());
      ++colour;
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
