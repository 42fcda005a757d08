// Runs docs/tour.md: every line that begins with "$ " in a console block is a command, what follows
// is what it prints. "..." stands for any lines. Words and whole numbers must be the same; a figure
// of a short training differs between machines, so numbers with a point may differ by one half.
#include <cctype>
#include <cmath>
#include <sstream>

#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

struct Step {
  std::string command;
  std::vector<std::string> expected;
  std::size_t line = 0;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

std::vector<Step> steps_of(const std::string& page) {
  std::vector<Step> steps;
  bool inside = false;
  std::size_t number = 0;
  for (const auto& line : lines_of(page)) {
    ++number;
    if (line.starts_with("```")) {
      inside = !inside && line == "```console";
    } else if (inside && line.starts_with("$ ")) {
      steps.push_back({line.substr(2), {}, number});
    } else if (inside) {
      REQUIRE_MESSAGE(!steps.empty(), "line ", number, ": output before the first command");
      steps.back().expected.push_back(line);
    }
  }
  return steps;
}

/// Numbers with a point, and what stands between them; blanks collapsed.
struct Parts {
  std::string text;
  std::vector<double> figures;
};
Parts parts_of(const std::string& line) {
  Parts p;
  const auto digit = [&](std::size_t k) {
    return k < line.size() && std::isdigit(static_cast<unsigned char>(line[k]));
  };
  for (std::size_t i = 0; i < line.size();) {
    std::size_t end = i + (line[i] == '-' || line[i] == '+');
    const std::size_t first = end;
    while (digit(end)) ++end;
    const bool before =
        i > 0 && (std::isalnum(static_cast<unsigned char>(line[i - 1])) || line[i - 1] == '.');
    if (!before && end > first && end < line.size() && line[end] == '.' && digit(end + 1)) {
      for (++end; digit(end);) ++end;
      const std::string_view rest = std::string_view(line).substr((std::min)(end, line.size()));
      if ((rest.starts_with("e-") || rest.starts_with("e+")) && digit(end + 2))
        for (end += 2; digit(end);) ++end;
      p.figures.push_back(std::stod(line.substr(i, end - i)));
      p.text += p.text.empty() || p.text.back() != ' ' ? " # " : "# ";
      i = end;
    } else {
      if (line[i] != ' ')
        p.text += line[i];
      else if (!p.text.empty() && p.text.back() != ' ')
        p.text += ' ';
      ++i;
    }
  }
  while (p.text.ends_with(' ')) p.text.pop_back();
  return p;
}
bool same(const std::string& expected, const std::string& printed) {
  const Parts a = parts_of(expected), b = parts_of(printed);
  if (a.text != b.text || a.figures.size() != b.figures.size()) return false;
  for (std::size_t i = 0; i < a.figures.size(); ++i)
    if (std::abs(a.figures[i] - b.figures[i]) > (std::max)(0.5, 0.5 * std::abs(a.figures[i])))
      return false;
  return true;
}
/// Do the lines match from here on? `deepest`: how many expected lines did at most.
bool matches(const std::vector<std::string>& expected, std::size_t e,
             const std::vector<std::string>& printed, std::size_t p, std::size_t& deepest) {
  deepest = (std::max)(deepest, e);
  if (e == expected.size()) return p == printed.size();
  if (expected[e] == "...") {
    for (std::size_t k = p; k <= printed.size(); ++k)
      if (matches(expected, e + 1, printed, k, deepest)) return true;
    return false;
  }
  return p < printed.size() && same(expected[e], printed[p]) &&
         matches(expected, e + 1, printed, p + 1, deepest);
}

}  // namespace

TEST_CASE("the comparison of lines can fail") {
  CHECK(same("AUROC  0.912 of 30", "AUROC 0.80 of 30"));
  CHECK_FALSE(same("AUROC 0.912 of 30", "AUROC 0.40 of 30"));
  CHECK_FALSE(same("AUROC 0.912 of 30", "AUROC 0.912 of 31"));
  CHECK_FALSE(same("AUROC 0.912", "AUROC -"));
  CHECK(same("p 0.00012,1", "p 3.66267e-05,1"));
  std::size_t deepest = 0;
  CHECK(matches({"a", "...", "c"}, 0, {"a", "b", "b", "c"}, 0, deepest));
  CHECK_FALSE(matches({"a", "...", "c"}, 0, {"a", "b"}, 0, deepest));
}

TEST_CASE("every command of the tour prints what the page says") {
  const ScratchFolder f;
  const std::string page = io::read_text(fs::path(HYBRIDMED_SOURCE) / "docs/tour.md");
  const auto steps = steps_of(page);
  REQUIRE(steps.size() >= 10);
  fs::create_directory_symlink(fs::path(HYBRIDMED_SOURCE) / "configs", f.path / "configs");
  for (const auto& step : steps) {
    const fs::path out = f.path / "printed";
    const std::string command = "cd '" + f.path.string() + "' && hybridmed() { '" + program +
                                "' \"$@\"; } && { " + step.command + "; } >printed 2>/dev/null";
    const int status = std::system(("bash -c '" +
                                    [&] {
                                      std::string quoted;
                                      for (const char c : command)
                                        quoted += c == '\'' ? "'\\''" : std::string(1, c);
                                      return quoted;
                                    }() +
                                    "'")
                                       .c_str());
    const std::string printed = io::read_text(out);
    std::size_t deepest = 0;
    const bool ok = matches(step.expected, 0, lines_of(printed), 0, deepest);
    const std::string first = deepest < step.expected.size() ? step.expected[deepest] : "(the end)";
    CHECK_MESSAGE(ok, "docs/tour.md, line ", step.line, ": ", step.command, "\nexit status ",
                  status, "; not found: ", first, "\n--- printed\n", printed);
  }
}
