#pragma once
// Reference kernels: convolution and max-pooling, channels last.
#include <limits>
#include <vector>

#include "hybridmed/backend/arguments.hpp"

namespace hybridmed::reference {

struct Convolution {
  template <class T>
  static void conv2d(const ConvShape& s, const T* x, const T* w, T* y) {
    each_output(s, [&](Index b, Index i, Index j, Index o, Index at) {
      double sum = 0;
      each_tap(s, b, i, j, o, [&](Index xi, Index wi) {
        sum += static_cast<double>(x[xi]) * static_cast<double>(w[wi]);
      });
      y[at] = static_cast<T>(sum);
    });
  }
  /// dx is overwritten.
  template <class T>
  static void conv2d_backward_input(const ConvShape& s, const T* dy, const T* w, T* dx) {
    std::vector<double> sum(static_cast<std::size_t>(s.batch * s.height * s.width * s.in));
    each_output(s, [&](Index b, Index i, Index j, Index o, Index at) {
      each_tap(s, b, i, j, o, [&](Index xi, Index wi) {
        sum[static_cast<std::size_t>(xi)] +=
            static_cast<double>(dy[at]) * static_cast<double>(w[wi]);
      });
    });
    for (std::size_t i = 0; i < sum.size(); ++i) dx[i] = static_cast<T>(sum[i]);
  }
  /// dw is accumulated.
  template <class T>
  static void conv2d_backward_weight(const ConvShape& s, const T* x, const T* dy, T* dw) {
    std::vector<double> sum(static_cast<std::size_t>(s.out * s.kernel * s.kernel * s.in));
    each_output(s, [&](Index b, Index i, Index j, Index o, Index at) {
      each_tap(s, b, i, j, o, [&](Index xi, Index wi) {
        sum[static_cast<std::size_t>(wi)] +=
            static_cast<double>(dy[at]) * static_cast<double>(x[xi]);
      });
    });
    for (std::size_t i = 0; i < sum.size(); ++i) dw[i] += static_cast<T>(sum[i]);
  }
  /// Max over each window (s.in == s.out channels); `where` keeps the flat input index of each
  /// maximum. NaN is passed on.
  /// @throws Error where a map has more places than 32 bits tell apart.
  template <class T>
  static void max_pool(const ConvShape& s, const T* x, T* y, std::int32_t* where) {
    const Index oh = s.out_height(), ow = s.out_width(), image = s.height * s.width * s.in;
    if (image > 0 && s.batch > (std::numeric_limits<std::int32_t>::max)() / image)
      fail("backend", "max_pool",
           "a map of " + std::to_string(s.batch) + " x " + std::to_string(s.height) + " x " +
               std::to_string(s.width) + " x " + std::to_string(s.in) +
               " has more places than 32 bits tell apart",
           "a smaller batch or image");
    for (Index b = 0; b < s.batch; ++b)
      for (Index i = 0; i < oh; ++i)
        for (Index j = 0; j < ow; ++j)
          for (Index c = 0; c < s.in; ++c) {
            T best = -std::numeric_limits<T>::infinity();
            Index at = -1;
            for (Index u = 0; u < s.kernel; ++u)
              for (Index v = 0; v < s.kernel; ++v) {
                const Index yy = i * s.stride + u - s.pad, xx = j * s.stride + v - s.pad;
                if (yy < 0 || yy >= s.height || xx < 0 || xx >= s.width) continue;
                const Index k = ((b * s.height + yy) * s.width + xx) * s.in + c;
                if (x[k] > best || x[k] != x[k] || at < 0) {
                  best = x[k];
                  at = k;
                }
              }
            const Index k = ((b * oh + i) * ow + j) * s.in + c;
            y[k] = best;
            where[k] = static_cast<std::int32_t>(at);
          }
  }
  /// dx_{where_i} += dy_i, where_i being a place in window i.
  template <class T>
  static void max_pool_backward(const ConvShape& s, const T* dy, const std::int32_t* where, T* dx) {
    const Index n = s.batch > 0 ? s.batch * s.out_height() * s.out_width() * s.in : 0;
    for (Index i = 0; i < n; ++i) dx[where[i]] += dy[i];
  }

 private:
  template <class F>
  static void each_output(const ConvShape& s, F&& f) {
    Index at = 0;
    for (Index b = 0; b < s.batch; ++b)
      for (Index i = 0; i < s.out_height(); ++i)
        for (Index j = 0; j < s.out_width(); ++j)
          for (Index o = 0; o < s.out; ++o) f(b, i, j, o, at++);
  }
  template <class F>
  static void each_tap(const ConvShape& s, Index b, Index i, Index j, Index o, F&& f) {
    for (Index u = 0; u < s.kernel; ++u)
      for (Index v = 0; v < s.kernel; ++v) {
        const Index y = i * s.stride + u - s.pad, x = j * s.stride + v - s.pad;
        if (y < 0 || y >= s.height || x < 0 || x >= s.width) continue;
        for (Index c = 0; c < s.in; ++c)
          f(((b * s.height + y) * s.width + x) * s.in + c,
            ((o * s.kernel + u) * s.kernel + v) * s.in + c);
      }
  }
};

}  // namespace hybridmed::reference
