#pragma once
// A radiograph as a tile of a sheet.
#include "hybridmed/data/transform.hpp"
#include "hybridmed/picture/overlay.hpp"

namespace hybridmed::app {

/// The whole picture, with the crop that the model sees.
inline picture::Tile tile_of(const data::Image& image, const data::TransformOptions& o) {
  data::Preview shown = data::preview(image);
  const data::Window w = data::evaluation_window(image.width(), image.height(), o);
  picture::Tile tile;
  tile.pixels = std::move(shown.pixels);
  tile.width = shown.width;
  tile.height = shown.height;
  tile.crop = {w.x, w.y, w.width, w.height};
  return tile;
}

}  // namespace hybridmed::app
