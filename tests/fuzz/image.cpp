// Any bytes as a picture, and what is accepted as the square the model sees.
#include <zlib.h>

#include <cmath>

#include "hybridmed/data/transform.hpp"
#include "target.hpp"

namespace {
using namespace hybridmed;

/// The same bytes with the CRC of every PNG chunk made right. Else no mutation of a chunk would
/// ever get past libpng's check.
std::vector<std::byte> with_right_crcs(std::vector<std::byte> png) {
  const auto number = [&](std::size_t at) {
    std::uint32_t n = 0;
    for (std::size_t i = 0; i < 4; ++i) n = n << 8 | std::to_integer<std::uint32_t>(png[at + i]);
    return n;
  };
  for (std::size_t at = 8; at + 12 <= png.size();) {
    const std::size_t length = number(at);
    if (length > png.size() - at - 12) break;
    const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(png.data() + at + 4),
                             static_cast<uInt>(length + 4));
    for (std::size_t i = 0; i < 4; ++i)
      png[at + 8 + length + i] = static_cast<std::byte>(crc >> (24 - 8 * i) & 255);
    at += 12 + length;
  }
  return png;
}

void read(const std::vector<std::byte>& bytes) {
  fuzz::guarded("some.png", [&] {
    const data::Image image = data::decode_image(bytes, "some.png");
    fuzz::require(image.bits == 8 || image.bits == 16, "a picture has 8 or 16 bits");
    fuzz::require(image.height() > 0 && image.width() > 0, "a picture has pixels");
    const std::uint16_t* p = image.pixels.data();
    const bool within_8_bits = *std::max_element(p, p + image.pixels.size()) <= 255;
    fuzz::require(image.bits == 16 || within_8_bits, "an 8-bit picture's values are 0..255");
    data::TransformOptions options;
    options.image_size = 28;
    options.resize = 32;
    options.jitter_contrast = 0.5;
    options.jitter_brightness = 0.25;
    options.jitter_rotation = 30;
    options.jitter_scale = 0.5;
    const data::Square square = data::make_square(image, options.resize);
    std::vector<float> out(options.image_size * options.image_size);
    const Philox random(1, 2);
    for (const Philox* r : {static_cast<const Philox*>(nullptr), &random}) {
      data::crop(square, options, r, out);
      const float most = r ? 1.75f : 1.0f;
      for (const float v : out)
        fuzz::require(std::abs(v) <= most + 1e-5f,
                      "the model sees values within [-1, 1] and the jitter");
    }
  });
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  const std::vector<std::byte> bytes(begin, begin + size);
  read(bytes);
  if (fuzz::text_of(data, size).starts_with("\x89PNG"))
    if (const auto repaired = with_right_crcs(bytes); repaired != bytes) read(repaired);
  return 0;
}
