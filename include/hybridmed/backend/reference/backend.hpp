#pragma once
// The reference backend: naive loops with double accumulation. Every other backend is tested
// against it.
#include "hybridmed/backend/reference/attention.hpp"
#include "hybridmed/backend/reference/convolution.hpp"
#include "hybridmed/backend/reference/elementwise.hpp"
#include "hybridmed/backend/reference/linear_algebra.hpp"
#include "hybridmed/backend/reference/local_alignment.hpp"
#include "hybridmed/backend/reference/losses.hpp"
#include "hybridmed/backend/reference/rows.hpp"
#include "hybridmed/backend/reference/token_alignment.hpp"
#include "hybridmed/core/host.hpp"

namespace hybridmed {

struct Reference : Host,
                   reference::Elementwise,
                   reference::Rows,
                   reference::LinearAlgebra,
                   reference::Attention,
                   reference::Convolution,
                   reference::Losses,
                   reference::LocalAlignment,
                   reference::TokenAlignment {
  static constexpr const char* name = "reference";
};

}  // namespace hybridmed
