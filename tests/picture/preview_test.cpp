// What of a radiograph is shown: the window that evaluation sees, and previews of 8 bits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

#include "hybridmed/data/transform.hpp"

using namespace hybridmed;
using doctest::Approx;

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
