#pragma once
// The reference backend: naive loops with double accumulation. Every other backend is tested
// against it.
#include "hybridmed/backend/reference/attention.hpp"
#include "hybridmed/backend/reference/convolution.hpp"
#include "hybridmed/backend/reference/elementwise.hpp"
#include "hybridmed/backend/reference/generation.hpp"
#include "hybridmed/backend/reference/linear_algebra.hpp"
#include "hybridmed/backend/reference/local_alignment.hpp"
#include "hybridmed/backend/reference/losses.hpp"
#include "hybridmed/backend/reference/rows.hpp"
#include "hybridmed/backend/reference/token_alignment.hpp"
#include "hybridmed/backend/widened.hpp"
#include "hybridmed/core/host.hpp"

namespace hybridmed {

namespace reference {
/// In float and double.
struct Kernels : Host,
                 Elementwise,
                 Rows,
                 LinearAlgebra,
                 Attention,
                 Convolution,
                 Losses,
                 LocalAlignment,
                 TokenAlignment,
                 Generation {};
}  // namespace reference

struct Reference : Widened<reference::Kernels> {
  static constexpr const char* name = "reference";
};

}  // namespace hybridmed
