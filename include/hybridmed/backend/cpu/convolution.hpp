#pragma once
// CPU kernels: convolution through matrix products. Patches are gathered for a few output rows at a
// time into scratch memory, multiplied, and forgotten; nothing is kept for the backward pass.
#include <algorithm>
#include <cstring>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/workspace.hpp"

namespace hybridmed::cpu {

template <class Gemm, class Executor>
struct Convolution {
  template <class T>
  static void conv2d(const ConvShape& s, const T* x, const T* w, T* y) {
    const Index taps = s.kernel * s.kernel * s.in, ow = s.out_width();
    Executor::for_each(s.batch * bands(s), [&](Index task) {
      const Band b(s, task);
      T* out = y + (b.image * s.out_height() + b.row) * ow * s.out;
      if (pointwise(s)) {
        Gemm::template serial<T>(false, true, b.rows * ow, s.out, s.in, T(1),
                                 x + (b.image * s.height + b.row) * s.width * s.in, s.in, w, s.in,
                                 T(0), out, s.out);
        return;
      }
      const Workspace<T> patches(b.rows * ow * taps);
      gather(s, b, x, patches.data());
      Gemm::template serial<T>(false, true, b.rows * ow, s.out, taps, T(1), patches.data(), taps, w,
                               taps, T(0), out, s.out);
    });
  }

  template <class T>
  static void conv2d_backward_input(const ConvShape& s, const T* dy, const T* w, T* dx) {
    const Index taps = s.kernel * s.kernel * s.in, ow = s.out_width();
    Executor::for_each(s.batch, [&](Index image) {
      T* target = dx + image * s.height * s.width * s.in;
      const T* from = dy + image * s.out_height() * ow * s.out;
      if (pointwise(s)) {
        Gemm::template serial<T>(false, false, s.height * s.width, s.in, s.out, T(1), from, s.out,
                                 w, s.in, T(0), target, s.in);
        return;
      }
      std::fill_n(target, s.height * s.width * s.in, T(0));
      const Workspace<T> patches(band_rows(s) * ow * taps);
      for (Index k = 0; k < bands(s); ++k) {
        const Band b(s, image * bands(s) + k);
        Gemm::template serial<T>(false, false, b.rows * ow, taps, s.out, T(1),
                                 from + b.row * ow * s.out, s.out, w, taps, T(0), patches.data(),
                                 taps);
        each_run(
            s, b,
            [&](Index patch, Index pixel, Index length) {
              T* to = dx + pixel;
              const T* p = patches.data() + patch;
              for (Index c = 0; c < length; ++c) to[c] += p[c];
            },
            [](Index, Index) {});
      }
    });
  }

  /// dw is accumulated; fixed groups of images are summed apart and then in order.
  template <class T>
  static void conv2d_backward_weight(const ConvShape& s, const T* x, const T* dy, T* dw) {
    const Index taps = s.kernel * s.kernel * s.in, ow = s.out_width(), n = s.out * taps,
                groups = std::min<Index>(8, s.batch);
    const Workspace<T> parts(groups * n);
    Executor::for_each(groups, [&](Index group) {
      T* sum = parts.data() + group * n;
      std::fill_n(sum, n, T(0));
      const Workspace<T> patches(band_rows(s) * ow * taps);
      for (Index image = group * s.batch / groups; image < (group + 1) * s.batch / groups; ++image)
        for (Index k = 0; k < bands(s); ++k) {
          const Band b(s, image * bands(s) + k);
          const T* from = dy + (image * s.out_height() + b.row) * ow * s.out;
          const T* source = patches.data();
          if (pointwise(s))
            source = x + (image * s.height + b.row) * s.width * s.in;
          else
            gather(s, b, x, patches.data());
          Gemm::template serial<T>(true, false, s.out, taps, b.rows * ow, T(1), from, s.out, source,
                                   taps, T(1), sum, taps);
        }
    });
    for (Index i = 0; i < n; ++i) {
      double t = 0;
      for (Index group = 0; group < groups; ++group) t += static_cast<double>(parts[group * n + i]);
      dw[i] += static_cast<T>(t);
    }
  }

 private:
  static bool pointwise(const ConvShape& s) { return s.kernel == 1 && s.stride == 1 && s.pad == 0; }
  /// Output rows per band: about 256 kB of patches.
  static Index band_rows(const ConvShape& s) {
    return std::clamp<Index>(65536 / (s.out_width() * s.kernel * s.kernel * s.in), 1,
                             s.out_height());
  }
  static Index bands(const ConvShape& s) {
    return (s.out_height() + band_rows(s) - 1) / band_rows(s);
  }

  struct Band {
    Index image, row, rows;
    Band(const ConvShape& s, Index task)
        : image(task / bands(s)),
          row(task % bands(s) * band_rows(s)),
          rows((std::min)(band_rows(s), s.out_height() - row)) {}
  };

  /// f(patch offset, pixel offset, length) for every contiguous run inside the image; g(patch
  /// offset, length) for padding.
  template <class F, class G>
  static void each_run(const ConvShape& s, const Band& b, F&& f, G&& g) {
    const Index taps = s.kernel * s.kernel * s.in;
    for (Index i = 0; i < b.rows; ++i)
      for (Index j = 0; j < s.out_width(); ++j) {
        const Index patch = (i * s.out_width() + j) * taps, x0 = j * s.stride - s.pad;
        const Index left = std::clamp<Index>(-x0, 0, s.kernel),
                    right =
                        std::clamp<Index>(s.width - x0, left, s.kernel);  // taps inside the image
        for (Index u = 0; u < s.kernel; ++u) {
          const Index y = (b.row + i) * s.stride + u - s.pad, at = patch + u * s.kernel * s.in;
          if (y < 0 || y >= s.height) {
            g(at, s.kernel * s.in);
            continue;
          }
          if (left > 0) g(at, left * s.in);
          f(at + left * s.in, ((b.image * s.height + y) * s.width + x0 + left) * s.in,
            (right - left) * s.in);
          if (right < s.kernel) g(at + right * s.in, (s.kernel - right) * s.in);
        }
      }
  }
  template <class T>
  static void gather(const ConvShape& s, const Band& b, const T* x, T* patches) {
    each_run(
        s, b,
        [&](Index patch, Index pixel, Index length) {
          std::memcpy(patches + patch, x + pixel, static_cast<std::size_t>(length) * sizeof(T));
        },
        [&](Index patch, Index length) { std::fill_n(patches + patch, length, T(0)); });
  }
};

}  // namespace hybridmed::cpu
