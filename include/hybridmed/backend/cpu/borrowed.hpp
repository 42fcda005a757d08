#pragma once
// What the CPU backend has not made itself and takes from the reference as it is: one thread, sums
// in double. Cpu<> inherits this list, not the reference: a kernel that stands neither here nor in
// another file of this folder is missing. One that is made here leaves the list.
#include "hybridmed/backend/reference/convolution.hpp"
#include "hybridmed/backend/reference/elementwise.hpp"
#include "hybridmed/backend/reference/generation.hpp"
#include "hybridmed/backend/reference/losses.hpp"
#include "hybridmed/backend/reference/rows.hpp"

namespace hybridmed::cpu {

using reference::act_derivative;  // of gelu_tanh

struct Borrowed {
  template <class T>
  static void scale_by(Index n, const T* alpha, const T* x, T* y) {
    reference::Elementwise::scale_by(n, alpha, x, y);
  }
  template <class T>
  static void dot(Index n, T alpha, const T* a, const T* b, T* y) {
    reference::Elementwise::dot(n, alpha, a, b, y);
  }
  template <class T>
  static void clamp(Index n, T low, T high, T* y) {
    reference::Elementwise::clamp(n, low, high, y);
  }
  template <class T>
  static void reciprocal_sqrt(Index n, const T* x, T eps, T* y) {
    reference::Elementwise::reciprocal_sqrt(n, x, eps, y);
  }

  template <class T>
  static void normalize_rows(Index rows, Index cols, const T* x, T* y, T* norm) {
    reference::Rows::normalize_rows(rows, cols, x, y, norm);
  }
  template <class T>
  static void normalize_rows_backward(Index rows, Index cols, const T* y, const T* norm,
                                      const T* dy, T* dx) {
    reference::Rows::normalize_rows_backward(rows, cols, y, norm, dy, dx);
  }

  static void repeat_indices(Index count, const std::int32_t* first, Index repeats, Index period,
                             std::int32_t* y) {
    reference::Rows::repeat_indices(count, first, repeats, period, y);
  }

  template <class T>
  static void max_pool(const ConvShape& s, const T* x, T* y, std::int32_t* where) {
    reference::Convolution::max_pool(s, x, y, where);
  }
  template <class T>
  static void max_pool_backward(const ConvShape& s, const T* dy, const std::int32_t* where, T* dx) {
    reference::Convolution::max_pool_backward(s, dy, where, dx);
  }

  template <class T>
  static void symmetric_cross_entropy(Index n, const T* s, const std::int32_t* keys,
                                      double smoothing, double row_weight, double column_weight,
                                      T* loss, T* ds) {
    reference::Losses::symmetric_cross_entropy(n, s, keys, smoothing, row_weight, column_weight,
                                               loss, ds);
  }

  template <class T>
  static void put_rows(Index rows, Index cols, const T* x, Index ldx, const std::int32_t* index,
                       T* y) {
    reference::Generation::put_rows(rows, cols, x, ldx, index, y);
  }
  template <class T>
  static void best_class(Index rows, Index classes, const T* z, std::int32_t* best,
                         accumulator_of<T>* margin) {
    reference::Generation::best_class(rows, classes, z, best, margin);
  }
};

}  // namespace hybridmed::cpu
