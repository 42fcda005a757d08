#pragma once
// Drawing through cairo: loss curves and attention sheets as PNG files.
#include <cairo.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hybridmed/io/file.hpp"

namespace hybridmed::picture {

struct Colour {
  double r, g, b;
};

class Canvas {
 public:
  Canvas(int width, int height) : surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height), cairo_surface_destroy), cr_(cairo_create(surface_.get()), cairo_destroy) {
    if (cairo_surface_status(surface_.get()) != CAIRO_STATUS_SUCCESS) fail("picture", "canvas", "a picture of " + std::to_string(width) + " x " + std::to_string(height) + " pixels cannot be made");
    rectangle(0, 0, width, height, {1, 1, 1});
    cairo_select_font_face(cr_.get(), "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  }
  void rectangle(double x, double y, double w, double h, Colour c) {
    cairo_set_source_rgb(cr_.get(), c.r, c.g, c.b);
    cairo_rectangle(cr_.get(), x, y, w, h);
    cairo_fill(cr_.get());
  }
  void outline(double x, double y, double w, double h, Colour c, double width = 1.5) {
    cairo_set_source_rgb(cr_.get(), c.r, c.g, c.b);
    cairo_set_line_width(cr_.get(), width);
    cairo_rectangle(cr_.get(), x, y, w, h);
    cairo_stroke(cr_.get());
  }
  void polyline(const std::vector<std::pair<double, double>>& points, Colour c, double width = 1.5, bool dashed = false) {
    cairo_set_source_rgb(cr_.get(), c.r, c.g, c.b);
    cairo_set_line_width(cr_.get(), width);
    const double dash[] = {5, 4};
    cairo_set_dash(cr_.get(), dash, dashed ? 2 : 0, 0);
    for (std::size_t i = 0; i < points.size(); ++i) (i ? cairo_line_to : cairo_move_to)(cr_.get(), points[i].first, points[i].second);
    cairo_stroke(cr_.get());
    cairo_set_dash(cr_.get(), dash, 0, 0);
  }
  /// align: 0 left, 0.5 centre, 1 right of x; the text is cut with an ellipsis to `limit` pixels, if given.
  void text(double x, double y, std::string s, double size, Colour c = {0.15, 0.15, 0.15}, double align = 0, double limit = 0) {
    cairo_set_source_rgb(cr_.get(), c.r, c.g, c.b);
    cairo_set_font_size(cr_.get(), size);
    cairo_text_extents_t e;
    cairo_text_extents(cr_.get(), s.c_str(), &e);
    while (limit > 0 && e.x_advance > limit && s.size() > 4) {
      s.resize(s.size() - 4);
      while (!s.empty() && (static_cast<unsigned char>(s.back()) & 0xC0) == 0x80) s.pop_back();
      s += "...";
      cairo_text_extents(cr_.get(), s.c_str(), &e);
    }
    cairo_move_to(cr_.get(), x - align * e.x_advance, y);
    cairo_show_text(cr_.get(), s.c_str());
  }
  /// rgb (height, width) as 0xRRGGBB, stretched to w x h.
  void image(double x, double y, double w, double h, const std::vector<std::uint32_t>& rgb, int width, int height) {
    std::unique_ptr<cairo_surface_t, void (*)(cairo_surface_t*)> s(cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height), cairo_surface_destroy);
    unsigned char* data = cairo_image_surface_get_data(s.get());
    const int stride = cairo_image_surface_get_stride(s.get());
    for (int i = 0; i < height; ++i) std::copy_n(rgb.data() + static_cast<std::ptrdiff_t>(i) * width, width, reinterpret_cast<std::uint32_t*>(data + static_cast<std::ptrdiff_t>(i) * stride));
    cairo_surface_mark_dirty(s.get());
    cairo_save(cr_.get());
    cairo_translate(cr_.get(), x, y);
    cairo_scale(cr_.get(), w / width, h / height);
    cairo_set_source_surface(cr_.get(), s.get(), 0, 0);
    cairo_pattern_set_filter(cairo_get_source(cr_.get()), CAIRO_FILTER_BILINEAR);
    cairo_pattern_set_extend(cairo_get_source(cr_.get()), CAIRO_EXTEND_PAD);
    cairo_rectangle(cr_.get(), 0, 0, width, height);
    cairo_fill(cr_.get());
    cairo_restore(cr_.get());
  }
  /// The file is there whole, or as it was.
  void write_png(const std::string& path) {
    cairo_surface_flush(surface_.get());
    io::write_atomically(path, [&](const std::filesystem::path& temporary) {
      const auto status = cairo_surface_write_to_png(surface_.get(), temporary.c_str());
      if (status != CAIRO_STATUS_SUCCESS) fail("picture", "write", path + ": " + cairo_status_to_string(status));
    });
  }

 private:
  std::unique_ptr<cairo_surface_t, void (*)(cairo_surface_t*)> surface_;
  std::unique_ptr<cairo_t, void (*)(cairo_t*)> cr_;
};

}  // namespace hybridmed::picture
