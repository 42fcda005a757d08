#include "hybridmed/backend/cuda/rows.hpp"

#include "hybridmed/backend/cuda/column_pass.cuh"
#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

namespace {

/// Reads x, whose columns are added up.
template <class T>
struct ReadRows {
  using accumulator = accumulator_of<T>;
  Index cols;
  const T* x;

  template <int w>
  __device__ Pack<accumulator, w> at(Index r, Index c) const {
    return widen(*reinterpret_cast<const Pack<T, w>*>(x + r * cols + c));
  }
};

}  // namespace

template <class T>
void Rows::add_vector(Index rows, Index cols, const T* x, const accumulator_of<T>* v, T* y) {
  current_for<T>("add_vector");
  for_each(rows * cols, "add_vector",
           [=] __device__(Index i) { y[i] = narrow<T>(widen(x[i]) + v[i % cols]); });
}
template <class T>
void Rows::column_sum(Index rows, Index cols, const T* x, accumulator_of<T>* y) {
  current_for<T>("column_sum");
  if (rows <= 0 || cols <= 0) return;
  by_packs<T>(cols, {x}, [&]<class P>(P, Index) {
    column_pass<P::size>(rows, cols, "column_sum", ReadRows<T>{cols, x}, y, true);
  });
}
void Rows::repeat_indices(Index count, const std::int32_t* first, Index repeats, Index period,
                          std::int32_t* y) {
  for_each(count * repeats, "repeat_indices", [=] __device__(Index i) {
    const std::int32_t at = first[i % count];
    y[i] = at < 0 ? at : at + static_cast<std::int32_t>(i / count * period);
  });
}

template <class T>
void Rows::transpose(Index batch, Index rows, Index cols, const T* x, T* y) {
  current_for<T>("transpose");
  for_each(batch * rows * cols, "transpose", [=] __device__(Index i) {
    const Index r = i % rows, c = i / rows % cols, b = i / rows / cols;
    y[i] = x[(b * rows + r) * cols + c];
  });
}

#define HYBRIDMED_INSTANTIATE(T)                                                        \
  template void Rows::add_vector(Index, Index, const T*, const accumulator_of<T>*, T*); \
  template void Rows::column_sum(Index, Index, const T*, accumulator_of<T>*);           \
  template void Rows::transpose(Index, Index, Index, const T*, T*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
