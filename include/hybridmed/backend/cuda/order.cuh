#pragma once
// Source rows in the order of their targets: what sums by target need so that neither atomics nor
// the host decide an order.
#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

/// What a kernel sees of the order. How many rows count and where the order lies is known only when
/// it runs.
struct TargetOrder {
  const std::int32_t *both_targets, *both_sources;  // (2, rows), one of them the order's
  const std::int32_t* state;  // count, then which of the two holds the order before each pass
  Index rows;

  static constexpr int passes = 4, last = 1 + passes;
  __device__ Index count() const { return state[0]; }
  /// (count), ascending; negative ones are no targets.
  __device__ const std::int32_t* targets() const { return both_targets + state[last] * rows; }
  /// (count), ascending where targets are equal.
  __device__ const std::int32_t* sources() const { return both_sources + state[last] * rows; }
};

/// Orders rows by target; the memory lives as long as this.
class InTargetOrder {
 public:
  InTargetOrder(Context::State& context, Index rows, const std::int32_t* index,
                const char* operation);
  const TargetOrder& order() const { return order_; }

 private:
  Scratch<std::int32_t> memory_;
  TargetOrder order_;
};

}  // namespace hybridmed::cuda
