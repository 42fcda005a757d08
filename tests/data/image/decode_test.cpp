// Decoding against Pillow's convert("L"), and what is written read again.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "errors.hpp"
#include "image.hpp"

using namespace hybridmed;
using namespace hybridmed::data;
using namespace hybridmed::test;

TEST_CASE("PNG of every 8-bit kind equals Pillow's convert(L) byte for byte") {
  for (const std::string name :
       {"grey8.png", "grey8_interlaced.png", "grey1.png", "grey2.png", "grey4.png", "palette8.png",
        "palette8_transparent.png", "palette4.png", "grey_alpha.png", "rgb.png",
        "rgb_interlaced.png", "rgba.png", "one_pixel.png"}) {
    CAPTURE(name);
    const Image image = read_image(fixtures / name);
    CHECK(image.bits == 8);
    CHECK(difference(image, raw<std::uint8_t>(name + ".raw")) == 0);
  }
}

TEST_CASE("PNG of 16 bits keeps its exact values") {
  for (const std::string name : {"grey16.png", "grey16_alpha_interlaced.png"}) {
    CAPTURE(name);
    const Image image = read_image(fixtures / name);
    CHECK(image.bits == 16);
    CHECK(difference(image, raw<std::uint16_t>(name + ".raw")) == 0);
  }
  // Colour: 0.299 R + 0.587 G + 0.114 B to one part in 65535; a pixel with R = G = B keeps its
  // value.
  const Image colour = read_image(fixtures / "rgb16.png");
  const auto expected = raw<std::uint16_t>("rgb16.png.raw");
  CHECK(colour.bits == 16);
  CHECK(difference(colour, expected) <= 1);
  REQUIRE(colour.pixels.size() == expected.values.size());
  for (std::size_t y = 0; y < expected.height; ++y)
    for (std::size_t x = 0; x < expected.width; x += 2)
      CHECK(colour.pixels(y, x) == expected.values[y * expected.width + x]);
}

TEST_CASE("JPEG grey, 4:4:4, 4:2:0 and progressive within one grey level of Pillow") {
  for (const std::string name :
       {"grey.jpg", "rgb444.jpg", "rgb420.jpg", "progressive.jpg", "grey_progressive.jpg"}) {
    CAPTURE(name);
    const Image image = read_image(fixtures / name);
    CHECK(image.bits == 8);
    CHECK(difference(image, raw<std::uint8_t>(name + ".raw")) <= 1);
  }
}

TEST_CASE("the format is told by the content, not by the name") {
  CHECK(difference(read_image(fixtures / "png_named.jpg"),
                   raw<std::uint8_t>("png_named.jpg.raw")) == 0);
  CHECK(difference(read_image(fixtures / "jpeg_named.png"),
                   raw<std::uint8_t>("jpeg_named.png.raw")) <= 1);
}

TEST_CASE("write_png gives back what was written") {
  const TemporaryFolder folder;
  const auto numbers = noise(7 * 5 * 3);
  std::vector<std::uint8_t> bytes(numbers.begin(), numbers.end());
  write_png(folder.path / "grey.png", bytes.data(), 7, 5, 1);
  const Image grey = read_image(folder.path / "grey.png");
  REQUIRE(grey.width() == 7);
  REQUIRE(grey.height() == 5);
  for (std::size_t i = 0; i < 35; ++i) CHECK(grey.pixels.data()[i] == bytes[i]);
  write_png(folder.path / "rgb.png", bytes.data(), 7, 5, 3);
  const Image rgb = read_image(folder.path / "rgb.png");
  REQUIRE(rgb.pixels.size() == 35);
  for (std::size_t i = 0; i < 35; ++i)
    CHECK(std::abs(rgb.pixels.data()[i] - (0.299 * bytes[3 * i] + 0.587 * bytes[3 * i + 1] +
                                           0.114 * bytes[3 * i + 2])) <= 0.501);
  std::string message;
  try {
    write_png(folder.path / "nowhere" / "x.png", bytes.data(), 7, 5, 1);
  } catch (const Error& e) {
    message = e.what();
  }
  CHECK_MESSAGE(holds(message, (folder.path / "nowhere" / "x.png").string()), message);
}
