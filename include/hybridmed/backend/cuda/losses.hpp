#pragma once
// CUDA kernels of the objectives over classes and over pairs; backend/reference/losses.hpp says
// what each computes. Instantiated for float and double. A forward pass reads its rows once. Sums
// run in an order that depends on the extents alone.
#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::cuda {

struct Losses {
  /// A target that is no class gives NaN. `top` (rows), or null: the largest logit of each row. A
  /// gradient that is given it reads the row once, and else twice.
  template <class T>
  static void cross_entropy(Index rows, Index classes, const T* z, const std::int32_t* target,
                            double smoothing, T* loss, T* lse, T* top = nullptr);
  template <class T>
  static void cross_entropy_backward(Index rows, Index classes, const T* z,
                                     const std::int32_t* target, double smoothing, const T* lse,
                                     const T* upstream, bool accumulate, T* dz,
                                     const T* top = nullptr);

  /// top_s and top_t, both or none: as `top`.
  template <class T>
  static void distillation(Index rows, Index classes, const T* student, const T* teacher,
                           double tau, T* loss, T* lse_s, T* lse_t, T* top_s = nullptr,
                           T* top_t = nullptr);
  template <class T>
  static void distillation_backward(Index rows, Index classes, const T* student, const T* teacher,
                                    double tau, const T* lse_s, const T* lse_t, const T* upstream,
                                    bool accumulate, T* dstudent, const T* top_s = nullptr,
                                    const T* top_t = nullptr);

  template <class T>
  static void soft_cross_entropy(Index rows, Index classes, const T* z, const T* target, double tau,
                                 T* loss, T* lse);
  template <class T>
  static void soft_cross_entropy_backward(Index rows, Index classes, const T* z, const T* target,
                                          double tau, const T* lse, const T* upstream,
                                          bool accumulate, T* dz);

  template <class T>
  static void sinkhorn(Index rows, Index cols, const T* scores, double eps, Index iterations, T* q);

  template <class T>
  static void symmetric_cross_entropy(Index n, const T* s, const std::int32_t* keys,
                                      double smoothing, double row_weight, double column_weight,
                                      T* loss, T* ds);
};

}  // namespace hybridmed::cuda
