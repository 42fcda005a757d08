// Heat maps on pictures: which cells count, their scale, their colours.
#include <doctest/doctest.h>

#include <algorithm>

#include "errors.hpp"
#include "picture.hpp"

using namespace hybridmed;
using namespace hybridmed::picture;
using namespace hybridmed::test;
using doctest::Approx;

namespace {

int red(std::uint32_t c) { return static_cast<int>(c >> 16 & 255); }
int green(std::uint32_t c) { return static_cast<int>(c >> 8 & 255); }
int blue(std::uint32_t c) { return static_cast<int>(c & 255); }
/// How much more red than blue.
int redness(std::uint32_t c) { return red(c) - blue(c); }
std::uint32_t grey(std::uint32_t v) { return v << 16 | v << 8 | v; }

/// Which of the grid's cells are on the picture, row by row.
std::string on(const Rectangle& crop, int grid) {
  std::string out;
  for (int cell = 0; cell < grid * grid; ++cell) out += on_picture(crop, grid, cell) ? '1' : '0';
  return out;
}

}  // namespace

TEST_CASE("a cell is on the picture where its centre is") {
  CHECK(on({}, 2) == "1111");
  CHECK(on({0.1, 0.1, 0.8, 0.8}, 3) == "111111111");
  // Rows with centres at -.25, .25, .75, 1.25: a wide picture, padded above and below.
  CHECK(on({0, -0.5, 1, 2}, 4) == "0000111111110000");
  // Columns with the same centres: a tall picture.
  CHECK(on({-0.5, 0, 2, 1}, 4) == "0110011001100110");
  // Columns at .1 and .9: cells that stick out to -.3 and 1.3 count by their centres.
  CHECK(on({-0.3, 0, 1.6, 1}, 2) == "1111");
  // Columns at -.1 and .7, rows at .25 and .75.
  CHECK(on({-0.5, 0, 1.6, 1}, 2) == "0101");
  // Rows at .4 and 1.2; then at .1875, .5625, .9375, 1.3125.
  CHECK(on({0, 0, 1, 1.6}, 2) == "1100");
  CHECK(on({0, 0, 1, 1.5}, 4) == "1111111111110000");
}

TEST_CASE("a scale's heat runs from 0 to 1 and stays there") {
  const Scale s{1, 3};
  CHECK(s.heat(1) == 0);
  CHECK(s.heat(1.5) == Approx(0.25).epsilon(1e-12));
  CHECK(s.heat(2) == Approx(0.5).epsilon(1e-12));
  CHECK(s.heat(3) == 1);
  CHECK(s.heat(-7) == 0);
  CHECK(s.heat(1e9) == 1);
  const Scale below{-3, -1};
  CHECK(below.heat(-2.5) == Approx(0.25).epsilon(1e-12));
  const Scale flat{2, 2};
  CHECK(flat.heat(1) == 0);
  CHECK(flat.heat(2) == 0);
  CHECK(flat.heat(3) == 0);
}

TEST_CASE("the scale of tiles: the least and the greatest value of all") {
  const Tile a = map_tile(4, 4, {}, 2, {1, 2, 3, 4});
  const Tile b = map_tile(6, 3, {}, 2, {0, -5, 10, 2});
  const Scale both = scale_of({a, b});
  CHECK_FALSE(both.empty());
  CHECK(both.low == -5);
  CHECK(both.high == 10);
  const Scale alone = scale_of({a, plain_tile(5, 5)});
  CHECK(alone.low == 1);
  CHECK(alone.high == 4);
  const Scale negative = scale_of({map_tile(4, 4, {}, 2, {-3, -2, -4, -9})});
  CHECK(negative.low == -9);
  CHECK(negative.high == -2);
  CHECK(scale_of({}).empty());
  CHECK(scale_of({plain_tile(4, 4)}).empty());
}

TEST_CASE("the scale of tiles: cells on padding do not count") {
  std::vector<double> map(16);
  for (std::size_t i = 0; i < 16; ++i) map[i] = static_cast<double>(i);
  map[0] = 1e9;
  map[3] = -1e9;
  map[13] = 1e12;
  const Scale wide = scale_of({map_tile(8, 4, {0, -0.5, 1, 2}, 4, map)});
  CHECK(wide.low == 4);
  CHECK(wide.high == 11);
  map[4] = 1e9;
  map[13] = -1;
  const Scale tall = scale_of({map_tile(4, 8, {-0.5, 0, 2, 1}, 4, map)});
  CHECK(tall.low == -1);  // cell 13 is on this one, 0, 3 and 4 are not
  CHECK(tall.high == 14);
}

TEST_CASE("warm colours: no heat leaves the grey, full heat is redder") {
  CHECK(warm(0, 0) == 0x000000u);
  CHECK(warm(1, 0) == 0xFFFFFFu);
  CHECK(warm(51. / 255, 0) == 0x333333u);
  CHECK(warm(200. / 255, 0) == 0xC8C8C8u);
  for (const double g : {0.25, 0.5, 0.75, 1.}) {
    CAPTURE(g);
    const std::uint32_t hot = warm(g, 1);
    CHECK(red(hot) > blue(hot));
    CHECK(red(hot) > green(hot));
    CHECK(redness(warm(g, 0)) == 0);
    CHECK(hot <= 0xFFFFFFu);
  }
}

TEST_CASE("blending colours the crop only") {
  const Tile t = map_tile(8, 8, {0.25, 0.25, 0.5, 0.5}, 2, {1, 1, 1, 1});
  const auto hot = blend(t, {0, 1});
  REQUIRE(hot.size() == 64);
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 8; ++x) {
      CAPTURE(x);
      CAPTURE(y);
      const std::size_t i = static_cast<std::size_t>(8 * y + x);
      const bool inside = x >= 2 && x < 6 && y >= 2 && y < 6;
      if (inside)
        CHECK(redness(hot[i]) > 0);
      else
        CHECK(hot[i] == grey(t.pixels[i]));
    }
  const auto cold = blend(t, {1, 2});  // the least value has no heat
  REQUIRE(cold.size() == 64);
  for (std::size_t i = 0; i < 64; ++i) CHECK(cold[i] == grey(t.pixels[i]));
  const Tile bare = plain_tile(5, 3);
  const auto untouched = blend(bare, scale_of({bare}));
  REQUIRE(untouched.size() == 15);
  for (std::size_t i = 0; i < 15; ++i) CHECK(untouched[i] == grey(bare.pixels[i]));
}

TEST_CASE("blending lays the map's rows over the picture's rows") {
  // One hot cell in a corner of a picture twice as wide as high; every pixel has the same grey.
  const std::size_t corner[] = {0, 15, 7 * 16, 7 * 16 + 15};
  for (std::size_t hot = 0; hot < 4; ++hot) {
    CAPTURE(hot);
    std::vector<double> map(4, 0.);
    map[hot] = 1;
    Tile t = map_tile(16, 8, {}, 2, map);
    std::fill(t.pixels.begin(), t.pixels.end(), std::uint8_t{128});
    const auto colours = blend(t, {0, 1});
    REQUIRE(colours.size() == 128);
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(i);
      if (i != hot) CHECK(redness(colours[corner[hot]]) > redness(colours[corner[i]]));
    }
    CHECK(redness(colours[corner[3 - hot]]) == 0);
  }
  // The crop reaches beyond the picture: its middle rows are what is seen.
  std::vector<double> map(16, 0.);
  for (std::size_t i = 4; i < 8; ++i) map[i] = 1;
  const auto rows = blend(map_tile(8, 8, {0, -0.5, 1, 2}, 4, map), {0, 1});
  REQUIRE(rows.size() == 64);
  CHECK(redness(rows[8 + 4]) > redness(rows[7 * 8 + 4]));
  CHECK(redness(rows[7 * 8 + 4]) == 0);
}

TEST_CASE("a tile whose sizes do not fit is an error") {
  const Tile good = map_tile(4, 3, {}, 2, {1, 2, 3, 4});
  CHECK(error_of([&] { blend(good, {1, 4}); }) == "");
  Tile t = good;
  t.pixels.pop_back();
  CHECK(error_of([&] { blend(t, {1, 4}); }) != "");
  t = good;
  t.pixels.push_back(0);
  CHECK(error_of([&] { blend(t, {1, 4}); }) != "");
  t = good;
  t.map.pop_back();
  CHECK(error_of([&] { blend(t, {1, 4}); }) != "");
  t = good;
  t.grid = 3;
  CHECK(error_of([&] { blend(t, {1, 4}); }) != "");
  t = good;
  t.height = -3;
  t.width = -4;
  CHECK(error_of([&] { blend(t, {1, 4}); }) != "");
  t = good;
  t.outlined = {true, false, true};
  CHECK(error_of([&] { blend(t, {1, 4}); }) != "");
}
