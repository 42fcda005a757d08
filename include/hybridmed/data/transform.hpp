#pragma once
// From a radiograph to the square that the model sees (method 3): long side resized, zero-padded to
// a square, cropped, normalised to [-1, 1]; in training the crop is random and brightness and
// contrast may vary. No flips: sides have names.
#include <cmath>
#include <numbers>
#include <span>

#include "hybridmed/core/philox.hpp"
#include "hybridmed/data/resize.hpp"

namespace hybridmed::data {

struct TransformOptions {
  std::size_t image_size = 224;
  std::size_t resize = 256;      ///< long side after resizing; default 8/7 of the image size
  double jitter_contrast = 0;    ///< x (1 + c), c uniform in +-jitter_contrast
  double jitter_brightness = 0;  ///< + b on the [-1, 1] scale, b uniform in +-jitter_brightness
  double jitter_rotation =
      0;  ///< turned about the crop's centre by r degrees, r uniform in +-jitter_rotation
  double jitter_scale = 0;  ///< enlarged (1 + s) times, s uniform in +-jitter_scale
};

/// A resized and padded square, kept in its own bit depth.
struct Square {
  std::size_t side = 0;
  std::vector<std::uint8_t> bytes;  // 8-bit source
  std::vector<float> floats;        // 16-bit source, 0..65535

  float unit(std::size_t i) const {
    return bytes.empty() ? floats[i] / 65535.0f : static_cast<float>(bytes[i]) / 255.0f;
  }
  std::size_t memory() const { return bytes.size() + floats.size() * sizeof(float); }
};

/// Where the picture lies inside the square: offset and extent in pixels of the square.
struct Placement {
  std::size_t x = 0, y = 0, width = 0, height = 0;
};
inline Placement place(std::size_t width, std::size_t height, std::size_t side) {
  const std::size_t longest = (std::max)(width, height);
  if (longest == 0 || side == 0) fail("data", "place", "a picture without pixels");
  const auto scaled = [&](std::size_t n) {
    return std::clamp<std::size_t>((2 * n * side + longest) / (2 * longest), 1, side);
  };
  Placement p{0, 0, scaled(width), scaled(height)};
  p.x = (side - p.width) / 2;
  p.y = (side - p.height) / 2;
  return p;
}

/// Resizes the long side to `side` and pads with zeros, centred.
inline Square make_square(const Image& image, std::size_t side) {
  check_image(image, "make_square");
  const Placement p = place(image.width(), image.height(), side);
  Square square;
  square.side = side;
  const auto fill = [&](auto& target, auto zero) {
    using T = decltype(zero);
    std::vector<T> x(image.pixels.begin(), image.pixels.end());
    const auto resized = resize_bilinear(x, image.height(), image.width(), p.height, p.width);
    target.assign(side * side, zero);
    for (std::size_t y = 0; y < p.height; ++y)
      std::copy_n(resized.begin() + static_cast<std::ptrdiff_t>(y * p.width), p.width,
                  target.begin() + static_cast<std::ptrdiff_t>((p.y + y) * side + p.x));
  };
  if (image.bits == 8)
    fill(square.bytes, std::uint8_t{0});
  else
    fill(square.floats, 0.0f);
  return square;
}

/// What evaluation shows the model of a picture of this size: the centre crop, in fractions of the
/// picture. It may reach beyond the picture, where the padding is.
struct Window {
  double x = 0, y = 0, width = 1, height = 1;
};
inline Window evaluation_window(std::size_t width, std::size_t height, const TransformOptions& o) {
  if (o.resize < o.image_size)
    fail("data", "window",
         "expected resize >= image_size = " + std::to_string(o.image_size) + ", got " +
             std::to_string(o.resize));
  const Placement p = place(width, height, o.resize);
  const auto number = [](std::size_t n) { return static_cast<double>(n); };
  const double from = number((o.resize - o.image_size) / 2), size = number(o.image_size),
               w = number(p.width), h = number(p.height);
  return {(from - number(p.x)) / w, (from - number(p.y)) / h, size / w, size / h};
}

/// A picture to look at: 8 bits, its long side at most `most` pixels.
struct Preview {
  std::vector<std::uint8_t> pixels;  // (height, width)
  int width = 0, height = 0;
};
inline Preview preview(const Image& image, std::size_t most = 416) {
  check_image(image, "preview");
  const std::size_t longest = (std::max)(image.width(), image.height()),
                    side = (std::min)(longest, most);
  const Placement p = place(image.width(), image.height(), side);
  std::vector<float> values(image.pixels.begin(), image.pixels.end());
  if (side < longest)
    values = resize_bilinear(values, image.height(), image.width(), p.height, p.width);
  Preview out{{}, static_cast<int>(p.width), static_cast<int>(p.height)};
  const float scale = image.bits == 16 ? 255.0f / 65535.0f : 1.0f;
  for (const float v : values)
    out.pixels.push_back(static_cast<std::uint8_t>(std::clamp(v * scale + 0.5f, 0.0f, 255.0f)));
  return out;
}

/// The square at a point between pixels (bilinear); black outside, as the padding is.
inline float sample(const Square& s, double y, double x) {
  const double side = static_cast<double>(s.side);
  if (!(y > -1 && x > -1 && y < side && x < side)) return 0;
  const double top = std::floor(y), left = std::floor(x);
  const float down = static_cast<float>(y - top), right = static_cast<float>(x - left);
  const auto at = [&](double r, double c) {
    return r < 0 || c < 0 || r >= side || c >= side
               ? 0.0f
               : s.unit(static_cast<std::size_t>(r) * s.side + static_cast<std::size_t>(c));
  };
  return (1 - down) * ((1 - right) * at(top, left) + right * at(top, left + 1)) +
         down * ((1 - right) * at(top + 1, left) + right * at(top + 1, left + 1));
}

/// Crops image_size x image_size into `out`. With `random`, at a random place and with jitter; else
/// the centre.
inline void crop(const Square& s, const TransformOptions& o, const Philox* random,
                 std::span<float> out) {
  if (s.side < o.image_size)
    fail("data", "crop",
         "expected resize >= image_size = " + std::to_string(o.image_size) + ", got " +
             std::to_string(s.side));
  if (out.size() != o.image_size * o.image_size ||
      (s.bytes.empty() ? s.floats.size() : s.bytes.size()) != s.side * s.side)
    fail("data", "crop",
         "expected a square of side " + std::to_string(s.side) + " and room for " +
             std::to_string(o.image_size) + " x " + std::to_string(o.image_size) +
             " pixels, got room for " + std::to_string(out.size()));
  const std::size_t room = s.side - o.image_size;
  std::size_t y0 = room / 2, x0 = room / 2;
  float gain = 1, shift = 0;
  if (random) {
    y0 = random->below(0, room + 1);
    x0 = random->below(1, room + 1);
    gain = static_cast<float>(1 + o.jitter_contrast * (2 * random->uniform(2) - 1));
    shift = static_cast<float>(o.jitter_brightness * (2 * random->uniform(3) - 1));
  }
  if (random && (o.jitter_rotation > 0 || o.jitter_scale > 0)) {
    const double angle = o.jitter_rotation * (2 * random->uniform(5) - 1) * std::numbers::pi / 180,
                 scale = 1 + o.jitter_scale * (2 * random->uniform(6) - 1);
    const double c = std::cos(angle) / scale, d = std::sin(angle) / scale,
                 middle = (static_cast<double>(o.image_size) - 1) / 2;
    for (std::size_t y = 0; y < o.image_size; ++y)
      for (std::size_t x = 0; x < o.image_size; ++x) {
        const double v = static_cast<double>(y) - middle, u = static_cast<double>(x) - middle;
        out[y * o.image_size + x] = (sample(s, static_cast<double>(y0) + middle + c * v - d * u,
                                            static_cast<double>(x0) + middle + d * v + c * u) -
                                     0.5f) /
                                        0.5f * gain +
                                    shift;
      }
    return;
  }
  for (std::size_t y = 0; y < o.image_size; ++y)
    for (std::size_t x = 0; x < o.image_size; ++x)
      out[y * o.image_size + x] = (s.unit((y0 + y) * s.side + x0 + x) - 0.5f) / 0.5f * gain + shift;
}

}  // namespace hybridmed::data
