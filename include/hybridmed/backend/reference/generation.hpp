#pragma once
// Reference kernels of writing token by token: rows put at places, the best class of each row.
#include <cmath>
#include <limits>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::reference {

struct Generation {
  /// y_{index_r} = the first cols numbers of x_r, whose rows are ldx apart; no index comes twice.
  /// y: rows of cols.
  template <class T>
  static void put_rows(Index rows, Index cols, const T* x, Index ldx, const std::int32_t* index,
                       T* y) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c) y[index[r] * cols + c] = x[r * ldx + c];
  }

  /// Of each row of z (rows, classes): the class of the largest number, of equal ones the first,
  /// and how far it is above the next; infinitely far where there is no other. Where the largest is
  /// not finite, or one is NaN: -1 and NaN.
  template <class T>
  static void best_class(Index rows, Index classes, const T* z, std::int32_t* best,
                         accumulator_of<T>* margin) {
    using A = accumulator_of<T>;
    for (Index r = 0; r < rows; ++r) {
      A top = -std::numeric_limits<A>::infinity(), next = top;
      best[r] = -1;
      bool numbers = true;
      for (Index k = 0; k < classes; ++k) {
        const A x = static_cast<A>(z[r * classes + k]);
        numbers = numbers && !std::isnan(x);
        if (x > top) {
          next = top;
          top = x;
          best[r] = static_cast<std::int32_t>(k);
        } else if (x > next) {
          next = x;
        }
      }
      margin[r] = top - next;
      if (numbers && std::isfinite(top)) continue;
      best[r] = -1;
      margin[r] = std::numeric_limits<A>::quiet_NaN();
    }
  }
};

}  // namespace hybridmed::reference
