// Checksums of the files of a folder.
#include <doctest/doctest.h>

#include "hybridmed/io/checksum.hpp"
#include "io.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
namespace fs = std::filesystem;

TEST_CASE("a checksum notices every flipped bit") {
  const ScratchFolder f;
  std::string text = "some words, 17 of them or so";
  for (std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{8},
                             std::size_t{9}, text.size()}) {
    const auto good = bytes(text.substr(0, length));
    std::ofstream(f.path / "a", std::ios::binary) << text.substr(0, length);
    io::write_checksums(f.path);
    CHECK(error_of([&] { io::verify_checksum(f.path / "a", good); }) == "");
    for (std::size_t i = 0; i < 8 * length; ++i) {
      auto bad = good;
      bad[i / 8] ^= std::byte{1} << i % 8;
      CHECK(holds(error_of([&] { io::verify_checksum(f.path / "a", bad); }),
                  (f.path / "a").string()));
    }
    auto longer = good;
    longer.push_back(std::byte{0});
    CHECK(error_of([&] { io::verify_checksum(f.path / "a", longer); }) != "");
    fs::remove(f.path / io::checksum_file);
    const std::vector<std::byte> nothing;  // a folder without checksums passes
    CHECK(error_of([&] { io::verify_checksum(f.path / "a", nothing); }) == "");
  }
}
