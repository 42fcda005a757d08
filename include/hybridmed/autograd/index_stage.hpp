#pragma once
// Index tensors of a batch reach the backend in one copy.
#include <vector>

#include "hybridmed/autograd/variable.hpp"

namespace hybridmed {

/// Collects host numbers for several index tensors; `upload` makes all of them views of one block.
template <class B>
class IndexStage {
 public:
  /// `target` must stay where it is until upload().
  void add(std::span<const std::int32_t> numbers, const Shape& shape, IndexTensor<B>& target) {
    slots_.push_back({&target, static_cast<Index>(all_.size()), shape});
    all_.insert(all_.end(), numbers.begin(), numbers.end());
  }
  void add(std::span<const std::int32_t> numbers, IndexTensor<B>& target) {
    add(numbers, {static_cast<Index>(numbers.size())}, target);
  }
  /// Returns the block.
  IndexTensor<B> upload() {
    const auto n = static_cast<Index>(all_.size());
    const auto block = IndexTensor<B>::from_host({all_.data(), all_.size()}, {n, 1});
    for (const Slot& s : slots_)
      *s.target = block.row_slice(s.begin, s.begin + s.shape.size()).view(s.shape);
    slots_.clear();
    all_.clear();
    return block;
  }

 private:
  struct Slot {
    IndexTensor<B>* target;
    Index begin;
    Shape shape;
  };
  ArenaVector<std::int32_t> all_;
  ArenaVector<Slot> slots_;
};

}  // namespace hybridmed
