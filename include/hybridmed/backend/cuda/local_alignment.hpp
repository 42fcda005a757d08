#pragma once
// CUDA kernels of attention-pooled local alignment; backend/reference/local_alignment.hpp says what
// each computes. Instantiated for float and double.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

/// No tensor has an element for each image, text, word and region at once: some images meet the
/// words of some texts at a time, and a matrix of such a tile, (images, regions, words), has at
/// most `tile` elements, but always one image and one text. There are 3 of them, 4 in the backward
/// pass, and 1 or 2 of (images, regions, regions), which keep to the same limit.
struct LocalAlignment {
  static constexpr Index tile = Index{1} << 23;

  template <class T>
  static void local_scores(const LocalArgs<T>& a, T* z, Index tile = LocalAlignment::tile);
  /// dp and dw are accumulated; either may be null.
  template <class T>
  static void local_scores_backward(const LocalArgs<T>& a, const T* dz, T* dp, T* dw,
                                    Index tile = LocalAlignment::tile);

  /// The bytes of scratch memory that the two take.
  template <class T>
  static std::size_t local_scores_scratch(const LocalArgs<T>& a, bool backward,
                                          Index tile = LocalAlignment::tile);
};

}  // namespace hybridmed::cuda
