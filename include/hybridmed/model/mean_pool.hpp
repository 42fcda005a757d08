#pragma once
// Global average pooling of a feature map.
#include "hybridmed/autograd/rows.hpp"

namespace hybridmed::model {

/// The matrix that averages `inputs` rows into one.
template <class T, class B>
RowMixing<T, B> mean_of_rows(Index inputs) {
  return RowMixing<T, B>(
      1, inputs,
      std::vector<double>(static_cast<std::size_t>(inputs), 1.0 / static_cast<double>(inputs)));
}

}  // namespace hybridmed::model
