#pragma once
// Maps over radiographs, several on one sheet with one colour scale.
#include <filesystem>
#include <limits>
#include <optional>

#include "hybridmed/picture/canvas.hpp"

namespace hybridmed::picture {

/// A rectangle in fractions of a picture's width and height; may reach beyond it.
struct Rectangle {
  double x = 0, y = 0, width = 1, height = 1;
};

/// One picture of a sheet.
struct Tile {
  std::string caption;
  std::vector<std::uint8_t> pixels;  // grey, (height, width)
  int width = 0, height = 0;
  Rectangle crop{};           // what the model saw
  std::vector<double> map{};  // (grid, grid) over the crop, or none
  int grid = 0;
  std::vector<Rectangle> boxes{};  // green
  std::vector<bool> outlined{};    // (grid, grid): cells with a line around them, or none
  int marked = -1;                 // a cell with a cross; -1: none
};

/// What colours mean: no colour up to `low`, the strongest from `high` on.
struct Scale {
  double low = std::numeric_limits<double>::infinity(),
         high = -std::numeric_limits<double>::infinity();

  bool empty() const { return low > high; }
  double heat(double value) const {
    return high > low ? std::clamp((value - low) / (high - low), 0.0, 1.0) : 0.0;
  }
};
/// Tiles under a title, with one colour scale.
struct Sheet {
  std::string title;
  std::vector<std::string> notes;  // under the title, a line each
  std::string unit;                // of the maps
  std::vector<Tile> tiles;
  int columns = 4, rows = 4;     // of one sheet; more tiles go to further sheets
  std::optional<Scale> scale{};  // none: from the least to the greatest value of the maps
};

inline constexpr const char* research_use =
    "Research use only: not a medical device, not for the care of patients.";

namespace detail {
inline void need_tile(const Tile& t) {
  const auto cells =
      static_cast<std::size_t>(t.grid) * static_cast<std::size_t>((std::max)(t.grid, 0));
  if (t.width < 1 || t.height < 1 ||
      t.pixels.size() != static_cast<std::size_t>(t.width) * static_cast<std::size_t>(t.height))
    fail("picture", "tile",
         "expected " + std::to_string(t.height) + " x " + std::to_string(t.width) +
             " pixels, got " + std::to_string(t.pixels.size()));
  if ((!t.map.empty() && (t.grid < 1 || t.map.size() != cells)) ||
      (!t.outlined.empty() && t.outlined.size() != cells) || t.marked >= static_cast<int>(cells))
    fail("picture", "tile",
         "expected a map of " + std::to_string(t.grid) + " x " + std::to_string(t.grid) +
             " cells, outlined ones and a mark within it, got a map of " +
             std::to_string(t.map.size()) + ", " + std::to_string(t.outlined.size()) +
             " outlined, mark " + std::to_string(t.marked));
  if (std::any_of(t.map.begin(), t.map.end(), [](double v) { return !std::isfinite(v); }))
    fail("picture", "tile", "the map holds a value that is not a number");
  if (t.marked < -1)
    fail("picture", "tile",
         "expected marked = -1 (none) or a cell, got " + std::to_string(t.marked));
  if (!(t.crop.width > 0 && t.crop.height > 0))
    fail("picture", "tile", "expected a crop with an extent above 0");
}
}  // namespace detail

/// Does the centre of a map's cell lie on the picture, and not on the padding beside it?
inline bool on_picture(const Rectangle& crop, int grid, int cell) {
  const double x = crop.x + (cell % grid + 0.5) / grid * crop.width,
               y = crop.y + (cell / grid + 0.5) / grid * crop.height;
  return x >= 0 && x < 1 && y >= 0 && y < 1;
}

/// The least and the greatest value of the maps where they lie on their pictures.
inline Scale scale_of(const std::vector<Tile>& tiles) {
  Scale s;
  for (const Tile& t : tiles) {
    detail::need_tile(t);
    for (int cell = 0; cell < static_cast<int>(t.map.size()); ++cell)
      if (on_picture(t.crop, t.grid, cell)) {
        s.low = (std::min)(s.low, t.map[static_cast<std::size_t>(cell)]);
        s.high = (std::max)(s.high, t.map[static_cast<std::size_t>(cell)]);
      }
  }
  return s;
}

/// A grey value under a warm colour: nothing at heat 0, yellow, then red at heat 1; 0xRRGGBB.
inline std::uint32_t warm(double grey, double heat) {
  const double a = 0.6 * heat;
  const auto byte = [](double c) {
    return static_cast<std::uint32_t>(std::lround(255 * std::clamp(c, 0.0, 1.0)));
  };
  return byte(grey * (1 - a) + a) << 16 |
         byte(grey * (1 - a) + a * std::clamp(1.6 - 1.6 * heat, 0.0, 1.0)) << 8 |
         byte(grey * (1 - a));
}

/// The picture with its map, bilinear between cells; what lies outside the crop is grey.
inline std::vector<std::uint32_t> blend(const Tile& t, const Scale& scale) {
  detail::need_tile(t);
  std::vector<std::uint32_t> out(t.pixels.size());
  for (int y = 0; y < t.height; ++y)
    for (int x = 0; x < t.width; ++x) {
      const std::size_t i = static_cast<std::size_t>(y) * static_cast<std::size_t>(t.width) +
                            static_cast<std::size_t>(x);
      const double u = ((x + 0.5) / t.width - t.crop.x) / t.crop.width,
                   v = ((y + 0.5) / t.height - t.crop.y) / t.crop.height;
      double heat = 0;
      if (!t.map.empty() && u >= 0 && u < 1 && v >= 0 && v < 1) {
        const auto axis = [&](double f) { return std::clamp(f * t.grid - 0.5, 0.0, t.grid - 1.0); };
        const double a = axis(u), b = axis(v);
        const int j = static_cast<int>(a), k = static_cast<int>(b),
                  j1 = (std::min)(j + 1, t.grid - 1), k1 = (std::min)(k + 1, t.grid - 1);
        const auto at = [&](int row, int column) {
          return t.map[static_cast<std::size_t>(row * t.grid + column)];
        };
        heat = scale.heat((at(k, j) * (1 - (a - j)) + at(k, j1) * (a - j)) * (1 - (b - k)) +
                          (at(k1, j) * (1 - (a - j)) + at(k1, j1) * (a - j)) * (b - k));
      }
      out[i] = warm(t.pixels[i] / 255.0, heat);
    }
  return out;
}

namespace detail {

/// The part of a rectangle that lies on a picture drawn at (x, y) with extent (w, h), as a line.
inline void outline_on(Canvas& c, const Rectangle& r, double x, double y, double w, double h,
                       Colour colour, double line) {
  const double x0 = std::clamp(r.x, 0.0, 1.0), y0 = std::clamp(r.y, 0.0, 1.0),
               x1 = std::clamp(r.x + r.width, 0.0, 1.0), y1 = std::clamp(r.y + r.height, 0.0, 1.0);
  if (x1 > x0 && y1 > y0)
    c.outline(x + x0 * w, y + y0 * h, (x1 - x0) * w, (y1 - y0) * h, colour, line);
}

/// Lines around the outlined cells, and the cross.
inline void draw_cells(Canvas& c, const Tile& t, double x, double y, double w, double h) {
  const Colour cyan{0.1, 0.85, 0.95};
  const auto px = [&](double column) {
    return x + std::clamp(t.crop.x + column / t.grid * t.crop.width, 0.0, 1.0) * w;
  };
  const auto py = [&](double row) {
    return y + std::clamp(t.crop.y + row / t.grid * t.crop.height, 0.0, 1.0) * h;
  };
  const auto in = [&](int row, int column) {
    return row >= 0 && column >= 0 && row < t.grid && column < t.grid &&
           t.outlined[static_cast<std::size_t>(row * t.grid + column)];
  };
  for (int row = 0; row < t.grid && !t.outlined.empty(); ++row)
    for (int column = 0; column < t.grid; ++column) {
      if (!in(row, column)) continue;
      if (!in(row - 1, column))
        c.polyline({{px(column), py(row)}, {px(column + 1), py(row)}}, cyan, 2);
      if (!in(row + 1, column))
        c.polyline({{px(column), py(row + 1)}, {px(column + 1), py(row + 1)}}, cyan, 2);
      if (!in(row, column - 1))
        c.polyline({{px(column), py(row)}, {px(column), py(row + 1)}}, cyan, 2);
      if (!in(row, column + 1))
        c.polyline({{px(column + 1), py(row)}, {px(column + 1), py(row + 1)}}, cyan, 2);
    }
  if (t.marked >= 0) {
    const double mx = px(t.marked % t.grid + 0.5), my = py(t.marked / t.grid + 0.5);
    c.polyline({{mx - 5, my}, {mx + 5, my}}, cyan, 2);
    c.polyline({{mx, my - 5}, {mx, my + 5}}, cyan, 2);
  }
}

/// The bar that says what a colour means.
inline void draw_scale(Canvas& c, const Scale& scale, bool beyond, const std::string& unit,
                       double x, double y, double width, double room) {
  const int steps = 128;
  std::vector<std::uint32_t> colours;
  for (int i = 0; i < steps; ++i)
    colours.push_back(warm(0.45, static_cast<double>(i) / (steps - 1)));
  c.image(x, y, width, 12, colours, steps, 1);
  c.outline(x, y, width, 12, {0.4, 0.4, 0.4}, 1);
  const double range = scale.high - scale.low,
               largest = (std::max)(std::abs(scale.low), std::abs(scale.high));
  const int digits =
      range > 0 ? (std::max)(2, static_cast<int>(std::ceil(std::log10(largest / range))) + 2)
                : 3;  // so many that the ends differ
  for (int i = 0; i <= 2; ++i) {
    char text[32];
    std::snprintf(text, sizeof text, "%s%.*g", i == 2 && beyond ? "from " : "", digits,
                  scale.low + range * i / 2);
    c.text(x + width * i / 2, y + 26, text, 10, {0.3, 0.3, 0.3}, i / 2.0);
  }
  double line = y - 2;
  for (const auto& l : c.wrapped(unit, 11, room - width - 12))
    c.text(x + width + 12, line += 13, l, 11);
}

inline void draw_one_sheet(const std::string& path, const Sheet& sheet,
                           const std::vector<Tile>& tiles, const Scale& scale, bool beyond,
                           const std::string& page) {
  constexpr double size = 208, gap = 14, line = 15, caption_size = 12;
  const int columns = (std::max)(1, (std::min)(sheet.columns, static_cast<int>(tiles.size())));
  const double width = gap + (std::max)(columns, 3) * (size + gap);
  Canvas measure(1, 1);
  const auto titles = measure.wrapped(sheet.title + page, 14, width - 2 * gap);
  std::vector<std::string> notes;
  for (const auto& note : sheet.notes)
    for (const auto& l : measure.wrapped(note, 11, width - 2 * gap)) notes.push_back(l);
  std::vector<std::vector<std::string>> captions;
  for (const Tile& t : tiles) captions.push_back(measure.wrapped(t.caption, caption_size, size));
  std::vector<double> tops;  // of each row of tiles
  double y =
      gap + 18 * static_cast<double>(titles.size()) + line * static_cast<double>(notes.size()) + 8;
  for (std::size_t k = 0; k < tiles.size(); k += static_cast<std::size_t>(columns)) {
    tops.push_back(y);
    std::size_t lines = 0;
    for (std::size_t i = k; i < (std::min)(tiles.size(), k + static_cast<std::size_t>(columns));
         ++i)
      lines = (std::max)(lines, captions[i].size());
    y += size + line * static_cast<double>(lines) + gap;
  }
  const double foot = (scale.empty() ? 0 : 40) + 24;
  Canvas c(static_cast<int>(width), static_cast<int>(y + foot));
  double base = gap;
  for (const auto& l : titles) c.text(gap, base += 18, l, 14);
  for (const auto& l : notes) c.text(gap, base += line, l, 11, {0.35, 0.35, 0.35});
  for (std::size_t k = 0; k < tiles.size(); ++k) {
    const Tile& t = tiles[k];
    const double longest = (std::max)(t.width, t.height), w = size * t.width / longest,
                 h = size * t.height / longest;
    const double left = gap + static_cast<double>(static_cast<int>(k) % columns) * (size + gap),
                 x = left + (size - w) / 2,
                 top = tops[k / static_cast<std::size_t>(columns)] + (size - h) / 2;
    c.image(x, top, w, h, blend(t, scale), t.width, t.height);
    outline_on(c, t.crop, x, top, w, h, {0.85, 0.85, 0.85}, 1);
    draw_cells(c, t, x, top, w, h);
    for (const auto& box : t.boxes) outline_on(c, box, x, top, w, h, {0.1, 0.9, 0.3}, 2);
    for (std::size_t l = 0; l < captions[k].size(); ++l)
      c.text(left + size / 2,
             tops[k / static_cast<std::size_t>(columns)] + size + line * static_cast<double>(l + 1),
             captions[k][l], caption_size, {0.15, 0.15, 0.15}, 0.5);
  }
  if (!scale.empty())
    detail::draw_scale(c, scale, beyond, sheet.unit, gap, y, 208, width - 2 * gap);
  c.text(gap, y + foot - 10, research_use, 11, {0.6, 0.1, 0.1});
  c.write_png(path);
}
}  // namespace detail

/// The files that draw_sheet writes: `path`, and what does not fit on it to NAME-2.png, NAME-3.png,
/// ...
inline std::vector<std::string> sheet_files(const std::string& path, const Sheet& sheet) {
  if (sheet.columns < 1 || sheet.rows < 1)
    fail("picture", "sheet", "expected at least one column and one row");
  const std::size_t each = static_cast<std::size_t>(sheet.columns) *
                           static_cast<std::size_t>(sheet.rows),
                    pages = (std::max)(std::size_t{1}, (sheet.tiles.size() + each - 1) / each);
  const std::filesystem::path p(path);
  std::vector<std::string> files{path};
  for (std::size_t k = 2; k <= pages; ++k)
    files.push_back(
        (p.parent_path() / (p.stem().string() + "-" + std::to_string(k) + p.extension().string()))
            .string());
  return files;
}

/// Draws a sheet to a PNG, and what does not fit on it to NAME-2.png, NAME-3.png, ...; all share
/// one colour scale, whose bar stands on each. The crop is drawn as a thin line. Gives back the
/// files.
inline std::vector<std::string> draw_sheet(const std::string& path, const Sheet& sheet) {
  const std::vector<std::string> files = sheet_files(path, sheet);
  const Scale found = scale_of(sheet.tiles),
              scale = sheet.scale && !found.empty() ? *sheet.scale : found;
  const std::size_t each = static_cast<std::size_t>(sheet.columns) *
                           static_cast<std::size_t>(sheet.rows),
                    pages = files.size();
  for (std::size_t k = 0; k < pages; ++k) {
    const auto from = sheet.tiles.begin() + static_cast<std::ptrdiff_t>(k * each),
               to = sheet.tiles.begin() +
                    static_cast<std::ptrdiff_t>((std::min)(sheet.tiles.size(), (k + 1) * each));
    detail::draw_one_sheet(
        files[k], sheet, {from, to}, scale, found.high > scale.high,
        pages > 1 ? " (" + std::to_string(k + 1) + " of " + std::to_string(pages) + ")" : "");
  }
  return files;
}

}  // namespace hybridmed::picture
