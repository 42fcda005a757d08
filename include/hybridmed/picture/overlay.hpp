#pragma once
// Attention maps over radiographs, several on one sheet.
#include "hybridmed/picture/canvas.hpp"

namespace hybridmed::picture {

/// One picture of a sheet: a grey image in [-1, 1] (side, side), a map (grid, grid) or none, a caption, an optional box in
/// fractions of the image.
struct Tile {
  std::string caption;
  std::vector<float> image;
  int side = 0;
  std::vector<double> map;
  int grid = 0;
  std::vector<double> box;  // x, y, w, h or empty
};

/// Grey image with the map as warm colour, stretched between its least and greatest value, bilinear between cells.
inline std::vector<std::uint32_t> blend(const Tile& t) {
  const auto area = [](int n) { return static_cast<std::size_t>(n) * static_cast<std::size_t>(n); };
  if (t.side < 1 || t.image.size() != area(t.side) || (!t.map.empty() && (t.grid < 1 || t.map.size() != area(t.grid))))
    fail("picture", "blend", "expected an image of side " + std::to_string(t.side) + " and a map of side " + std::to_string(t.grid) + ", got " + std::to_string(t.image.size()) + " pixels and " + std::to_string(t.map.size()) + " cells");
  std::vector<std::uint32_t> out(t.image.size());
  double low = 0, high = 1;
  if (!t.map.empty()) low = *std::min_element(t.map.begin(), t.map.end()), high = *std::max_element(t.map.begin(), t.map.end());
  for (int y = 0; y < t.side; ++y)
    for (int x = 0; x < t.side; ++x) {
      const double grey = std::clamp((static_cast<double>(t.image[static_cast<std::size_t>(y * t.side + x)]) + 1) / 2, 0.0, 1.0);
      double r = grey, g = grey, b = grey;
      if (!t.map.empty()) {
        const auto axis = [&](int p) { return std::clamp((p + 0.5) * t.grid / t.side - 0.5, 0.0, t.grid - 1.0); };
        const double u = axis(x), v = axis(y);
        const int i = static_cast<int>(v), j = static_cast<int>(u), i1 = (std::min)(i + 1, t.grid - 1), j1 = (std::min)(j + 1, t.grid - 1);
        const auto at = [&](int a, int c) { return t.map[static_cast<std::size_t>(a * t.grid + c)]; };
        const double m = (at(i, j) * (1 - (u - j)) + at(i, j1) * (u - j)) * (1 - (v - i)) + (at(i1, j) * (1 - (u - j)) + at(i1, j1) * (u - j)) * (v - i);
        const double heat = high > low ? (m - low) / (high - low) : 0, a = 0.65 * heat;
        r = r * (1 - a) + a, g = g * (1 - a) + a * std::clamp(1.6 - 1.6 * heat, 0.0, 1.0), b = b * (1 - a);
      }
      const auto byte = [](double c) { return static_cast<std::uint32_t>(std::lround(255 * std::clamp(c, 0.0, 1.0))); };
      out[static_cast<std::size_t>(y * t.side + x)] = byte(r) << 16 | byte(g) << 8 | byte(b);
    }
  return out;
}

/// `columns` tiles a row under a title.
inline void draw_sheet(const std::string& path, const std::string& title, const std::vector<Tile>& tiles, int columns) {
  const double size = 208, gap = 14, head = 40, foot = 24;
  const int rows = (static_cast<int>(tiles.size()) + columns - 1) / columns;
  const double width = gap + columns * (size + gap);
  Canvas c(static_cast<int>(width), static_cast<int>(head + rows * (size + foot) + gap));
  c.text(gap, 26, title, 14, {0.15, 0.15, 0.15}, 0, width - 2 * gap);
  for (std::size_t k = 0; k < tiles.size(); ++k) {
    const Tile& t = tiles[k];
    const double x = gap + static_cast<double>(static_cast<int>(k) % columns) * (size + gap), y = head + static_cast<double>(static_cast<int>(k) / columns) * (size + foot);
    c.image(x, y, size, size, blend(t), t.side, t.side);
    if (t.box.size() == 4) {
      const double bx = std::clamp(t.box[0], 0.0, 1.0), by = std::clamp(t.box[1], 0.0, 1.0), ex = std::clamp(t.box[0] + t.box[2], 0.0, 1.0), ey = std::clamp(t.box[1] + t.box[3], 0.0, 1.0);
      c.outline(x + bx * size, y + by * size, (ex - bx) * size, (ey - by) * size, {0.1, 0.9, 0.3}, 2);
    }
    c.text(x + size / 2, y + size + 16, t.caption, 12, {0.15, 0.15, 0.15}, 0.5, size);
  }
  c.write_png(path);
}

}  // namespace hybridmed::picture
