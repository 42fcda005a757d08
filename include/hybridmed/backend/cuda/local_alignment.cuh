#pragma once
// Local alignment, what the exact kernels and those on tensor cores share: how the work is cut into
// tiles, and what becomes of a word and an image when their scores are made. Never included by a
// host compiler.
#include <algorithm>
#include <vector>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda::local {

/// The texts of a tile. Their columns are counted from the first one's.
struct Texts {
  const std::int32_t *offsets, *columns;  // (texts of the call + 1), device; see Plan
  Index first, count, before;
  __device__ Index begin(Index text) const { return columns[first + text] - before; }
  __device__ Index words(Index text) const {
    return offsets[first + text + 1] - offsets[first + text];
  }
};

/// How the work is cut.
struct Plan {
  static constexpr Index least_words = 512, most_images = 65535;  // of a grid's second extent
  std::vector<std::int32_t> columns;  // where each text begins: behind the one before it
  Index block_words;
  Index images = 1;  // of a tile
  Index widest = 0;  // columns of the largest tile

  /// Texts begin at multiples of `spacing`. `per_image`: numbers of an image besides its words'
  /// that keep to the same limit. `words`: of a tile, about.
  template <class T>
  Plan(const LocalArgs<T>& a, Index tile, Index spacing, Index per_image, Index words = least_words)
      : columns(static_cast<std::size_t>(a.texts + 1)), block_words(words) {
    Index at = 0;
    for (Index i = 0; i < a.texts; ++i) {
      at += (a.offsets[i + 1] - a.offsets[i] + spacing - 1) / spacing * spacing;
      columns[static_cast<std::size_t>(i + 1)] = static_cast<std::int32_t>(at);
    }
    each_block(a, [&](Index first, Index last) {
      widest = std::max<Index>(widest, column(last) - column(first));
    });
    const Index of_image = std::max(a.regions * widest, per_image);
    images = std::clamp<Index>(of_image > 0 ? tile / of_image : tile, 1,
                               std::max<Index>(1, std::min(a.images, most_images)));
  }
  Index column(Index text) const { return columns[static_cast<std::size_t>(text)]; }
  /// Calls f(first text, last text) for runs of texts of at most block_words words, or one text.
  template <class T, class F>
  void each_block(const LocalArgs<T>& a, F&& f) const {
    for (Index first = 0; first < a.texts;) {
      Index last = first + 1;
      while (last < a.texts && a.offsets[last + 1] - a.offsets[first] <= block_words) ++last;
      f(first, last);
      first = last;
    }
  }
};

/// Of every image and word of a tile, (images, columns): what scores are made of, and their
/// gradients.
struct WordSums {
  double *rho, *dot, *length, *dnorm;  // length: |c|, dnorm: d|w| / |w|
};

/// What the sums over the regions say of an image and a word: dot is <w, c>, square |c|^2. `dot`
/// and `length` of `to` may be null.
inline __device__ void relevance(const WordSums& to, Index at, double gamma2, double dot,
                                 double square, double word_norm) {
  // Rounding may take a length below 0; an overflow is no length.
  const double c = isfinite(square) ? sqrt(max(square, 0.0)) : static_cast<double>(NAN),
               product = c * word_norm;
  to.rho[at] = gamma2 * dot / (product <= 1e-8 ? 1e-8 : product);
  if (to.dot) to.dot[at] = dot;
  if (to.length) to.length[at] = c;
}

/// z of some images and texts, rows of ldz, from rho.
template <class T>
void scores(Context::State& c, const char* operation, Index images, Index columns,
            const Texts& texts, LocalAggregation aggregation, const double* rho, T* z, Index ldz);
/// From dz to the gradients of <w, c>, of |c|^2 and of |w| (divided by |w|).
template <class T>
void scores_backward(Context::State& c, const char* operation, Index images, Index columns,
                     const Texts& texts, LocalAggregation aggregation, T gamma2, const T* dz,
                     Index ldz, const WordSums& sums, const double* word_norm, T* ddot, T* dsquare);

/// Are products to be made on tensor cores? A share of attention is at least exp(-|gamma1|) of
/// another, and its square must remain a number of float.
template <class T>
bool on_tensor_cores(const LocalArgs<T>& a) {
  return std::is_same_v<T, float> && a.half_products && a.regions > 0 && a.dim > 0 &&
         a.gamma1 >= -32 && a.gamma1 <= 32;
}
void scores_bf16(const LocalArgs<float>& a, float* z, Index tile);
void scores_bf16_backward(const LocalArgs<float>& a, const float* dz, float* dp, float* dw,
                          Index tile);
std::size_t scratch_bf16(const LocalArgs<float>& a, bool backward, Index tile);

}  // namespace hybridmed::cuda::local
