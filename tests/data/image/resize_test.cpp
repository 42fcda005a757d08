// Resizing against Pillow's BILINEAR.
#include "hybridmed/data/resize.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "image.hpp"

using namespace hybridmed;
using namespace hybridmed::data;
using namespace hybridmed::test;

namespace {

/// Compares with the checksums of Pillow's outputs; returns the number of cases.
std::size_t compare_with(const char* table) {
  const auto numbers = noise(120000);
  std::vector<std::uint8_t> bytes;
  for (auto x : numbers) bytes.push_back(static_cast<std::uint8_t>(x >> 8));
  std::ifstream in(fixtures / table);
  std::size_t h, w, nh, nw, cases = 0;
  std::uint32_t expected;
  while (in >> h >> w >> nh >> nw >> expected) {
    CAPTURE(h);
    CAPTURE(w);
    CAPTURE(nh);
    CAPTURE(nw);
    const auto out =
        resize_bilinear(std::vector<std::uint8_t>(
                            bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(h * w)),
                        h, w, nh, nw);
    REQUIRE(out.size() == nh * nw);
    CHECK(crc(out.data(), out.size()) == expected);
    ++cases;
  }
  return cases;
}

}  // namespace

TEST_CASE("8-bit resizing equals Pillow's BILINEAR byte for byte") {
  CHECK(compare_with("resize.tsv") == 106);
}

// Since Pillow 13 the pass down the columns comes first where height - new height > 2 (width - new
// width), new height < height: mixed ratios, and pictures more than twice as high as wide.
TEST_CASE("8-bit resizing of tall pictures equals Pillow 13's order of passes") {
  CHECK(compare_with("resize_down_first.tsv") == 22);
}

TEST_CASE("whole resized pictures: 8 bit equal, float within 1e-4 of Pillow's mode F") {
  const auto numbers = noise(2000);
  const std::vector<std::pair<std::size_t, std::size_t>> sizes{
      {23, 31}, {23, 31}, {31, 23}, {1, 7}, {40, 30}};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    CAPTURE(i);
    const auto [h, w] = sizes[i];
    const std::string name =
        "_" + std::to_string(i) + "_" + std::to_string(h) + "_" + std::to_string(w) + ".raw";
    const auto expected = raw<std::uint8_t>("resize8" + name);
    const auto expected_float = raw<float>("resizef" + name);
    std::vector<std::uint8_t> bytes;
    std::vector<float> floats, large;
    for (std::size_t k = 0; k < h * w; ++k) {
      bytes.push_back(static_cast<std::uint8_t>(numbers[k] >> 8));
      floats.push_back(numbers[k] / 65535.0f);
      large.push_back(numbers[k]);
    }
    CHECK(resize_bilinear(bytes, h, w, expected.height, expected.width) == expected.values);
    const auto out = resize_bilinear(floats, h, w, expected_float.height, expected_float.width);
    const auto out_large =
        resize_bilinear(large, h, w, expected_float.height, expected_float.width);
    REQUIRE(out.size() == expected_float.values.size());
    double worst = 0, worst_large = 0;
    for (std::size_t k = 0; k < out.size(); ++k) {
      worst = std::max(worst, static_cast<double>(std::abs(out[k] - expected_float.values[k])));
      worst_large = std::max(worst_large, static_cast<double>(std::abs(out_large[k] / 65535.0f -
                                                                       expected_float.values[k])));
    }
    CHECK(worst < 1e-6);        // well inside 1e-4: both compute in double and store floats
    CHECK(worst_large < 1e-6);  // linear: the scale of 16-bit values changes nothing
  }
}

TEST_CASE("resizing keeps constants, does nothing at equal sizes, and refuses empty pictures") {
  const std::vector<std::uint8_t> flat(17 * 13, 200);
  for (std::uint8_t v : resize_bilinear(flat, 17, 13, 40, 5)) CHECK(v == 200);
  const auto numbers = noise(12 * 9);
  const std::vector<float> floats(numbers.begin(), numbers.end());
  CHECK(resize_bilinear(floats, 12, 9, 12, 9) == floats);
  CHECK_THROWS_AS(resize_bilinear(std::vector<float>{}, 0, 5, 3, 3), Error);
  CHECK_THROWS_AS(resize_bilinear(floats, 12, 9, 0, 3), Error);
}
