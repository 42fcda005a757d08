#pragma once
// A preset made small enough for whole steps through a launcher.
#include <string>

#include "hybridmed/model/config.hpp"

namespace hybridmed::test {

inline model::Config small(const char* preset) {
  auto c = model::Config::preset(preset);
  c.image_size = std::string(preset) == "tiny-swin" ? 64 : 32;
  c.grid = 4;
  c.uni_blocks = c.dec_blocks = 1;
  c.prototypes = 5;
  c.vocab = 40;
  return c;
}

}  // namespace hybridmed::test
