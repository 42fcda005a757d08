// Images: decoding against Pillow's convert("L"), resizing against Pillow's BILINEAR, the whole
// transform, damaged files.
#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "hybridmed/data/image.hpp"
#include "hybridmed/data/resize.hpp"
#include "hybridmed/data/transform.hpp"

using namespace hybridmed;
using namespace hybridmed::data;
namespace fs = std::filesystem;

namespace {

const fs::path fixtures = HYBRIDMED_FIXTURES;
using Bytes = std::vector<std::byte>;

Bytes bytes_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), path.string());
  const std::string s((std::istreambuf_iterator<char>(in)), {});
  Bytes out(s.size());
  std::memcpy(out.data(), s.data(), s.size());
  return out;
}

/// A file of make_fixtures.py: u32 height, u32 width, values.
template <class T>
struct Raw {
  std::size_t height = 0, width = 0;
  std::vector<T> values;
};
template <class T>
Raw<T> raw(const std::string& name) {
  const Bytes b = bytes_of(fixtures / name);
  std::uint32_t size[2];
  std::memcpy(size, b.data(), 8);
  Raw<T> r{size[0], size[1], std::vector<T>(std::size_t{size[0]} * size[1])};
  REQUIRE(b.size() == 8 + r.values.size() * sizeof(T));
  std::memcpy(r.values.data(), b.data() + 8, b.size() - 8);
  return r;
}

/// Largest difference to the expectation; huge where the extents differ.
template <class T>
double difference(const Image& image, const Raw<T>& expected) {
  if (image.height() != expected.height || image.width() != expected.width) return 1e9;
  double worst = 0;
  for (std::size_t i = 0; i < expected.values.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(image.pixels.data()[i]) -
                                     static_cast<double>(expected.values[i])));
  return worst;
}

std::uint32_t crc(const std::uint8_t* p, std::size_t n) {
  std::uint32_t c = ~0u;
  for (std::size_t i = 0; i < n; ++i) {
    c ^= p[i];
    for (int k = 0; k < 8; ++k) c = (c >> 1) ^ (0xEDB88320u & (0u - (c & 1)));
  }
  return ~c;
}

/// The pseudo-random numbers of make_fixtures.py.
std::vector<std::uint16_t> noise(std::size_t n) {
  std::vector<std::uint16_t> out;
  std::uint32_t x = 12345;
  while (out.size() < n) {
    x = x * 1664525u + 1013904223u;
    out.push_back(static_cast<std::uint16_t>(x >> 16));
  }
  return out;
}

/// The message of the Error that decoding throws; "" when it decodes. Any other exception fails the
/// test.
std::string problem(const Bytes& bytes, const std::string& source = "picture.x") {
  try {
    const Image image = decode_image(bytes, source);
    CHECK(image.width() * image.height() > 0);
  } catch (const Error& e) {
    CHECK_MESSAGE(std::string(e.what()).find(source) != std::string::npos,
                  e.what());  // every error names its file
    return e.what();
  }
  return {};
}
bool holds(const std::string& s, const std::string& part) {
  return s.find(part) != std::string::npos;
}

void append32(Bytes& b, std::uint32_t v) {
  for (int s = 24; s >= 0; s -= 8) b.push_back(std::byte(v >> s & 255));
}
/// The start of a PNG with a correct checksum whose header claims these extents.
Bytes png_header(std::uint32_t width, std::uint32_t height, int depth = 8, int colour = 0) {
  Bytes b;
  for (int c : {0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A}) b.push_back(std::byte(c));
  append32(b, 13);
  const std::size_t from = b.size();
  for (char c : std::string("IHDR")) b.push_back(std::byte(c));
  append32(b, width);
  append32(b, height);
  for (int c : {depth, colour, 0, 0, 0}) b.push_back(std::byte(c));
  append32(b, crc(reinterpret_cast<const std::uint8_t*>(b.data()) + from, b.size() - from));
  for (int c : {0, 0, 0, 0, 0x49, 0x44, 0x41, 0x54, 0x35, 0xAF, 0x06, 0x1E})
    b.push_back(std::byte(c));  // where pixels would follow
  return b;
}

struct TemporaryFolder {
  fs::path path =
      fs::temp_directory_path() / ("hybridmed_image_test_" + std::to_string(::getpid()));
  TemporaryFolder() { fs::create_directories(path); }
  ~TemporaryFolder() { fs::remove_all(path); }
};

}  // namespace

// ---------------------------------------------------------------- decoding

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

// ---------------------------------------------------------------- damaged files

TEST_CASE("files cut short are errors that name the file") {
  for (const std::string name : {"grey8.png", "rgb_interlaced.png", "grey16.png", "palette4.png",
                                 "grey.jpg", "rgb420.jpg", "progressive.jpg"}) {
    CAPTURE(name);
    const Bytes whole = bytes_of(fixtures / name);
    CHECK(problem(whole) == "");
    for (std::size_t n = 0; n < whole.size(); n += 7) {
      CAPTURE(n);
      problem({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)},
              "folder/cut " + name);
    }
    // Half of the pixels missing must not pass for a picture.
    CHECK(problem({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(whole.size() / 2)}) !=
          "");
  }
}

TEST_CASE("flipped bits decode or throw an Error, nothing else") {
  for (const std::string name :
       {"grey8.png", "palette4.png", "rgb16.png", "grey.jpg", "rgb420.jpg", "progressive.jpg"}) {
    CAPTURE(name);
    const Bytes whole = bytes_of(fixtures / name);
    std::size_t errors = 0;
    for (std::size_t i = 0; i<whole.size(); i += whole.size()> 1200 ? 3 : 1)
      for (int bit : {0, 3, 7}) {
        CAPTURE(i);
        Bytes damaged = whole;
        damaged[i] ^= std::byte(1 << bit);
        errors += problem(damaged) != "";
      }
    CHECK(errors > 0);
  }
  // A checksum that does not fit its pixels is damage, even where they decode.
  Bytes png = bytes_of(fixtures / "grey8.png");
  png[png.size() - 16] ^=
      std::byte(1);  // the last byte of IDAT's checksum precedes the 12 bytes of IEND
  png[png.size() - 13] ^= std::byte(1);
  CHECK(problem(png) != "");
}

TEST_CASE("what is no picture says so") {
  const auto text = [](const std::string& s) {
    Bytes b(s.size());
    std::memcpy(b.data(), s.data(), s.size());
    return b;
  };
  CHECK(holds(problem({}), "empty"));
  CHECK(problem(text("study_id,split\n1,train\n")) != "");
  CHECK(problem(text("\x89")) != "");
  CHECK(problem(text("\x89PNG")) != "");
  CHECK(problem(text("\x89PNG\r\n\x1a\n")) != "");
  CHECK(problem(text("\xFF\xD8")) != "");
  CHECK(problem(text("\xFF\xD8\xFF")) != "");
  CHECK(problem(text("\xFF\xD8\xFF\xD9")) != "");
  CHECK(problem(text("GIF89a")) != "");
  CHECK(problem(text("BM")) != "");
  CHECK(problem(Bytes(1000)) != "");

  const TemporaryFolder folder;
  const fs::path empty = folder.path / "empty file.png", missing = folder.path / "missing.png";
  std::ofstream(empty).close();
  for (const fs::path& path : {empty, missing, folder.path}) {
    std::string message;
    try {
      read_image(path);
    } catch (const Error& e) {
      message = e.what();
    }
    CHECK_MESSAGE(holds(message, path.string()), message);
  }
}

TEST_CASE("headers that claim absurd extents are refused before memory is taken") {
  for (const auto& [w, h] :
       std::vector<std::pair<std::uint32_t, std::uint32_t>>{{0x80000000u, 0x80000000u},
                                                            {0x7fffffffu, 0x7fffffffu},
                                                            {0xffffffffu, 0xffffffffu},
                                                            {0x80000000u, 1},
                                                            {0x7fffffffu, 1},
                                                            {1, 0x7fffffffu},
                                                            {65536, 65536},
                                                            {0, 0},
                                                            {0, 5},
                                                            {5, 0}}) {
    CAPTURE(w);
    CAPTURE(h);
    CHECK(problem(png_header(w, h)) != "");
    CHECK(problem(png_header(w, h, 16, 6)) != "");
  }
  CHECK(holds(problem(png_header(65536, 65536)), "65536"));
  CHECK(problem(png_header(4, 4)) != "");  // sane, but no pixels follow
  // The same in a JPEG: its frame header's extents (marker C0: length, precision, height, width).
  Bytes jpeg = bytes_of(fixtures / "grey.jpg");
  for (std::size_t i = 0; i + 9 < jpeg.size(); ++i)
    if (jpeg[i] == std::byte{0xFF} && jpeg[i + 1] == std::byte{0xC0}) {
      for (std::size_t k = 5; k < 9; ++k) jpeg[i + k] = std::byte{0xFF};
      break;
    }
  CHECK(problem(jpeg) != "");
}

// ---------------------------------------------------------------- resizing

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

// ---------------------------------------------------------------- transform

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
