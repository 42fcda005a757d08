#pragma once
// A backend that computes nothing: it notes what the CUDA backend would launch for each call, what
// that moves and what it computes. Its memory is addresses and nothing else, so that a step of any
// size is recorded in a moment. What a kernel moves beyond each input and output once stands at its
// call, as in the .cu file of that name; the test cuda_bytes compares it with what a counting build
// of the kernels counts.
#include "elements.hpp"
#include "layers.hpp"
#include "losses.hpp"
#include "notes.hpp"
#include "rows.hpp"

namespace hybridmed::roofline {

struct Recorder : Addresses, Elements, Layers, Rows, Losses {
  static constexpr const char* name = "recorder";
};

}  // namespace hybridmed::roofline
