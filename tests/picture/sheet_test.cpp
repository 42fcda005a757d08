// Pictures: sheets of heat maps, wrapped text, curves, reliability, what is shown of a radiograph.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "errors.hpp"
#include "hybridmed/data/transform.hpp"
#include "hybridmed/picture/curves.hpp"
#include "hybridmed/picture/overlay.hpp"
#include "hybridmed/picture/reliability.hpp"
#include "hybridmed/train/console.hpp"

using namespace hybridmed;
using namespace hybridmed::picture;
using namespace hybridmed::test;
using doctest::Approx;
namespace fs = std::filesystem;

namespace {

int red(std::uint32_t c) { return static_cast<int>(c >> 16 & 255); }
int green(std::uint32_t c) { return static_cast<int>(c >> 8 & 255); }
int blue(std::uint32_t c) { return static_cast<int>(c & 255); }
/// How much more red than blue.
int redness(std::uint32_t c) { return red(c) - blue(c); }
std::uint32_t grey(std::uint32_t v) { return v << 16 | v << 8 | v; }

/// A picture whose pixels all differ a little, as wide and high as told.
Tile plain_tile(int width, int height) {
  Tile t{};
  t.caption = "tile";
  t.width = width;
  t.height = height;
  for (int i = 0; i < width * height; ++i)
    t.pixels.push_back(static_cast<std::uint8_t>(100 + i % 50));
  return t;
}
Tile map_tile(int width, int height, const Rectangle& crop, int grid,
              const std::vector<double>& map) {
  Tile t = plain_tile(width, height);
  t.crop = crop;
  t.grid = grid;
  t.map = map;
  return t;
}

/// Which of the grid's cells are on the picture, row by row.
std::string on(const Rectangle& crop, int grid) {
  std::string out;
  for (int cell = 0; cell < grid * grid; ++cell) out += on_picture(crop, grid, cell) ? '1' : '0';
  return out;
}

/// The grey values of a PNG, row by row.
struct Pixels {
  std::size_t width = 0;
  std::size_t height = 0;
  std::vector<int> value;

  bool operator==(const Pixels&) const = default;
};
Pixels pixels_of(const fs::path& file) {
  const data::Image image = data::read_image(file);
  Pixels p;
  p.width = image.width();
  p.height = image.height();
  p.value.assign(image.pixels.begin(), image.pixels.end());
  return p;
}

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

/// The sheets of these tiles, in a folder of their own; only the first is read back.
Pixels first_sheet(const Sheet& sheet) {
  const ScratchFolder folder;
  const auto names = draw_sheet((folder.path / "sheet.png").string(), sheet);
  REQUIRE(names.size() >= 1);
  return pixels_of(names[0]);
}
Sheet sheet_of(const std::vector<Tile>& tiles) {
  Sheet s;
  s.title = "a title";
  s.unit = "similarity";
  s.tiles = tiles;
  return s;
}

}  // namespace

// ---------------------------------------------------------------- maps on pictures

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

// ---------------------------------------------------------------- sheets

TEST_CASE("sheets hold sixteen tiles; more go on to numbered files") {
  const auto names_of = [](const fs::path& folder, Sheet sheet, std::size_t tiles) {
    sheet.tiles.assign(tiles, map_tile(12, 10, {}, 2, {0, 1, 2, 3}));
    return draw_sheet((folder / "maps.png").string(), sheet);
  };
  using Names = std::vector<std::string>;
  const std::vector<std::size_t> counts = {1, 16, 17, 32, 33};
  const std::vector<std::size_t> files = {1, 1, 2, 2, 3};
  for (std::size_t i = 0; i < counts.size(); ++i) {
    CAPTURE(counts[i]);
    const ScratchFolder folder;
    Names expected = {(folder.path / "maps.png").string()};
    if (files[i] >= 2) expected.push_back((folder.path / "maps-2.png").string());
    if (files[i] >= 3) expected.push_back((folder.path / "maps-3.png").string());
    const Names names = names_of(folder.path, sheet_of({}), counts[i]);
    CHECK(names == expected);
    for (const auto& name : names) {
      REQUIRE_MESSAGE(fs::is_regular_file(name), name);
      const Pixels p = pixels_of(name);
      CHECK(p.width >= 12);
      CHECK(p.height >= 10);
    }
    std::size_t written = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path)) ++written;
    CHECK(written == files[i]);
  }
  const ScratchFolder folder;
  Sheet small = sheet_of({});
  small.columns = 2;
  small.rows = 1;
  CHECK(names_of(folder.path, small, 2).size() == 1);
  CHECK(names_of(folder.path, small, 5).size() == 3);
}

TEST_CASE("sheets without maps, with long texts, with tiles of several shapes") {
  const Pixels bare = first_sheet(sheet_of({plain_tile(20, 20), plain_tile(7, 30)}));
  CHECK(bare.width > 0);
  CHECK(*std::max_element(bare.value.begin(), bare.value.end()) >
        *std::min_element(bare.value.begin(), bare.value.end()));
  Sheet wordy = sheet_of({map_tile(30, 10, {0, -1, 1, 3}, 3, {9, 9, 9, 1, 2, 3, 9, 9, 9})});
  wordy.tiles[0].caption = std::string(300, 'x') + " \xC3\xA4\xC3\xB6 " + std::string(300, 'y');
  std::string sentence;
  for (int i = 0; i < 80; ++i) sentence += "There is no pleural effusion. ";
  wordy.title = sentence;
  wordy.notes = {"a note", sentence};
  const Pixels drawn = first_sheet(wordy);
  CHECK(drawn.width > 0);
  Sheet untitled = sheet_of({plain_tile(1, 1)});
  untitled.title = "";
  untitled.unit = "";
  untitled.tiles[0].caption = "";
  CHECK(first_sheet(untitled).width > 0);
}

TEST_CASE("sheets show maps, boxes, outlines and the mark") {
  const Tile tile = map_tile(40, 40, {}, 2, {0, 1, 2, 3});
  const Pixels plain = first_sheet(sheet_of({tile}));
  CHECK(plain == first_sheet(sheet_of({tile})));
  Tile t = tile;
  t.boxes = {{0.25, 0.25, 0.5, 0.5}};
  CHECK_FALSE(plain == first_sheet(sheet_of({t})));
  t = tile;
  t.outlined = {false, true, false, false};
  CHECK_FALSE(plain == first_sheet(sheet_of({t})));
  t = tile;
  t.marked = 2;
  CHECK_FALSE(plain == first_sheet(sheet_of({t})));
  t = tile;
  t.map = {3, 2, 1, 0};
  CHECK_FALSE(plain == first_sheet(sheet_of({t})));
  Sheet scaled = sheet_of({tile});
  scaled.scale = Scale{0, 3};
  CHECK(plain == first_sheet(scaled));  // what the tiles' own scale is
  scaled.scale = Scale{0, 30};
  CHECK_FALSE(plain == first_sheet(scaled));
}

// ---------------------------------------------------------------- text

namespace {

std::string joined(const std::vector<std::string>& lines, const std::string& between) {
  std::string out;
  for (std::size_t i = 0; i < lines.size(); ++i) out += (i > 0 ? between : "") + lines[i];
  return out;
}
std::string without_blanks(std::string s) {
  s.erase(std::remove(s.begin(), s.end(), ' '), s.end());
  return s;
}
/// Does it start within a letter of UTF-8?
bool starts_within(const std::string& s) {
  return !s.empty() && (static_cast<unsigned char>(s[0]) & 0xC0) == 0x80;
}

}  // namespace

TEST_CASE("text has a width that grows with the text and with the size") {
  Canvas canvas(200, 100);
  CHECK(canvas.text_width("", 12) == 0);
  CHECK(canvas.text_width("lung", 12) > 0);
  CHECK(canvas.text_width("lung lung", 12) > canvas.text_width("lung", 12));
  CHECK(canvas.text_width("lung", 24) > canvas.text_width("lung", 12));
}

TEST_CASE("wrapped text: no line too wide, words joined with blanks give back the text") {
  Canvas canvas(200, 100);
  const std::string text =
      "the heart is of normal size there is no effusion on the left or on the right side";
  for (const double size : {9., 12., 20.}) {
    const double word = canvas.text_width("effusion", size);  // the longest
    for (const double factor : {1.01, 1.7, 3., 5.5, 100.}) {
      CAPTURE(size);
      CAPTURE(factor);
      const auto lines = canvas.wrapped(text, size, factor * word);
      CHECK(joined(lines, " ") == text);
      for (const auto& line : lines) CHECK(canvas.text_width(line, size) <= factor * word);
    }
  }
  using Lines = std::vector<std::string>;
  const double whole = canvas.text_width(text, 12);
  CHECK(canvas.wrapped(text, 12, whole + 1) == Lines{text});
  CHECK(canvas.wrapped(text, 12, 0.6 * whole).size() == 2);
  CHECK(canvas.wrapped("normal size", 12, canvas.text_width("normal", 12) + 1) ==
        Lines{"normal", "size"});
}

TEST_CASE("wrapped text: words longer than a line are broken, letters are not, nothing is lost") {
  Canvas canvas(200, 100);
  const std::string latin = "Donaudampfschifffahrtselektrizit\xC3\xA4tenhauptbetriebswerk";
  std::string letters;  // of two, three and four bytes
  for (int i = 0; i < 30; ++i) letters += "\xC3\xA4\xE2\x82\xAC\xF0\x9D\x84\x9E";
  for (const std::string& text :
       {latin, letters, "a " + latin + " b", letters + " x " + latin, std::string(200, 'W')}) {
    for (const double factor : {3., 4.5, 8.}) {
      CAPTURE(text);
      CAPTURE(factor);
      const double limit = factor * canvas.text_width("WW", 12);  // wider than any letter here
      const auto lines = canvas.wrapped(text, 12, limit);
      CHECK(lines.size() > 1);
      CHECK(without_blanks(joined(lines, "")) == without_blanks(text));
      for (const auto& line : lines) {
        CHECK(line != "");
        CHECK(canvas.text_width(line, 12) <= limit);
        CHECK_FALSE(starts_within(line));
      }
    }
  }
}

// ---------------------------------------------------------------- curves and reliability

namespace {

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

// ---------------------------------------------------------------- what of a radiograph is shown

namespace {

void check_window(const data::Window& w, double x, double y, double width, double height) {
  CHECK(w.x == Approx(x).epsilon(1e-9));
  CHECK(w.y == Approx(y).epsilon(1e-9));
  CHECK(w.width == Approx(width).epsilon(1e-9));
  CHECK(w.height == Approx(height).epsilon(1e-9));
}

/// A picture of one value, or with the given values.
data::Image image_of(std::size_t width, std::size_t height, int bits, std::uint16_t value) {
  data::Image image;
  image.bits = bits;
  image.pixels.resize({height, width});
  std::fill(image.pixels.begin(), image.pixels.end(), value);
  return image;
}

}  // namespace

TEST_CASE("the window that evaluation sees, in fractions of the picture") {
  const data::TransformOptions square{.image_size = 64, .resize = 73};
  check_window(data::evaluation_window(73, 73, square), 4. / 73, 4. / 73, 64. / 73, 64. / 73);
  check_window(data::evaluation_window(730, 730, square), 4. / 73, 4. / 73, 64. / 73, 64. / 73);
  const data::TransformOptions padded{.image_size = 80, .resize = 100};
  check_window(data::evaluation_window(100, 50, padded), 0.1, -0.3, 0.8, 1.6);
  check_window(data::evaluation_window(200, 100, padded), 0.1, -0.3, 0.8, 1.6);
  check_window(data::evaluation_window(50, 100, padded), -0.3, 0.1, 1.6, 0.8);
  const data::TransformOptions whole{.image_size = 64, .resize = 64};
  check_window(data::evaluation_window(300, 300, whole), 0, 0, 1, 1);
}

TEST_CASE("a preview fits into its limit and is never enlarged") {
  const auto check = [](std::size_t width, std::size_t height, int most, int w, int h) {
    CAPTURE(width);
    CAPTURE(height);
    const auto p = data::preview(image_of(width, height, 8, 77), most);
    CHECK(p.width == w);
    CHECK(p.height == h);
    REQUIRE(p.pixels.size() == static_cast<std::size_t>(w * h));
    for (const auto v : p.pixels) CHECK(v == 77);  // an even picture stays even
  };
  check(200, 100, 50, 50, 25);
  check(100, 200, 50, 25, 50);
  check(90, 90, 30, 30, 30);
  check(50, 20, 50, 50, 20);
  check(3, 2, 50, 3, 2);
  check(1000, 3, 10, 10, 1);  // at least one line
}

TEST_CASE("a preview has 8 bits") {
  auto deep = image_of(3, 1, 16, 65535);
  deep.pixels(0, 1) = 0;
  deep.pixels(0, 2) = 25700;  // 100 * 257
  const auto p = data::preview(deep, 10);
  REQUIRE(p.pixels.size() == 3);
  CHECK(p.pixels[0] == 255);
  CHECK(p.pixels[1] == 0);
  CHECK(p.pixels[2] == 100);
  auto plain = image_of(2, 2, 8, 255);
  plain.pixels(0, 1) = 3;
  plain.pixels(1, 0) = 128;
  const auto q = data::preview(plain, 10);
  REQUIRE(q.pixels.size() == 4);
  CHECK(q.pixels[0] == 255);
  CHECK(q.pixels[1] == 3);
  CHECK(q.pixels[2] == 128);
  CHECK(q.pixels[3] == 255);
  // The left half is black, the right half white, and so they stay.
  auto halves = image_of(100, 40, 16, 0);
  for (std::size_t y = 0; y < 40; ++y)
    for (std::size_t x = 50; x < 100; ++x) halves.pixels(y, x) = 65535;
  const auto small = data::preview(halves, 10);
  REQUIRE(small.pixels.size() == 40);
  CHECK(small.pixels[0] == 0);
  CHECK(small.pixels[9] == 255);
  CHECK(small.pixels[30] == 0);
  CHECK(small.pixels[39] == 255);
}

// ---------------------------------------------------------------- rates

TEST_CASE("rates are told per second, or as the time that one takes") {
  CHECK(train::rate_text(12.34, "samples") == "12.3 samples/s");
  CHECK(train::rate_text(0.125, "samples") == "8.0 s a sample");
  CHECK(train::rate_text(0.004, "studies") == "4 min a study");
  CHECK(train::rate_text(0, "samples") == "-- samples/s");
  CHECK(train::rate_text(0, "studies") == "-- studies/s");
  CHECK(train::rate_text(0.25, "studies") == "4.0 s a study");
}

TEST_CASE("no rate above 0 reads as 0") {
  for (int power = -60; power <= 60; ++power) {
    const double rate = std::pow(10., power / 10.);
    const std::string text = train::rate_text(rate, "samples");
    CAPTURE(rate);
    CAPTURE(text);
    const std::size_t at = text.find("0.0");  // "10.0" is another number
    const bool within = at != std::string::npos && at > 0 && std::isdigit(text[at - 1]) != 0;
    CHECK((at == std::string::npos || within));
    CHECK(std::strtod(text.c_str(), nullptr) > 0);
  }
}

TEST_CASE(
    "what is no text or no number does not spoil a picture: bad bytes are drawn as question marks, "
    "maps are refused") {
  const hybridmed::test::ScratchFolder f;
  const auto draw = [&](const std::string& caption, const char* name) {
    hybridmed::picture::Tile tile;
    tile.caption = caption;
    tile.pixels.assign(64, 100);
    tile.width = tile.height = 8;
    const std::string path = (f.path / name).string();
    hybridmed::picture::draw_sheet(path, {"title", {}, "unit", {tile}});
    return hybridmed::io::read_text(path);
  };
  CHECK(draw("bad \xFF byte", "a.png") == draw("bad ? byte", "b.png"));
  CHECK(draw("bad \xFF byte", "a.png") != draw("bad . byte", "b.png"));
  hybridmed::picture::Tile tile;
  tile.pixels.assign(64, 100);
  tile.width = tile.height = 8;
  tile.grid = 1;
  tile.map = {std::nan("")};
  CHECK(hybridmed::test::holds(
      hybridmed::test::error_of([&] { hybridmed::picture::scale_of({tile}); }), "not a number"));
}

TEST_CASE("ticks end, however large the numbers; curves of unequal length are refused") {
  CHECK(hybridmed::picture::ticks(1.7e18, 1.7e18 + 512, 5).size() < 12);
  CHECK(hybridmed::picture::ticks(-1e17, -1e17 + 1, 5).size() < 12);
  CHECK(hybridmed::picture::ticks(0, 10, 5) == std::vector<double>{0, 2, 4, 6, 8, 10});
  const hybridmed::test::ScratchFolder f;
  const auto draw = [&] {
    hybridmed::picture::draw_curves((f.path / "a.png").string(), {{"t", {{"c", {1, 2}, {1}}}}},
                                    "step");
  };
  CHECK(hybridmed::test::holds(hybridmed::test::error_of(draw), "as many y as x"));
}

TEST_CASE("a file may be written by several threads at once: it is always whole") {
  const hybridmed::test::ScratchFolder f;
  std::vector<std::thread> writers;
  std::atomic<int> failures{0};
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([&] {
      for (int i = 0; i < 25; ++i) try {
          hybridmed::io::write_text_atomically(f.path / "file", std::string(1000, 'x'));
          if (hybridmed::io::read_text(f.path / "file").size() != 1000) ++failures;
        } catch (const hybridmed::Error&) {
          ++failures;
        }
    });
  for (auto& w : writers) w.join();
  CHECK(failures == 0);
}
