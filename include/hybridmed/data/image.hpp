#pragma once
// Reading radiographs: PNG (libpng) and JPEG (libjpeg-turbo), told apart by content, as one grey
// channel of 8 or 16 bits, upright by their EXIF orientation.
#include <png.h>
#include <stdio.h>  // jpeglib.h needs FILE

#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <xtensor/xtensor.hpp>

#include "hybridmed/io/file.hpp"

namespace hybridmed::data {

/// One grey image. Values are 0..255 or 0..65535.
struct Image {
  xt::xtensor<std::uint16_t, 2> pixels;  // (height, width)
  int bits = 8;
  std::vector<std::string> notes;  // what is odd about the file, a sentence each

  std::size_t height() const { return pixels.shape()[0]; }
  std::size_t width() const { return pixels.shape()[1]; }
};

namespace detail {

inline constexpr std::uint64_t max_pixels = std::uint64_t{1} << 26,
                               max_side = 65500;  // no radiograph is larger

[[noreturn]] inline void bad_image(const std::string& source, const std::string& why) {
  fail("data", "image", source + ": " + why);
}

inline void check_size(std::uint64_t width, std::uint64_t height, const std::string& source) {
  if (width == 0 || height == 0 || width > max_side || height > max_side ||
      width * height > max_pixels)
    bad_image(source, "an image of " + std::to_string(width) + " x " + std::to_string(height) +
                          " pixels (limit " + std::to_string(max_pixels) + " in all, " +
                          std::to_string(max_side) + " a side)");
}
/// ITU-R 601 luma as Pillow computes it.
inline std::uint16_t luma(std::uint32_t r, std::uint32_t g, std::uint32_t b) {
  return static_cast<std::uint16_t>(
      (std::uint64_t{r} * 19595 + std::uint64_t{g} * 38470 + std::uint64_t{b} * 7471 + 0x8000) >>
      16);
}

/// The orientation tag (1 to 8) of an EXIF block (TIFF 6.0, tag 0x0112); 1 where there is none, or
/// none that makes sense.
inline int exif_orientation(const unsigned char* p, std::size_t n) {
  if (n < 8 || !((p[0] == 'I' && p[1] == 'I') || (p[0] == 'M' && p[1] == 'M'))) return 1;
  const bool little = p[0] == 'I';
  const auto number = [&](std::size_t at, std::size_t bytes) {
    std::size_t v = 0;
    for (std::size_t i = 0; i < bytes; ++i) v = v << 8 | p[little ? at + bytes - 1 - i : at + i];
    return v;
  };
  const std::size_t directory = number(4, 4);
  if (directory > n || n - directory < 2) return 1;
  const std::size_t entries = number(directory, 2);
  for (std::size_t e = 0; e < entries && (n - directory - 2) / 12 > e; ++e) {
    const std::size_t at = directory + 2 + 12 * e;
    if (number(at, 2) != 0x0112 || number(at + 2, 2) != 3) continue;  // a 16-bit number
    const std::size_t v = number(at + 8, 2);
    return v >= 1 && v <= 8 ? static_cast<int>(v) : 1;
  }
  return 1;
}

struct JpegErrors {
  jpeg_error_mgr base;
  std::size_t size = 0, at = 0;  // of the file; where decoding stopped
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = {};
};

/// The C part: no object with a destructor lives between setjmp and longjmp. Rows of `components`
/// bytes go to `out` once
/// `*size` was accepted by the caller's limit.
inline bool decode_jpeg(const unsigned char* bytes, std::size_t n, unsigned char** out,
                        unsigned* width, unsigned* height, int* components, int* orientation,
                        JpegErrors* errors) {
  jpeg_decompress_struct c;
  c.err = jpeg_std_error(&errors->base);
  errors->base.error_exit = [](j_common_ptr info) {
    auto* e = reinterpret_cast<JpegErrors*>(info->err);
    e->base.format_message(info, e->message);
    if (info->is_decompressor && reinterpret_cast<j_decompress_ptr>(info)->src)
      e->at = e->size -
              (std::min)(e->size, reinterpret_cast<j_decompress_ptr>(info)->src->bytes_in_buffer);
    std::longjmp(e->jump, 1);
  };
  errors->base.emit_message = [](j_common_ptr info, int level) {
    const int code = info->err->msg_code;  // damaged data is an error; harmless oddities are not
    if (level < 0 &&
        (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE ||
         code == JWRN_MUST_RESYNC || code == JWRN_NOT_SEQUENTIAL || code == JWRN_BOGUS_PROGRESSION))
      info->err->error_exit(info);
  };
  if (setjmp(errors->jump)) {
    jpeg_destroy_decompress(&c);
    return false;
  }
  errors->size = n;
  jpeg_create_decompress(&c);
  jpeg_mem_src(&c, bytes, static_cast<unsigned long>(n));
  jpeg_save_markers(&c, JPEG_APP0 + 1, 0xFFFF);  // EXIF
  jpeg_read_header(&c, TRUE);
  for (jpeg_saved_marker_ptr m = c.marker_list; m; m = m->next)
    if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 &&
        std::memcmp(m->data, "Exif\0\0", 6) == 0)
      *orientation = exif_orientation(m->data + 6, m->data_length - 6);
  *width = c.image_width;
  *height = c.image_height;
  if (c.image_width > max_side || c.image_height > max_side ||
      std::uint64_t{c.image_width} * c.image_height > max_pixels) {
    jpeg_destroy_decompress(&c);
    return true;  // the caller reports the size
  }
  const bool inks = c.jpeg_color_space == JCS_CMYK || c.jpeg_color_space == JCS_YCCK;
  c.out_color_space = c.jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE
                      : inks                              ? JCS_CMYK
                                                          : JCS_RGB;
  jpeg_start_decompress(&c);
  *components = c.output_components;
  *out = static_cast<unsigned char*>(std::malloc(std::size_t{c.output_width} * c.output_height *
                                                 static_cast<std::size_t>(c.output_components)));
  if (!*out) {
    jpeg_destroy_decompress(&c);
    return false;
  }
  while (c.output_scanline < c.output_height) {
    JSAMPROW row = *out + std::size_t{c.output_scanline} * c.output_width *
                              static_cast<std::size_t>(c.output_components);
    jpeg_read_scanlines(&c, &row, 1);
  }
  jpeg_finish_decompress(&c);
  jpeg_destroy_decompress(&c);
  return true;
}

struct PngState {
  const std::byte* bytes;
  std::size_t size, at;
  char message[256];
  int orientation = 1;
  int significant_bits = 0;  // of a sample, by sBIT; 0: not said
  bool cut = false;          // the file ends too early
};

/// Is every image chunk of a cut PNG whole, so that only what follows the picture is missing?
inline bool picture_is_whole(const std::byte* bytes, std::size_t size) {
  const auto is_data = [&](std::size_t at) { return std::memcmp(bytes + at + 4, "IDAT", 4) == 0; };
  bool data = false;
  for (std::size_t at = 8; at + 8 <= size;) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i)
      length = length << 8 | std::to_integer<std::size_t>(bytes[at + i]);
    if (length + 12 > size - at) return data && !is_data(at);
    data = data || is_data(at);
    at += length + 12;
  }
  return data;
}

/// The C part of PNG; rows of 16-bit big-endian or 8-bit samples with `channels` samples a pixel.
inline bool decode_png(PngState* state, unsigned char** out, unsigned* width, unsigned* height,
                       int* depth, int* channels) {
  png_structp png = png_create_read_struct(
      PNG_LIBPNG_VER_STRING, state,
      [](png_structp p, png_const_charp m) {
        auto* s = static_cast<PngState*>(png_get_error_ptr(p));
        std::snprintf(s->message, sizeof s->message, "%s", m);
        png_longjmp(p, 1);
      },
      [](png_structp, png_const_charp) {});
  if (!png) return false;
  png_infop info = png_create_info_struct(png);
  png_bytep* rows = nullptr;
  // volatile: assigned between setjmp and longjmp
  png_bytep* volatile kept = nullptr;
  volatile bool complete = false;  // every row is there
  if (!info || setjmp(png_jmpbuf(png))) {
    std::free(kept);
    png_destroy_read_struct(&png, &info, nullptr);
    return complete && state->cut && picture_is_whole(state->bytes, state->size);
  }
  png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
  png_set_read_fn(png, state, [](png_structp p, png_bytep to, png_size_t n) {
    auto* s = static_cast<PngState*>(png_get_io_ptr(p));
    if (n > s->size - s->at) {
      s->cut = true;
      png_error(p, "the file ends too early");
    }
    std::memcpy(to, s->bytes + s->at, n);
    s->at += n;
  });
  png_read_info(png, info);
  *width = png_get_image_width(png, info);
  *height = png_get_image_height(png, info);
  if (*width == 0 || *height == 0 || *width > max_side || *height > max_side ||
      std::uint64_t{*width} * *height > max_pixels) {
    png_destroy_read_struct(&png, &info, nullptr);
    return true;  // the caller reports the size
  }
#ifdef PNG_eXIf_SUPPORTED
  png_uint_32 exif_size = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png, info, &exif_size, &exif))
    state->orientation = exif_orientation(exif, exif_size);
#endif
  png_color_8p significant = nullptr;
  if (png_get_bit_depth(png, info) == 16 && png_get_sBIT(png, info, &significant))
    state->significant_bits =
        png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR
            ? (std::max)({significant->red, significant->green, significant->blue})
            : significant->gray;
  png_set_expand(png);  // palettes to RGB, low bit depths to 8
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  *depth = png_get_bit_depth(png, info);
  *channels = png_get_channels(png, info);
  const std::size_t stride = png_get_rowbytes(png, info);
  *out = static_cast<unsigned char*>(std::malloc(stride * *height));
  rows = static_cast<png_bytep*>(std::malloc(sizeof(png_bytep) * *height));
  kept = rows;
  if (!*out || !rows) png_error(png, "not enough memory");
  for (unsigned y = 0; y < *height; ++y) rows[y] = *out + stride * y;
  png_read_image(png, rows);
  complete = true;
  png_read_end(png, info);
#ifdef PNG_eXIf_SUPPORTED
  if (png_get_eXIf_1(png, info, &exif_size, &exif))
    state->orientation = exif_orientation(exif, exif_size);
#endif
  std::free(rows);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

/// The picture as it is looked at: stored pixels turned and mirrored by an EXIF orientation.
inline xt::xtensor<std::uint16_t, 2> upright(const xt::xtensor<std::uint16_t, 2>& stored,
                                             int orientation) {
  const std::size_t h = stored.shape()[0], w = stored.shape()[1];
  const bool turned = orientation >= 5;  // height and width change places
  auto out = xt::xtensor<std::uint16_t, 2>::from_shape({turned ? w : h, turned ? h : w});
  for (std::size_t y = 0; y < out.shape()[0]; ++y)
    for (std::size_t x = 0; x < out.shape()[1]; ++x) {
      std::size_t row = turned ? x : y, column = turned ? y : x;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7)
        row = h - 1 - row;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8)
        column = w - 1 - column;
      out(y, x) = stored(row, column);
    }
  return out;
}

/// Brings 16-bit samples that hold fewer bits, right-aligned, to the whole range where sBIT says
/// how many; else notes a range far below it. By the PNG specification samples fill the range
/// whatever sBIT says; many writers leave them as they are.
inline void use_whole_range(Image& image, int significant_bits) {
  const std::uint32_t top = *std::max_element(image.pixels.begin(), image.pixels.end());
  if (significant_bits > 0 && significant_bits < 16) {
    const std::uint32_t full = (1u << significant_bits) - 1,
                        low = (1u << (16 - significant_bits)) - 1;
    const bool right_aligned = top <= full && std::any_of(image.pixels.begin(), image.pixels.end(),
                                                          [&](std::uint16_t v) { return v & low; });
    if (right_aligned)
      for (auto& v : image.pixels)
        v = static_cast<std::uint16_t>((std::uint64_t{v} * 65535 + full / 2) / full);
    if (right_aligned) return;
  }
  if (top > 0 && top < 32768) {
    int bits = 1;
    while ((1u << bits) <= top) ++bits;
    image.notes.push_back(
        "its largest value is " + std::to_string(top) + " of 65535: " + std::to_string(bits) +
        " bits stored in 16? it is read that much darker; store sBIT, or values up to 65535");
  }
}

}  // namespace detail

/// What a file that is neither PNG nor JPEG seems to be, and what to do with it.
inline std::pair<std::string, std::string> other_kind(std::span<const std::byte> bytes) {
  const auto holds = [&](std::size_t at, std::string_view magic) {
    return bytes.size() >= at + magic.size() &&
           std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
  };
  const std::string convert = "save it as PNG (8 or 16 bits) or JPEG";
  // A data set without DICOM's preamble begins with an element of group 0002 or 0008 (little
  // endian).
  const bool bare = bytes.size() > 8 && (holds(0, {"\x08\x00", 2}) || holds(0, {"\x02\x00", 2})) &&
                    holds(3, {"\x00", 1}) && std::isupper(std::to_integer<int>(bytes[4])) &&
                    std::isupper(std::to_integer<int>(bytes[5]));
  if (holds(128, "DICM") || bare)
    return {"a DICOM file, which this version does not read",
            "convert it to PNG with the window that its header names, e.g. with DCMTK: dcm2img "
            "--write-png --use-window 1 IN.dcm OUT.png (older releases: dcmj2pnm +on +Wi 1)"};
  if (holds(0, {"II*\0", 4}) || holds(0, {"MM\0*", 4})) return {"a TIFF file", convert};
  if (holds(0, "GIF8")) return {"a GIF file", convert};
  if (holds(0, "BM")) return {"a BMP file", convert};
  if (holds(0, "RIFF") && holds(8, "WEBP")) return {"a WebP file", convert};
  if (holds(4, "jP  ") || holds(0, "\xFF\x4F\xFF\x51")) return {"a JPEG 2000 file", convert};
  if (holds(4, "ftyp")) return {"a HEIF, AVIF or video file", convert};
  if (holds(0, "P5") || holds(0, "P2") || holds(0, "P6")) return {"a PNM file", convert};
  if (holds(0, "\x1F\x8B"))
    return {"a file packed with gzip (NIfTI?)", "unpack it, and save its picture as PNG"};
  if (holds(344, {"n+1\0", 4})) return {"a NIfTI volume", "save the slice that is meant as PNG"};
  if (holds(0, "PK\x03\x04")) return {"a ZIP archive", "unpack it"};
  if (holds(0, "%PDF")) return {"a PDF document", convert};
  if (holds(0, "<")) return {"a text such as HTML or XML: perhaps a download that failed", convert};
  if (holds(0, "version https://git-lfs"))
    return {"a pointer of Git LFS, not the picture itself", "fetch the file with git lfs pull"};
  return {"neither PNG nor JPEG by its first bytes", {}};
}

/// Decodes a PNG or JPEG held in memory; `source` is named in errors. Colour becomes luma, alpha is
/// dropped.
inline Image decode_image(std::span<const std::byte> bytes, const std::string& source) {
  const auto starts = [&](std::initializer_list<unsigned> magic) {
    std::size_t i = 0;
    for (unsigned m : magic)
      if (i >= bytes.size() || std::to_integer<unsigned>(bytes[i++]) != m) return false;
    return true;
  };
  unsigned char* raw = nullptr;
  unsigned width = 0, height = 0;
  int depth = 8, channels = 1, orientation = 1, significant_bits = 0;
  bool cut = false;
  std::string problem;
  if (starts({0x89, 'P', 'N', 'G'})) {
    detail::PngState state{bytes.data(), bytes.size(), 0, {}};
    if (!detail::decode_png(&state, &raw, &width, &height, &depth, &channels))
      problem = std::string("damaged PNG: ") +
                (state.message[0] ? state.message : "not enough memory") + " (at byte " +
                std::to_string(state.at) + " of " + std::to_string(bytes.size()) + ")";
    orientation = state.orientation;
    significant_bits = state.significant_bits;
    cut = state.cut;
  } else if (starts({0xFF, 0xD8, 0xFF})) {
    detail::JpegErrors errors{};
    if (!detail::decode_jpeg(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                             &raw, &width, &height, &channels, &orientation, &errors))
      problem = std::string("damaged JPEG: ") +
                (errors.message[0] ? errors.message : "not enough memory") + " (at byte " +
                std::to_string(errors.at) + " of " + std::to_string(bytes.size()) + ")";
  } else {
    const auto [kind, hint] = bytes.empty()
                                  ? std::pair<std::string, std::string>("an empty file", "")
                                  : other_kind(bytes);
    fail("data", "image", source + ": " + kind, hint);
  }
  const std::unique_ptr<unsigned char, void (*)(void*)> owner(raw, std::free);
  if (!problem.empty()) detail::bad_image(source, problem);
  detail::check_size(width, height, source);
  Image image;
  image.bits = depth == 16 ? 16 : 8;
  image.pixels = xt::xtensor<std::uint16_t, 2>::from_shape({height, width});
  const std::size_t n = std::size_t{width} * height, step = static_cast<std::size_t>(channels);
  const auto sample = [&](std::size_t i) -> std::uint32_t {
    return depth == 16 ? std::uint32_t{raw[2 * i]} << 8 | raw[2 * i + 1] : raw[i];
  };
  std::uint16_t* to = image.pixels.data();
  std::size_t coloured = 0;  // pixels that are far from grey
  for (std::size_t i = 0; i < n; ++i) {
    const auto channel = [&](std::size_t c) { return sample(i * step + c); };
    if (channels == 3) {
      const auto [low, high] = std::minmax({channel(0), channel(1), channel(2)});
      coloured += high - low > (depth == 16 ? 8192u : 32u);
    }
    if (channels == 4) {  // CMYK, stored inverted as Adobe does: light = 255 - ink; R = light of
                          // cyan times light of black
      const auto light = [&](std::size_t c) { return (channel(c) * channel(3) + 127) / 255; };
      to[i] = detail::luma(light(0), light(1), light(2));
    } else {
      to[i] = channels >= 3 ? detail::luma(channel(0), channel(1), channel(2))
                            : static_cast<std::uint16_t>(channel(0));
    }
  }
  if (image.bits == 16) detail::use_whole_range(image, significant_bits);
  if (cut) image.notes.push_back("the end of the file is missing; the picture is whole");
  if (20 * coloured > n)
    image.notes.push_back("a colour picture: " + std::to_string(100 * coloured / n) +
                          " % of its pixels are not grey; its luma is read");
  if (channels == 4) image.notes.push_back("a CMYK picture, which radiographs are not");
  if (orientation != 1) {
    image.pixels = detail::upright(image.pixels, orientation);
    image.notes.push_back("stored turned or mirrored (EXIF orientation " +
                          std::to_string(orientation) + "); it is read upright");
  }
  return image;
}

/// @throws Error for a picture that cannot be meant: no pixels, another depth than 8 or 16 bits, or
/// values beyond the depth.
inline void check_image(const Image& image, const char* operation) {
  if (image.pixels.size() == 0) fail("data", operation, "a picture without pixels");
  if (image.bits != 8 && image.bits != 16)
    fail("data", operation, "expected a picture of 8 or 16 bits, got " + std::to_string(image.bits),
         "12 bits are stored as 16: scale them to 0..65535");
  if (const auto top = *std::max_element(image.pixels.begin(), image.pixels.end());
      image.bits == 8 && top > 255)
    fail("data", operation, "a picture of 8 bits with a value of " + std::to_string(top),
         "set bits to 16, and scale the values to 0..65535");
}

/// A sentence where a picture holds next to nothing: nearly all of its pixels are alike.
inline std::vector<std::string> contrast_notes(const Image& image) {
  std::vector<std::uint16_t> values(image.pixels.begin(), image.pixels.end());
  const auto at = [&](double share) {
    const auto nth = values.begin() +
                     static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), nth, values.end());
    return *nth;
  };
  if (values.empty()) return {};
  const int low = at(0.01), high = at(0.99), full = image.bits == 16 ? 65535 : 255;
  if (high - low >= full / 50) return {};
  return {"nearly constant: 98 % of its pixels lie between " + std::to_string(low) + " and " +
          std::to_string(high) + " of " + std::to_string(full)};
}

/// What is odd about a picture's size, for a radiograph.
inline std::vector<std::string> size_notes(const Image& image) {
  std::vector<std::string> out;
  const std::size_t longest = (std::max)(image.width(), image.height()),
                    shortest = (std::min)(image.width(), image.height());
  const std::string size =
      std::to_string(image.width()) + " x " + std::to_string(image.height()) + " pixels";
  if (longest < 32) out.push_back("very small: " + size);
  if (longest > 3 * shortest)
    out.push_back("very long and narrow: " + size + "; most of what the model sees is padding");
  return out;
}

inline Image read_image(const std::filesystem::path& path) {
  return decode_image(io::read_file(path), path.string());
}

/// Writes an 8-bit PNG, whole or not at all: grey (height, width) with channels 1, RGB with
/// channels 3, rows packed.
inline void write_png(const std::filesystem::path& path, const std::uint8_t* pixels,
                      std::size_t width, std::size_t height, int channels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  io::write_atomically(
      path,
      [&](const std::filesystem::path& temporary) {
        errno = 0;
        const bool written =
            png_image_write_to_file(&image, temporary.c_str(), 0, pixels, 0, nullptr) != 0;
        const int why = errno;
        if (!written)
          fail("data", "write_png",
               path.string() + ": " + (why ? std::strerror(why) : image.message),
               io::write_hint(why));
      },
      /*sync=*/false);
}

}  // namespace hybridmed::data
