#pragma once
// What tests of images share: the files of make_fixtures.py, the numbers behind them, a folder for
// files that are written.
#include <doctest/doctest.h>

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "hybridmed/data/image.hpp"

namespace hybridmed::test {

namespace fs = std::filesystem;
using data::Image;

inline const fs::path fixtures = HYBRIDMED_FIXTURES;
using Bytes = std::vector<std::byte>;

inline Bytes bytes_of(const fs::path& path) {
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

inline std::uint32_t crc(const std::uint8_t* p, std::size_t n) {
  std::uint32_t c = ~0u;
  for (std::size_t i = 0; i < n; ++i) {
    c ^= p[i];
    for (int k = 0; k < 8; ++k) c = (c >> 1) ^ (0xEDB88320u & (0u - (c & 1)));
  }
  return ~c;
}

/// The pseudo-random numbers of make_fixtures.py.
inline std::vector<std::uint16_t> noise(std::size_t n) {
  std::vector<std::uint16_t> out;
  std::uint32_t x = 12345;
  while (out.size() < n) {
    x = x * 1664525u + 1013904223u;
    out.push_back(static_cast<std::uint16_t>(x >> 16));
  }
  return out;
}

struct TemporaryFolder {
  fs::path path =
      fs::temp_directory_path() / ("hybridmed_image_test_" + std::to_string(::getpid()));
  TemporaryFolder() { fs::create_directories(path); }
  ~TemporaryFolder() { fs::remove_all(path); }
};

}  // namespace hybridmed::test
