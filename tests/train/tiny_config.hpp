#pragma once
// A configuration that trains in a second.
#include "hybridmed/train/run_config.hpp"

namespace hybridmed::test {

inline train::RunConfig tiny_config(const std::filesystem::path& data) {
  train::RunConfig c;
  c.model = model::Config::preset("tiny-resnet");
  c.model.image_size = 32;
  c.model.d = 16;
  c.model.heads = 2;
  c.model.uni_blocks = 1;
  c.model.dec_blocks = 1;
  c.model.d_a = 12;
  c.model.d_e = 12;
  c.model.grid = 4;
  c.model.image_width = 4;
  c.model.t_findings = 32;
  c.model.t_impression = 16;
  c.model.prototypes = 10;
  c.data = data.string();
  c.vocab_size = 120;
  c.batch = 8;
  c.epochs_stage1 = 2;
  c.epochs_stage2 = 2;
  c.patience = 0;
  c.checkpoint_every = 1;
  return c;
}

}  // namespace hybridmed::test
