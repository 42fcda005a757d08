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
  Canvas(int width, int height)
      : surface_(cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height),
                 cairo_surface_destroy),
        cr_(cairo_create(surface_.get()), cairo_destroy) {
    if (cairo_surface_status(surface_.get()) != CAIRO_STATUS_SUCCESS)
      fail("picture", "canvas",
           "a picture of " + std::to_string(width) + " x " + std::to_string(height) +
               " pixels cannot be made");
    rectangle(0, 0, width, height, {1, 1, 1});
    cairo_select_font_face(cr_.get(), "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           CAIRO_FONT_WEIGHT_NORMAL);
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
  void polyline(const std::vector<std::pair<double, double>>& points, Colour c, double width = 1.5,
                bool dashed = false) {
    cairo_set_source_rgb(cr_.get(), c.r, c.g, c.b);
    cairo_set_line_width(cr_.get(), width);
    const double dash[] = {5, 4};
    cairo_set_dash(cr_.get(), dash, dashed ? 2 : 0, 0);
    for (std::size_t i = 0; i < points.size(); ++i)
      (i ? cairo_line_to : cairo_move_to)(cr_.get(), points[i].first, points[i].second);
    cairo_stroke(cr_.get());
    cairo_set_dash(cr_.get(), dash, 0, 0);
  }
  /// A filled circle, or a ring.
  void dot(double x, double y, double radius, Colour c, bool ring = false) {
    cairo_set_source_rgb(cr_.get(), c.r, c.g, c.b);
    cairo_set_line_width(cr_.get(), 1.5);
    cairo_new_path(cr_.get());
    cairo_arc(cr_.get(), x, y, radius, 0, 6.283185307179586);
    (ring ? cairo_stroke : cairo_fill)(cr_.get());
  }
  /// Pixels that a text takes.
  double text_width(const std::string& text, double size) {
    const std::string s = drawable(text);
    cairo_text_extents_t e;
    cairo_set_font_size(cr_.get(), size);
    cairo_text_extents(cr_.get(), s.c_str(), &e);
    return e.x_advance;
  }
  /// align: 0 left, 0.5 centre, 1 right of x; y is the base line.
  void text(double x, double y, const std::string& written, double size,
            Colour c = {0.15, 0.15, 0.15}, double align = 0) {
    const std::string s = drawable(written);
    const double width = text_width(s, size);
    cairo_set_source_rgb(cr_.get(), c.r, c.g, c.b);
    cairo_move_to(cr_.get(), x - align * width, y);
    cairo_show_text(cr_.get(), s.c_str());
  }
  /// The same, turned to run upwards, centred at (x, y).
  void text_upwards(double x, double y, const std::string& written, double size, Colour c) {
    const std::string s = drawable(written);
    const double width = text_width(s, size);
    cairo_save(cr_.get());
    cairo_set_source_rgb(cr_.get(), c.r, c.g, c.b);
    cairo_translate(cr_.get(), x, y + width / 2);
    cairo_rotate(cr_.get(), -1.5707963267948966);
    cairo_move_to(cr_.get(), 0, 0);
    cairo_show_text(cr_.get(), s.c_str());
    cairo_restore(cr_.get());
  }
  /// The text in lines of at most `limit` pixels, broken at blanks, and inside a word that is
  /// longer by itself.
  std::vector<std::string> wrapped(const std::string& s, double size, double limit) {
    std::vector<std::string> lines(1);
    const auto put = [&](const std::string& word) {
      const std::string longer = lines.back().empty() ? word : lines.back() + " " + word;
      if (text_width(longer, size) <= limit) {
        lines.back() = longer;
        return;
      }
      if (!lines.back().empty()) lines.emplace_back();
      for (std::size_t i = 0; i < word.size();) {
        std::size_t end = i + 1;
        while (end < word.size() && (static_cast<unsigned char>(word[end]) & 0xC0) == 0x80) ++end;
        const std::string letter = word.substr(i, end - i);
        if (!lines.back().empty() && text_width(lines.back() + letter, size) > limit)
          lines.emplace_back();
        lines.back() += letter;
        i = end;
      }
    };
    for (std::size_t at = 0; at < s.size();) {
      const std::size_t end = (std::min)(s.find_first_of(" \t\r\n", at), s.size());
      if (end > at) put(s.substr(at, end - at));
      at = end + 1;
    }
    return lines;
  }
  /// rgb (height, width) as 0xRRGGBB, stretched to w x h.
  void image(double x, double y, double w, double h, const std::vector<std::uint32_t>& rgb,
             int width, int height) {
    std::unique_ptr<cairo_surface_t, void (*)(cairo_surface_t*)> s(
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height), cairo_surface_destroy);
    unsigned char* data = cairo_image_surface_get_data(s.get());
    const int stride = cairo_image_surface_get_stride(s.get());
    for (int i = 0; i < height; ++i)
      std::copy_n(rgb.data() + static_cast<std::ptrdiff_t>(i) * width, width,
                  reinterpret_cast<std::uint32_t*>(data + static_cast<std::ptrdiff_t>(i) * stride));
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
    if (const auto status = cairo_status(cr_.get()); status != CAIRO_STATUS_SUCCESS)
      fail("picture", "write",
           path + ": the picture could not be drawn: " + cairo_status_to_string(status));
    const auto parent = std::filesystem::path(path).parent_path();
    if (std::error_code ec; !parent.empty() && !std::filesystem::is_directory(parent, ec))
      fail("picture", "write", path + ": " + parent.string() + " is no folder");
    io::write_atomically(path, [&](const std::filesystem::path& temporary) {
      errno = 0;
      const auto status = cairo_surface_write_to_png(surface_.get(), temporary.c_str());
      const int why = errno;
      if (status != CAIRO_STATUS_SUCCESS)
        fail("picture", "write",
             path + ": " + (why ? std::strerror(why) : cairo_status_to_string(status)),
             io::write_hint(why));
    });
  }

 private:
  /// The text with '?' for bytes that are no UTF-8, which cairo would end the drawing at, and for
  /// control characters.
  static std::string drawable(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const std::size_t length = byte < 0x80                   ? 1
                                 : byte >= 0xC2 && byte < 0xE0 ? 2
                                 : byte >= 0xE0 && byte < 0xF0 ? 3
                                 : byte >= 0xF0 && byte < 0xF5 ? 4
                                                               : 0;
      bool whole = length > 0 && i + length <= text.size() && byte >= 32 && byte != 127;
      for (std::size_t k = 1; k < length && whole; ++k)
        whole = (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80;
      if (whole && length > 2) {  // overlong forms, surrogates, beyond U+10FFFF
        const auto next = static_cast<unsigned char>(text[i + 1]);
        whole = !((byte == 0xE0 && next < 0xA0) || (byte == 0xED && next > 0x9F) ||
                  (byte == 0xF0 && next < 0x90) || (byte == 0xF4 && next > 0x8F));
      }
      out += whole ? text.substr(i, length) : "?";
      i += whole ? length : 1;
    }
    return out;
  }

  std::unique_ptr<cairo_surface_t, void (*)(cairo_surface_t*)> surface_;
  std::unique_ptr<cairo_t, void (*)(cairo_t*)> cr_;
};

}  // namespace hybridmed::picture
