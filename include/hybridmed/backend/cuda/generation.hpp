#pragma once
// CUDA kernels of writing token by token; backend/reference/generation.hpp says what each computes.
// Instantiated for float, double and bf16.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Generation {
  template <class T>
  static void put_rows(Index rows, Index cols, const T* x, Index ldx, const std::int32_t* index,
                       T* y);
  template <class T>
  static void best_class(Index rows, Index classes, const T* z, std::int32_t* best,
                         accumulator_of<T>* margin);
};

}  // namespace hybridmed::cuda
