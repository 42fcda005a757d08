#pragma once
// The update of all parameters at once, in float and double: one launch and a short sum for the
// gradient norm, one for AdamW, however many parameters there are.
#include <cstddef>
#include <span>
#include <vector>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/backend/cuda/memory.hpp"
#include "hybridmed/core/tensor.hpp"

namespace hybridmed::cuda {

/// Where the tensors of an update lie: a table in device memory, brought there when it changes. A
/// copy is empty. Used in the context that is current at assign().
template <class T>
class AdamWList {
 public:
  AdamWList() = default;
  AdamWList(const AdamWList&) {}
  AdamWList(AdamWList&&) = default;
  AdamWList& operator=(AdamWList o) {
    std::swap(tensors_, o.tensors_);
    std::swap(table_, o.table_);
    chunks_ = o.chunks_;
    recorded_ = o.recorded_;
    return *this;
  }
  /// @throws Error where the device refuses.
  void assign(std::span<const AdamWTensor<T>> tensors);

 private:
  friend struct Update;
  std::vector<AdamWTensor<T>> tensors_;  // what the table holds
  Tensor<std::byte, Memory> table_;
  Index chunks_ = 0;
  bool recorded_ = false;  // does the table belong to a step that is recorded?
};

struct Update {
  template <class T>
  using AdamWList = cuda::AdamWList<T>;

  /// Adds the squares of all gradients to the sums of `state`, in double and in an order that
  /// depends on the extents alone; a loss (one element, or null) that is not finite makes them NaN.
  template <class T>
  static void gradient_norm(const AdamWList<T>& list, const T* loss, StepState* state);
  /// AdamW with clipping of every tensor, and the bf16 copies of those that want one.
  template <class T>
  static void adamw(const AdamWList<T>& list, const AdamWArgs& a);
  /// The same of one tensor, with the decay of `a`.
  template <class T>
  static void adamw(Index n, const AdamWArgs& a, const T* g, T* m, T* v, T* p);
};

}  // namespace hybridmed::cuda
