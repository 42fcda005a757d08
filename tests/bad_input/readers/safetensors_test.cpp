// Bad safetensors files.
#include "hybridmed/io/safetensors.hpp"
#include "readers.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

std::string length(std::uint64_t n) {
  std::string s;
  for (int i = 0; i < 8; ++i) s += static_cast<char>(n >> 8 * i & 255);
  return s;
}
/// A file with this header and `data` zero bytes.
std::string tensors(const std::string& header, std::size_t data) {
  return length(header.size()) + header + std::string(data, '\0');
}
/// One entry named 'w'.
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets,
                  std::size_t data) {
  return tensors("{\"w\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
                     ",\"data_offsets\":" + offsets + "}}",
                 data);
}
/// Two entries of four bytes, 'v' and 'w'.
std::string entries(const std::string& v, const std::string& w, std::size_t data) {
  return tensors("{\"v\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + v +
                     "},\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + w + "}}",
                 data);
}

}  // namespace

TEST_CASE(
    "safetensors: overflowing, overlapping, negative and out-of-range entries, cut and damaged "
    "files") {
  const auto file = [](const std::string& name, const std::string& bytes,
                       std::vector<std::string> patterns) {
    return with_bytes(
        name, "w.safetensors", bytes, [](const fs::path& p) { io::Safetensors::read(p); },
        std::move(patterns));
  };
  const std::string whole = entry("F32", "[2,3]", "[0,24]", 24);
  check({
      // overflow
      file("a product of extents that overflows",
           entry("F64", "[281474976710656,281474976710656,2]", "[0,8]", 8), {"'w'", "overflow"}),
      file("a product that wraps to the right size",
           entry("F32", "[4294967296,4294967296,2]", "[0,0]", 0), {"'w'", "overflow"}),
      file("an extent that wraps with its element size",
           entry("F32", "[4611686018427387906]", "[0,8]", 8),
           {"'w'", "4611686018427387906", "too large|overflow"}),
      file("an extent of 2^64 - 1", entry("F32", "[18446744073709551615]", "[0,8]", 8),
           {"'w'", "18446744073709551615", "too large|overflow"}),
      file("an extent beyond 64 bits", entry("F32", "[18446744073709551618]", "[0,8]", 8),
           {"'w'", "extent", "natural number|too large"}),
      file("an offset of 2^64 - 1", entry("F32", "[2]", "[18446744073709551615,7]", 8),
           {"'w'", "begin at 18446744073709551615 and end at 7"}),
      file("a header length that overflows when 8 is added", length(~std::uint64_t{0} - 3) + "{}",
           {"header of 18446744073709551612 bytes", "limit"}),
      // overlap and holes
      file("two entries that overlap", entries("[0,4]", "[2,6]", 6),
           {"overlaps tensor", "offset 2"}),
      file("two entries on the same bytes", entries("[0,4]", "[0,4]", 4),
           {"overlaps tensor", "offset 0"}),
      file("a hole between two entries", entries("[0,4]", "[5,9]", 9),
           {"hole before tensor", "4 to 5"}),
      file("bytes that belong to no entry", entries("[0,4]", "[4,8]", 9), {"8 of 9"}),
      // negative
      file("a negative extent", entry("F32", "[-2]", "[0,8]", 8),
           {"'w'", "-2", "not a natural number"}),
      file("two negative extents", entry("F32", "[-1,-2]", "[0,8]", 8),
           {"'w'", "-1", "not a natural number"}),
      file("a negative offset", entry("F32", "[2]", "[-8,0]", 8),
           {"'w'", "-8", "not a natural number"}),
      // out of range
      file("an end outside the data", entry("F32", "[4]", "[0,16]", 8),
           {"'w'", "\\[0, 16\\)", "outside 8 data bytes"}),
      file("a range outside the data", entry("F32", "[2]", "[8,16]", 8),
           {"'w'", "\\[8, 16\\)", "outside 8 data bytes"}),
      file("begin after end", entry("F32", "[2]", "[8,0]", 8), {"'w'", "begin at 8 and end at 0"}),
      file("fewer bytes than the shape needs", entry("F32", "[3]", "[0,8]", 8),
           {"'w'", "8 bytes", "needs 12"}),
      file("more bytes than the shape needs", entry("F32", "[1]", "[0,8]", 8),
           {"'w'", "8 bytes", "needs 4"}),
      // cut and damaged
      file("an empty file", "", {"offset 0", "ends"}),
      file("cut inside the header length", cut(whole, 5), {"offset 0", "ends"}),
      file("cut inside the header", cut(whole, 30), {"only 22 follow", "cut short"}),
      file("cut inside the data", cut(whole, whole.size() - 4),
           {"'w'", "\\[0, 24\\)", "20 data bytes", "cut short"}),
      file("a header that is no object", tensors("[1]", 0), {"offset 8", "'\\{'"}),
      file("a header that is no JSON", tensors("{\"w\":}", 0),
           {"line 1, column 6", "syntax error"}),
      file("an unknown element type", entry("f33", "[2]", "[0,8]", 8), {"'w'", "dtype", "'f33'"}),
      file("an entry without offsets", tensors("{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8),
           {"'w'", "data_offsets"}),
      file("an entry twice",
           tensors("{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"w\":{"
                   "\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":["
                   "0,1]}}",
                   1),
           {"'w'", "twice"}),
  });
}
