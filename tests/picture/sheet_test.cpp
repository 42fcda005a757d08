// Sheets of tiles: files, texts, and what is drawn on a tile.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "errors.hpp"
#include "hybridmed/io/file.hpp"
#include "picture.hpp"

using namespace hybridmed;
using namespace hybridmed::picture;
using namespace hybridmed::test;
namespace fs = std::filesystem;

namespace {

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

TEST_CASE(
    "what is no text or no number does not spoil a picture: bad bytes are drawn as question marks, "
    "maps are refused") {
  const ScratchFolder f;
  const auto draw = [&](const std::string& caption, const char* name) {
    Tile tile;
    tile.caption = caption;
    tile.pixels.assign(64, 100);
    tile.width = tile.height = 8;
    const std::string path = (f.path / name).string();
    draw_sheet(path, {"title", {}, "unit", {tile}});
    return io::read_text(path);
  };
  CHECK(draw("bad \xFF byte", "a.png") == draw("bad ? byte", "b.png"));
  CHECK(draw("bad \xFF byte", "a.png") != draw("bad . byte", "b.png"));
  Tile tile;
  tile.pixels.assign(64, 100);
  tile.width = tile.height = 8;
  tile.grid = 1;
  tile.map = {std::nan("")};
  CHECK(holds(error_of([&] { scale_of({tile}); }), "not a number"));
}
