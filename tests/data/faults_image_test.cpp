// Pictures: EXIF orientation, 12 bits in 16, CMYK, a PNG without its end, files that are none.
// Files are made here with libpng and libjpeg.
#include <doctest/doctest.h>

#include <cstdlib>

#include "errors.hpp"
#include "hybridmed/data/image.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;

namespace {

using Bytes = std::vector<std::byte>;

/// A grey PNG of depth 8 or 16; significant bits where not 0; EXIF orientation where not 0.
Bytes png(const std::vector<std::uint16_t>& pixels, unsigned width, int depth, int significant = 0,
          int orientation = 0) {
  Bytes out;
  png_structp p = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(p);
  png_set_write_fn(
      p, &out,
      [](png_structp s, png_bytep from, png_size_t n) {
        auto* to = static_cast<Bytes*>(png_get_io_ptr(s));
        to->insert(to->end(), reinterpret_cast<std::byte*>(from),
                   reinterpret_cast<std::byte*>(from) + n);
      },
      nullptr);
  const auto height = static_cast<unsigned>(pixels.size()) / width;
  png_set_IHDR(p, info, width, height, depth, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (significant) {
    png_color_8 bits{};
    bits.gray = static_cast<png_byte>(significant);
    png_set_sBIT(p, info, &bits);
  }
  std::vector<png_byte> exif{'M', 'M',  0, 42, 0, 0, 0, 8, 0, 1,
                             1,   0x12, 0, 3,  0, 0, 0, 1, 0, static_cast<png_byte>(orientation),
                             0,   0,    0, 0,  0, 0};
  if (orientation) png_set_eXIf_1(p, info, static_cast<png_uint_32>(exif.size()), exif.data());
  png_write_info(p, info);
  for (unsigned y = 0; y < height; ++y) {
    std::vector<png_byte> row;
    for (unsigned x = 0; x < width; ++x) {
      const std::uint16_t v = pixels[y * width + x];
      if (depth == 16) row.push_back(static_cast<png_byte>(v >> 8));
      row.push_back(static_cast<png_byte>(v & 255));
    }
    png_write_row(p, row.data());
  }
  png_write_end(p, info);
  png_destroy_write_struct(&p, &info);
  return out;
}

std::vector<std::uint16_t> values(const Image& i) { return {i.pixels.begin(), i.pixels.end()}; }
bool notes(const Image& i, const std::string& part) {
  return std::any_of(i.notes.begin(), i.notes.end(),
                     [&](const std::string& n) { return holds(n, part); });
}

std::string decode_error(std::string bytes) {
  bytes.resize(std::max<std::size_t>(bytes.size(), 600));
  const std::span<const std::byte> span = std::as_bytes(std::span<const char>(bytes));
  const std::string e = error_of([&] { decode_image(span, "scan.png"); });
  CHECK_MESSAGE(holds(e, "scan.png"), e);
  return e;
}

}  // namespace

TEST_CASE("a picture is read upright, for every EXIF orientation") {
  // What is seen: 1 2 3 / 4 5 6. Stored as each orientation stores it (TIFF 6.0: where row 0 and
  // column 0 of the data lie).
  const std::vector<std::uint16_t> seen{1, 2, 3, 4, 5, 6};
  struct Row {
    int orientation;
    unsigned width;
    std::vector<std::uint16_t> stored;
  };
  for (const Row& row : {Row{1, 3, {1, 2, 3, 4, 5, 6}},
                         {2, 3, {3, 2, 1, 6, 5, 4}},
                         {3, 3, {6, 5, 4, 3, 2, 1}},
                         {4, 3, {4, 5, 6, 1, 2, 3}},
                         {5, 2, {1, 4, 2, 5, 3, 6}},
                         {6, 2, {3, 6, 2, 5, 1, 4}},
                         {7, 2, {6, 3, 5, 2, 4, 1}},
                         {8, 2, {4, 1, 5, 2, 6, 3}}}) {
    const Image image = decode_image(png(row.stored, row.width, 8, 0, row.orientation), "x");
    INFO("orientation ", row.orientation);
    CHECK(image.height() == 2);
    CHECK(image.width() == 3);
    CHECK(values(image) == seen);
    CHECK(notes(image, "orientation") == (row.orientation != 1));
  }
  for (int nonsense : {9, 200})
    CHECK(values(decode_image(png(seen, 3, 8, 0, nonsense), "x")) == seen);
}

TEST_CASE("an EXIF block of any bytes is read without harm") {
  std::vector<unsigned char> block{'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12,
                                   1,   3,   0,  1, 0, 0, 0, 6, 0, 0, 0};
  CHECK(detail::exif_orientation(block.data(), block.size()) == 6);
  for (std::size_t cut = 0; cut < block.size(); ++cut) {
    const std::vector<unsigned char> shorter(block.begin(),
                                             block.begin() + static_cast<std::ptrdiff_t>(cut));
    detail::exif_orientation(shorter.data(), shorter.size());  // the sanitizer watches
  }
  for (std::size_t i = 0; i < block.size(); ++i)
    for (unsigned char v : {0, 1, 127, 255}) {
      auto other = block;
      other[i] = v;
      const int o = detail::exif_orientation(other.data(), other.size());
      CHECK((o >= 1 && o <= 8));
    }
}

TEST_CASE("12 bits in a 16-bit PNG: brought to the whole range where sBIT says so, else noted") {
  std::vector<std::uint16_t> low, full;
  for (unsigned i = 0; i < 64; ++i) {
    low.push_back(static_cast<std::uint16_t>(i * 65));
    full.push_back(static_cast<std::uint16_t>((i * 65 * 65535 + 2047) / 4095));
  }
  const Image plain = decode_image(png(low, 8, 16), "x");
  CHECK(values(plain) == low);
  CHECK(notes(plain, "4095 of 65535"));
  const Image said = decode_image(png(low, 8, 16, 12), "x");
  CHECK(values(said) == full);
  CHECK(said.notes.empty());
  // By the specification a writer fills the range: sBIT then changes nothing.
  const Image filled = decode_image(png(full, 8, 16, 12), "x");
  CHECK(values(filled) == full);
  CHECK(filled.notes.empty());
  std::vector<std::uint16_t> dark;  // a dark picture that was scaled: multiples of 16
  for (unsigned i = 0; i < 64; ++i) dark.push_back(static_cast<std::uint16_t>(i * 16));
  CHECK(values(decode_image(png(dark, 8, 16, 12), "x")) == dark);
  CHECK(decode_image(png({0, 0, 0, 0}, 2, 16), "x").notes.empty());  // black is black
  CHECK(decode_image(png(full, 8, 16), "x").notes.empty());
}

TEST_CASE("a PNG that lacks only its end is read and noted; one that lacks a pixel is not") {
  const std::vector<std::uint16_t> pixels{10, 20, 30, 40, 50, 60};
  const Bytes whole = png(pixels, 3, 8);
  for (std::size_t missing = 1; missing <= 12; ++missing) {
    const Image image = decode_image(std::span(whole).first(whole.size() - missing), "x");
    CHECK(values(image) == pixels);
    CHECK(notes(image, "end of the file"));
  }
  for (std::size_t missing = 13; missing < 30; ++missing)
    CHECK(error_of([&] { decode_image(std::span(whole).first(whole.size() - missing), "x"); }) !=
          "");
}

TEST_CASE("a CMYK JPEG is read as grey, as Pillow reads it") {
  // 8 x 8, one colour: inks cyan 55, magenta 0, yellow 0, black 25 -> light (200, 255, 255) * 230 /
  // 255, luma 216
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_compress_struct c;
  jpeg_error_mgr errors;
  c.err = jpeg_std_error(&errors);
  jpeg_create_compress(&c);
  jpeg_mem_dest(&c, &memory, &size);
  c.image_width = 8;
  c.image_height = 8;
  c.input_components = 4;
  c.in_color_space = JCS_CMYK;
  jpeg_set_defaults(&c);
  jpeg_set_quality(&c, 100, TRUE);
  jpeg_start_compress(&c, TRUE);
  std::vector<JSAMPLE> row;
  for (int x = 0; x < 8; ++x)
    for (int ink : {55, 0, 0, 25})
      row.push_back(static_cast<JSAMPLE>(255 - ink));  // stored inverted, as Adobe does
  for (int y = 0; y < 8; ++y) {
    JSAMPROW rows = row.data();
    jpeg_write_scanlines(&c, &rows, 1);
  }
  jpeg_finish_compress(&c);
  jpeg_destroy_compress(&c);
  const Image image = decode_image(std::as_bytes(std::span(memory, size)), "x");
  std::free(memory);
  CHECK(image.pixels(3, 3) == doctest::Approx(215).epsilon(0.01));
  CHECK(notes(image, "CMYK"));
}

TEST_CASE("a DICOM file is named, with a hint to convert it to PNG") {
  const std::string first("\x02\0\0\0UL\x04\0", 8);
  const std::string preamble = std::string(128, '\0') + "DICM" + first;
  const std::string bare = std::string("\x08\0\x05\0CS\x0A\0", 8) + "ISO_IR 100";
  for (const std::string& bytes : {preamble, bare}) {
    const std::string e = decode_error(bytes);
    CHECK_MESSAGE(holds(e, "DICOM"), e);
    const std::size_t hint = e.find("hint:");
    REQUIRE_MESSAGE(hint != std::string::npos, e);
    CHECK_MESSAGE(e.find("PNG", hint) != std::string::npos, e);
  }
}

TEST_CASE("files of other kinds are named") {
  const std::string bmp = "BM" + std::string("\x36\x04\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", 16);
  const std::string lfs =
      "version https://git-lfs.github.com/spec/v1\n"
      "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
      "size 12345\n";
  const std::vector<std::pair<std::string, std::string>> kinds{
      {std::string("II*\0\x08\0\0\0", 8), "TIFF"},
      {std::string("MM\0*\0\0\0\x08", 8), "TIFF"},
      {"GIF89a", "GIF"},
      {"GIF87a", "GIF"},
      {bmp, "BMP"},
      {"RIFF" + std::string("\x50\x02\0\0", 4) + "WEBPVP8 ", "WebP"},
      {std::string("\0\0\0\x0CjP  \r\n\x87\n", 12), "JPEG 2000"},
      {std::string("\xFF\x4F\xFF\x51\0\x29", 6), "JPEG 2000"},
      {"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n", "HTML"},
      {"<html><body>404</body></html>\n", "HTML"},
      {lfs, "Git LFS"}};
  for (const auto& [bytes, kind] : kinds) {
    const std::string e = decode_error(bytes);
    CHECK_MESSAGE(holds(e, kind), kind, ": ", e);
  }
}

TEST_CASE("a colour PNG whose pixels are not grey is noted") {
  const ScratchFolder f;
  std::vector<std::uint8_t> red;
  std::vector<std::uint8_t> grey;
  for (int k = 0; k < 64; ++k) {
    const auto level = static_cast<std::uint8_t>(4 * k);
    red.insert(red.end(), {200, 10, level});
    grey.insert(grey.end(), {level, level, level});
  }
  write_png(f.path / "red.png", red.data(), 8, 8, 3);
  write_png(f.path / "grey.png", grey.data(), 8, 8, 3);
  write_png(f.path / "plain.png", grey.data(), 8, 8, 1);
  CHECK(notes(read_image(f.path / "red.png"), "colour"));
  const Image image = read_image(f.path / "grey.png");
  CHECK_FALSE(notes(image, "colour"));
  CHECK(image.pixels(0, 1) == 4);
  CHECK(image.pixels(7, 7) == 252);
  CHECK_FALSE(notes(read_image(f.path / "plain.png"), "colour"));
}
