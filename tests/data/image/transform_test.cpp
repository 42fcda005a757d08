// The transform: placement, crops, jitter, turned and enlarged crops.
#include "hybridmed/data/transform.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "image.hpp"

using namespace hybridmed;
using namespace hybridmed::data;
using namespace hybridmed::test;

TEST_CASE("the transform equals Pillow's resize, zero padding, centre crop and (x - 0.5) / 0.5") {
  struct Case {
    std::string picture;
    std::size_t resize, size;
  };
  for (const auto& [picture, resize, size] : {Case{"wide8.png", 32, 28},
                                              {"tall8.png", 40, 35},
                                              {"grey8.png", 32, 32},
                                              {"grey8.png", 64, 56},
                                              {"tall16.png", 32, 28}}) {
    CAPTURE(picture);
    CAPTURE(resize);
    const auto expected =
        raw<float>(picture + "." + std::to_string(resize) + "." + std::to_string(size) + ".raw");
    const Square square = make_square(read_image(fixtures / picture), resize);
    REQUIRE(square.side == resize);
    TransformOptions options;
    options.image_size = size;
    options.resize = resize;
    std::vector<float> out(size * size, 99.0f);
    crop(square, options, nullptr, out);
    double worst = 0;
    for (std::size_t i = 0; i < out.size(); ++i)
      worst = std::max(worst, static_cast<double>(std::abs(out[i] - expected.values[i])));
    CHECK(worst < 1e-6);
  }
}

TEST_CASE("placement is centred, inside the square and never empty") {
  for (std::size_t w : {1, 2, 7, 100, 3000})
    for (std::size_t h : {1, 3, 8, 99, 2500})
      for (std::size_t side : {1, 16, 255, 256}) {
        const Placement p = place(w, h, side);
        CAPTURE(w);
        CAPTURE(h);
        CAPTURE(side);
        CHECK(std::max(p.width, p.height) == side);
        CHECK(std::min(p.width, p.height) >= 1);
        CHECK(p.x + p.width <= side);
        CHECK(p.y + p.height <= side);
        // left and right margins differ by a pixel at most
        CHECK(side - p.width - 2 * p.x <= 1);
        CHECK(side - p.height - 2 * p.y <= 1);
        const double exact = static_cast<double>(std::min(w, h)) * static_cast<double>(side) /
                             static_cast<double>(std::max(w, h));
        CHECK(std::abs(static_cast<double>(std::min(p.width, p.height)) - std::max(exact, 1.0)) <
              1);
      }
}

TEST_CASE("random crops lie inside, reach every place, and differ only by gain and shift") {
  const Image image = read_image(fixtures / "wide8.png");
  TransformOptions o;
  o.image_size = 28;
  o.resize = 32;
  const Square square = make_square(image, 32);
  std::set<std::pair<std::size_t, std::size_t>> places;
  for (std::uint64_t k = 0; k < 400; ++k) {
    const Philox random(5, k);
    std::vector<float> out(28 * 28), again(28 * 28);
    crop(square, o, &random, out);
    crop(square, o, &random, again);
    CHECK(out == again);
    // Without jitter the crop is a window of the normalised square: find it.
    bool found = false;
    for (std::size_t y = 0; y <= 4 && !found; ++y)
      for (std::size_t x = 0; x <= 4 && !found; ++x) {
        bool same = true;
        for (std::size_t i = 0; i < 28 * 28 && same; ++i)
          same = std::abs(out[i] - (square.bytes[(y + i / 28) * 32 + x + i % 28] / 255.0f - 0.5f) /
                                       0.5f) < 1e-6f;
        if (same) {
          found = true;
          places.insert({y, x});
        }
      }
    CHECK(found);
  }
  CHECK(places.size() == 25);

  TransformOptions jitter = o;
  jitter.jitter_contrast = 0.2;
  jitter.jitter_brightness = 0.1;
  double low = 9, high = -9, darkest = 9, brightest = -9;
  for (std::uint64_t k = 0; k < 200; ++k) {
    const Philox random(5, k);
    std::vector<float> plain(28 * 28), varied(28 * 28);
    crop(square, o, &random, plain);
    crop(square, jitter, &random, varied);
    const auto a = static_cast<std::size_t>(std::min_element(plain.begin(), plain.end()) -
                                            plain.begin()),
               b = static_cast<std::size_t>(std::max_element(plain.begin(), plain.end()) -
                                            plain.begin());
    const double gain = (varied[b] - varied[a]) / (plain[b] - plain[a]),
                 shift = varied[a] - gain * plain[a];
    for (std::size_t i = 0; i < plain.size(); ++i)
      CHECK(std::abs(varied[i] - (gain * plain[i] + shift)) < 1e-5);
    low = std::min(low, gain);
    high = std::max(high, gain);
    darkest = std::min(darkest, shift);
    brightest = std::max(brightest, shift);
  }
  CHECK(low >= 0.8 - 1e-5);
  CHECK(low < 0.83);
  CHECK(high <= 1.2 + 1e-5);
  CHECK(high > 1.17);
  CHECK(darkest >= -0.1 - 1e-5);
  CHECK(darkest < -0.08);
  CHECK(brightest <= 0.1 + 1e-5);
  CHECK(brightest > 0.08);
}

TEST_CASE("turned and enlarged crops: a ramp stays a ramp, its slope says by how much") {
  constexpr std::size_t side = 80, n = 32;
  Square across, down;  // brightness rises along x, and along y
  across.side = down.side = side;
  for (std::size_t i = 0; i < side * side; ++i) {
    across.floats.push_back(static_cast<float>(i % side));
    down.floats.push_back(static_cast<float>(i / side));
  }
  TransformOptions o;
  o.image_size = n;
  o.resize = side;
  o.jitter_rotation = 20;
  o.jitter_scale = 0.25;
  double low = 99, high = -99, smallest = 99, largest = 0;
  for (std::uint64_t k = 0; k < 300; ++k) {
    const Philox random(6, k);
    std::vector<float> x(n * n), y(n * n), again(n * n);
    crop(across, o, &random, x);
    crop(down, o, &random, y);
    crop(across, o, &random, again);
    CHECK(x == again);
    const auto pixels = [](float v) {
      return (static_cast<double>(v) * 0.5 + 0.5) * 65535;
    };  // back to the ramp's value: the place read
    // The middle of the crop is inside the square however it is turned: its slope, then every place
    // from it.
    constexpr std::size_t first = 8, last = 23;
    const double here = pixels(x[first * n + first]), top = pixels(y[first * n + first]),
                 c = (pixels(x[first * n + last]) - here) / (last - first),
                 d = (pixels(y[first * n + last]) - top) / (last - first);
    const double angle = std::atan2(d, c) * 180 / 3.14159265358979323846,
                 scale = 1 / std::hypot(c, d);
    for (std::size_t v = 0; v < n; ++v)
      for (std::size_t u = 0; u < n; ++u) {
        const double r = static_cast<double>(u) - first, q = static_cast<double>(v) - first,
                     at_x = here + c * r - d * q, at_y = top + d * r + c * q;
        if (at_x < 0.1 || at_y < 0.1 || at_x > side - 1.1 || at_y > side - 1.1)
          continue;  // the border fades to black
        CHECK(std::abs(pixels(x[v * n + u]) - at_x) < 0.05);
        CHECK(std::abs(pixels(y[v * n + u]) - at_y) < 0.05);
      }
    const double to_middle = (n - 1) / 2.0 - first;
    for (const double begin :
         {here + (c - d) * to_middle - (n - 1) / 2.0,
          top + (d + c) * to_middle - (n - 1) / 2.0}) {  // of the plain crop: a whole pixel
      CHECK(std::abs(begin - std::round(begin)) < 0.05);
      CHECK(std::round(begin) >= 0);
      CHECK(std::round(begin) <= side - n);
    }
    low = std::min(low, angle);
    high = std::max(high, angle);
    smallest = std::min(smallest, scale);
    largest = std::max(largest, scale);
  }
  CHECK(low >= -20.1);
  CHECK(low < -17);
  CHECK(high <= 20.1);
  CHECK(high > 17);
  CHECK(smallest >= 0.749);
  CHECK(smallest < 0.79);
  CHECK(largest <= 1.251);
  CHECK(largest > 1.21);
}

TEST_CASE("turned crops: outside the square is black, and evaluation does not turn") {
  Square white;
  white.side = 16;
  white.bytes.assign(256, 255);
  TransformOptions o;
  o.image_size = 16;
  o.resize = 16;
  o.jitter_rotation = 45;
  std::vector<float> out(256);
  bool black = false;
  for (std::uint64_t k = 0; k < 20; ++k) {
    const Philox random(7, k);
    crop(white, o, &random, out);
    for (float v : out) CHECK((v >= -1 && v <= 1));
    black = black || out[0] == -1;
  }
  CHECK(black);
  crop(white, o, nullptr, out);
  CHECK(out == std::vector<float>(256, 1.0f));
}

TEST_CASE("a crop larger than the square is an error") {
  const Square square = make_square(read_image(fixtures / "one_pixel.png"), 4);
  TransformOptions o;
  o.image_size = 5;
  o.resize = 4;
  std::vector<float> out(25);
  CHECK_THROWS_AS(crop(square, o, nullptr, out), Error);
}
