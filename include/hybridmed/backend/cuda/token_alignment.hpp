#pragma once
// CUDA kernels of the token-wise contrast within samples; backend/reference/token_alignment.hpp
// says what each computes. Instantiated for float and double.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

/// Some samples at a time: a scratch matrix, which has one row for each of their anchors, has at
/// most `tile` elements, but always those of one sample. There are 3 of them, 5 in the backward
/// pass.
struct TokenAlignment {
  static constexpr Index tile = Index{1} << 23;

  template <class T>
  static void token_alignment(const TokenArgs<T>& a, T* loss, Index tile = TokenAlignment::tile);
  /// dp and dw are accumulated; either may be null.
  template <class T>
  static void token_alignment_backward(const TokenArgs<T>& a, const T* upstream, T* dp, T* dw,
                                       Index tile = TokenAlignment::tile);

  /// The bytes of scratch memory that the two take.
  template <class T>
  static std::size_t token_alignment_scratch(const TokenArgs<T>& a, bool backward,
                                             Index tile = TokenAlignment::tile);
};

}  // namespace hybridmed::cuda
