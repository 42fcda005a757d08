#pragma once
// Tiles for tests of pictures, and the grey values of what was drawn.
#include <cstdint>
#include <filesystem>
#include <vector>

#include "hybridmed/data/image.hpp"
#include "hybridmed/picture/overlay.hpp"

namespace hybridmed::test {

/// A picture whose pixels all differ a little, as wide and high as told.
inline picture::Tile plain_tile(int width, int height) {
  picture::Tile t{};
  t.caption = "tile";
  t.width = width;
  t.height = height;
  for (int i = 0; i < width * height; ++i)
    t.pixels.push_back(static_cast<std::uint8_t>(100 + i % 50));
  return t;
}
inline picture::Tile map_tile(int width, int height, const picture::Rectangle& crop, int grid,
                              const std::vector<double>& map) {
  picture::Tile t = plain_tile(width, height);
  t.crop = crop;
  t.grid = grid;
  t.map = map;
  return t;
}

/// The grey values of a PNG, row by row.
struct Pixels {
  std::size_t width = 0;
  std::size_t height = 0;
  std::vector<int> value;

  bool operator==(const Pixels&) const = default;
};
inline Pixels pixels_of(const std::filesystem::path& file) {
  const data::Image image = data::read_image(file);
  Pixels p;
  p.width = image.width();
  p.height = image.height();
  p.value.assign(image.pixels.begin(), image.pixels.end());
  return p;
}

}  // namespace hybridmed::test
