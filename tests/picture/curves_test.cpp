// Curves: points that stand alone, ticks, lengths that do not fit.
#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "errors.hpp"
#include "hybridmed/picture/curves.hpp"
#include "picture.hpp"

using namespace hybridmed;
using namespace hybridmed::picture;
using namespace hybridmed::test;
namespace fs = std::filesystem;

namespace {

/// How many pixels of two pictures differ, in a part given in fractions of both sides.
int differing(const Pixels& a, const Pixels& b, const Rectangle& part) {
  REQUIRE(a.width == b.width);
  REQUIRE(a.height == b.height);
  int n = 0;
  for (std::size_t y = 0; y < a.height; ++y)
    for (std::size_t x = 0; x < a.width; ++x) {
      const double u = (static_cast<double>(x) + 0.5) / static_cast<double>(a.width);
      const double v = (static_cast<double>(y) + 0.5) / static_cast<double>(a.height);
      const bool across = u >= part.x && u <= part.x + part.width;
      const bool down = v >= part.y && v <= part.y + part.height;
      const std::size_t i = y * a.width + x;
      n += across && down && a.value[i] != b.value[i];
    }
  return n;
}

const double absent = std::numeric_limits<double>::quiet_NaN();

Curve curve_of(const std::string& name, const std::vector<double>& x,
               const std::vector<double>& y) {
  Curve c;
  c.name = name;
  c.x = x;
  c.y = y;
  return c;
}
Pixels drawn_curves(const std::vector<Curve>& curves) {
  const ScratchFolder folder;
  const fs::path file = folder.path / "curves.png";
  draw_curves(file.string(), {{"a panel", curves}}, "step", "loss");
  REQUIRE(fs::is_regular_file(file));
  return pixels_of(file);
}

}  // namespace

TEST_CASE("a curve of one single point is seen") {
  // Another curve spans the axes, so that the point itself is all that differs around its place,
  // which is half across and a quarter down.
  const Rectangle around = {0.3, 0.1, 0.3, 0.4};
  const Curve axes = curve_of("axes", {0, 100}, {0, 1});
  const Pixels point = drawn_curves({axes, curve_of("point", {50}, {0.75})});
  const Pixels none = drawn_curves({axes, curve_of("point", {50}, {absent})});
  CHECK(differing(point, none, around) > 0);
  // A lone point between gaps is no line either.
  const Pixels gaps = drawn_curves({axes, curve_of("point", {0, 50, 100}, {absent, 0.75, absent})});
  CHECK(differing(gaps, none, around) > 0);
  // Alone, without anything to span the axes.
  const Pixels alone = drawn_curves({curve_of("point", {50}, {0.75})});
  const Pixels nothing = drawn_curves({curve_of("point", {50}, {absent})});
  CHECK(differing(alone, nothing, {0.2, 0.1, 0.6, 0.8}) > 0);
}

TEST_CASE("ticks end, however large the numbers; curves of unequal length are refused") {
  CHECK(ticks(1.7e18, 1.7e18 + 512, 5).size() < 12);
  CHECK(ticks(-1e17, -1e17 + 1, 5).size() < 12);
  CHECK(ticks(0, 10, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  const ScratchFolder f;
  const auto draw = [&] {
    draw_curves((f.path / "a.png").string(), {{"t", {{"c", {1, 2}, {1}}}}}, "step");
  };
  CHECK(holds(error_of(draw), "as many y as x"));
}
