// Reliability curves in one panel and in several.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "errors.hpp"
#include "hybridmed/picture/reliability.hpp"
#include "picture.hpp"

using namespace hybridmed;
using namespace hybridmed::picture;
using namespace hybridmed::test;
namespace fs = std::filesystem;

namespace {

ReliabilityCurve reliability_curve(const std::string& name, double shift) {
  ReliabilityCurve c;
  c.name = name;
  c.predicted = {0.1, 0.3, 0.5, 0.7};
  c.observed = {0.0 + shift, 0.2 + shift, 0.4 + shift, 0.6 + shift};
  c.n = {40, 0, 7, 1};
  return c;
}
Pixels drawn_reliability(const std::vector<ReliabilityPanel>& panels) {
  const ScratchFolder folder;
  const fs::path file = folder.path / "reliability.png";
  draw_reliability(file.string(), "Reliability on split valid", panels);
  REQUIRE(fs::is_regular_file(file));
  return pixels_of(file);
}

}  // namespace

TEST_CASE("reliability is drawn with one panel and with seven") {
  ReliabilityPanel panel;
  panel.title = "nodule";
  panel.curves = {reliability_curve("before", 0), reliability_curve("after", 0.1)};
  const Pixels one = drawn_reliability({panel});
  CHECK(one.width > 50);
  CHECK(one.height > 50);
  CHECK(one == drawn_reliability({panel}));
  ReliabilityPanel other = panel;
  other.curves[1] = reliability_curve("after", 0.3);
  CHECK_FALSE(one == drawn_reliability({other}));
  std::vector<ReliabilityPanel> seven(7, panel);
  const Pixels many = drawn_reliability(seven);
  CHECK_FALSE(many == one);
  seven[6] = other;  // the last panel is on the picture
  CHECK_FALSE(many == drawn_reliability(seven));
}
