#pragma once
// Batches from host memory into that of a backend.
#include "hybridmed/data/dataset.hpp"
#include "hybridmed/model/hybridmed.hpp"

namespace hybridmed::train {

/// Grey images (B, S, S) as the three equal channels that encoders read: (B, 3, S, S).
template <class T, class B>
Tensor<T, B> upload_images(const xt::xtensor<float, 3>& grey) {
  if (grey.shape()[1] != grey.shape()[2])
    fail("train", "upload_images",
         "expected square images (B, S, S), got (" + std::to_string(grey.shape()[0]) + ", " +
             std::to_string(grey.shape()[1]) + ", " + std::to_string(grey.shape()[2]) + ")");
  const auto batch = static_cast<Index>(grey.shape()[0]),
             side = static_cast<Index>(grey.shape()[1]), plane = side * side;
  ArenaVector<T> values(static_cast<std::size_t>(batch * 3 * plane));
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < 3; ++c)
      for (Index i = 0; i < plane; ++i)
        values[static_cast<std::size_t>((b * 3 + c) * plane + i)] =
            static_cast<T>(grey.data()[b * plane + i]);
  return Tensor<T, B>::from_host(std::span<const T>(values.data(), values.size()),
                                 {batch, 3, side, side});
}

/// The batch in backend memory. `planner`: a model or a system, for its plan().
template <class T, class B, class Planner>
model::Batch<T, B> upload(const data::HostBatch& b, const Planner& planner) {
  return {b.images.size() ? upload_images<T, B>(b.images) : Tensor<T, B>(),
          planner.plan(b.findings_view(), b.impression_view(), b.keys)};
}

}  // namespace hybridmed::train
