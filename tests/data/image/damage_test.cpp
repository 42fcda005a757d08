// Damaged files, files that are no pictures, headers that claim too much.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "image.hpp"

using namespace hybridmed;
using namespace hybridmed::data;
using namespace hybridmed::test;

namespace {

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

}  // namespace

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
