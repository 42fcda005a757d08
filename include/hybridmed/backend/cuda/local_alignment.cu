// Local alignment scores (method 4.2a) without the pooled vectors c, in the form of
// backend/cpu/local_alignment.hpp: rho needs c only through <w, c> = sum_n a2 s and
// |c|^2 = a2^T (P P^T) a2, so one Gram matrix an image replaces (words, dim) of each pair.
//
// A tile is some images times the words of some texts, (images, regions, words) in memory, the
// words running fastest:
//   s   scores, one product                      -> in the backward pass their gradient
//   a1  softmax of s over the words of a text    one warp for a region and a text
//   a2  softmax of gamma1 a1 over the regions    32 words times 8 slices of regions a block
//   ga  Gram matrix times a2, one product        -> in the backward pass a2 d|c|^2
// Then sums over the regions give rho of an image and a word, and sums over the words of a text Z.
#include <algorithm>
#include <cstddef>

#include "hybridmed/backend/cuda/local_alignment.cuh"
#include "hybridmed/backend/cuda/local_alignment.hpp"
#include "hybridmed/backend/cuda/log_sum.cuh"
#include "hybridmed/backend/cuda/pieces.cuh"
#include "hybridmed/backend/cuda/products.hpp"

namespace hybridmed::cuda {

namespace {

using local::Plan;
using local::Texts;
using local::WordSums;

/// Scratch memory of a call, all of it.
template <class T>
struct Buffers {
  std::size_t bytes;
  std::int32_t* offsets;  // (texts + 1)
  T *gram, *dgram;        // (images, regions, regions)
  T *s, *a1, *a2, *ga;    // (images, regions, words)
  double* word_norm;      // (words of all texts)
  WordSums sums;          // (images, words)
  T *ddot, *dsquare;      // (images, words)

  Buffers(const LocalArgs<T>& a, const Plan& plan, bool backward, std::byte* memory) {
    Pieces pieces(memory);
    const Index matrix = plan.images * a.regions * plan.widest,
                square = plan.images * a.regions * a.regions, row = plan.images * plan.widest,
                more = backward ? 1 : 0;
    pieces.take(offsets, a.texts + 1);
    pieces.take(gram, square);
    pieces.take(dgram, more * square);
    pieces.take(s, matrix);
    pieces.take(a1, matrix);
    pieces.take(a2, more * matrix);
    if (!backward) a2 = a1;
    pieces.take(ga, matrix);
    pieces.take(word_norm, a.offsets[a.texts]);
    pieces.take(sums.rho, row);
    pieces.take(sums.dot, more * row);
    pieces.take(sums.length, more * row);
    pieces.take(sums.dnorm, more * row);
    pieces.take(ddot, more * row);
    pieces.take(dsquare, more * row);
    bytes = pieces.bytes();
  }
};

/// y (r) = |x_r|, one warp a row.
template <class T>
__global__ void __launch_bounds__(block_size)
    row_norm_kernel(Index rows, Index cols, const T* x, double* y) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{block_warps}) {
    double s = 0;
    for (Index c = lane; c < cols; c += warp_size)
      s += wide(x[r * cols + c]) * wide(x[r * cols + c]);
    s = warp_sum(s);
    if (lane == 0) y[r] = sqrt(s);
  }
}

/// a1 from s, one warp for a row (image and region) and a text.
template <class T>
__global__ void __launch_bounds__(block_size)
    attend_words_kernel(Index rows, Index words, Texts texts, const T* s, T* a1) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index k = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; k < rows * texts.count;
       k += gridDim.x * Index{block_warps}) {
    const Index text = k % texts.count, begin = texts.begin(text),
                first = k / texts.count * words + begin;
    warp_softmax(lane, texts.words(text), s + first, a1 + first);
  }
}

/// a2 from a1, which it may replace.
template <class T>
__global__ void __launch_bounds__(block_size)
    attend_regions_kernel(Index regions, Index words, T gamma1, const T* a1, T* a2) {
  __shared__ T shared[slices][warp_size];
  __shared__ double shared_wide[slices][warp_size];
  const Index t = blockIdx.x * Index{warp_size} + threadIdx.x, image = blockIdx.y * regions * words;
  const Index last = t < words ? regions : 0;
  a1 += image + t;
  a2 += image + t;
  T top = -INFINITY;
  for (Index n = threadIdx.y; n < last; n += slices) top = max(top, a1[n * words]);
  top = slice_max(top, shared);
  double sum = 0;
  for (Index n = threadIdx.y; n < last; n += slices)
    sum += wide(a2[n * words] = exp(gamma1 * (a1[n * words] - top)));
  const T share = static_cast<T>(1 / slice_sum(sum, shared_wide));
  for (Index n = threadIdx.y; n < last; n += slices) a2[n * words] *= share;
}

/// What a word and an image have to do with each other.
template <class T>
__global__ void __launch_bounds__(block_size)
    relevance_kernel(Index regions, Index words, T gamma2, const T* s, const T* a2, const T* ga,
                     const double* word_norm, const WordSums sums) {
  __shared__ double shared[slices][warp_size];
  const Index t = blockIdx.x * Index{warp_size} + threadIdx.x;
  const Index last = t < words ? regions : 0;
  double along = 0, square = 0;
  Index at = (blockIdx.y * regions + threadIdx.y) * words + t;
#pragma unroll 2  // by four, registers spill
  for (Index n = threadIdx.y; n < last; n += slices, at += slices * words) {
    along += wide(s[at]) * wide(a2[at]);
    square += wide(ga[at]) * wide(a2[at]);
  }
  along = slice_sum(along, shared);
  square = slice_sum(square, shared);
  if (threadIdx.y != 0 || t >= words) return;
  local::relevance(sums, blockIdx.y * words + t, wide(gamma2), along, square, word_norm[t]);
}

/// The words of one text before one image, in the lanes of a warp.
struct TextScore {
  double top = -INFINITY, sum = 0;  // of exp(rho - top)
  Index best = 0;                   // the first word of the largest rho
  __device__ TextScore(const double* rho, Index count) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    best = count;
    for (Index t = lane; t < count; t += warp_size)
      if (rho[t] > top) {
        top = rho[t];
        best = t;
      }
    const double own = top;
    top = warp_max(top);
    if (own != top) best = count;
    for (int d = warp_size / 2; d > 0; d /= 2)
      best = min(best, __shfl_xor_sync(0xffffffffu, best, d));
    for (Index t = lane; t < count; t += warp_size) sum += exp(rho[t] - top);
    sum = warp_sum(sum);
  }
  __device__ double z(LocalAggregation aggregation, Index count) const {
    if (aggregation == LocalAggregation::max) return isnan(sum) ? sum : top;
    return top + log(sum) -
           (aggregation == LocalAggregation::mean ? log(static_cast<double>(count)) : 0.0);
  }
  /// d Z / d rho of word t
  __device__ double share(LocalAggregation aggregation, Index t, double rho) const {
    return aggregation == LocalAggregation::max ? (t == best ? 1.0 : 0.0) : exp(rho - top) / sum;
  }
};

/// z of image i and text j, one warp each; z has rows of ldz.
template <class T>
__global__ void __launch_bounds__(block_size)
    score_kernel(Index images, Index words, Texts texts, LocalAggregation aggregation,
                 const double* rho, T* z, Index ldz) {
  for (Index k = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size;
       k < images * texts.count; k += gridDim.x * Index{block_warps}) {
    const Index i = k / texts.count, j = k % texts.count, count = texts.words(j);
    const TextScore score(rho + i * words + texts.begin(j), count);
    if (threadIdx.x % warp_size == 0) z[i * ldz + j] = static_cast<T>(score.z(aggregation, count));
  }
}

/// From dz to the gradients of <w, c>, of |c|^2 and of |w| (divided by |w|), one warp for an image
/// and a text.
template <class T>
__global__ void __launch_bounds__(block_size)
    score_backward_kernel(Index images, Index words, Texts texts, LocalAggregation aggregation,
                          T gamma2, const T* dz, Index ldz, const WordSums sums,
                          const double* word_norm, T* ddot, T* dsquare) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index k = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size;
       k < images * texts.count; k += gridDim.x * Index{block_warps}) {
    const Index i = k / texts.count, j = k % texts.count, begin = texts.begin(j),
                count = texts.words(j);
    const TextScore score(sums.rho + i * words + begin, count);
    for (Index t = lane; t < count; t += warp_size) {
      const Index at = i * words + begin + t;
      const double c = sums.length[at], w = word_norm[begin + t], product = c * w,
                   den = product <= 1e-8 ? 1e-8 : product;
      const double g =
          wide(gamma2) * wide(dz[i * ldz + j]) * score.share(aggregation, t, sums.rho[at]) / den;
      const double dden = product <= 1e-8 ? 0 : -g * sums.dot[at] / den;
      ddot[at] = static_cast<T>(g);
      dsquare[at] = static_cast<T>(c > 0 ? dden * w / (2 * c) : 0);
      sums.dnorm[at] = w > 0 ? dden * c / w : 0;
    }
  }
}

/// s becomes the gradient of a1, ga becomes a2 dsquare.
template <class T>
__global__ void __launch_bounds__(block_size)
    attend_regions_backward_kernel(Index regions, Index words, T gamma1, const T* a2, const T* ddot,
                                   const T* dsquare, T* s, T* ga) {
  __shared__ double shared[slices][warp_size];
  const Index t = blockIdx.x * Index{warp_size} + threadIdx.x, image = blockIdx.y * regions * words;
  const Index last = t < words ? regions : 0;
  const T of_dot = last ? ddot[blockIdx.y * words + t] : T(0),
          of_square = last ? dsquare[blockIdx.y * words + t] : T(0);
  double sum = 0;
  for (Index n = threadIdx.y; n < last; n += slices) {
    const Index at = image + n * words + t;
    const T da = of_dot * s[at] + T(2) * of_square * ga[at];
    s[at] = da;
    ga[at] = of_square * a2[at];
    sum += wide(da) * wide(a2[at]);
  }
  const T centre = static_cast<T>(slice_sum(sum, shared));
  for (Index n = threadIdx.y; n < last; n += slices) {
    const Index at = image + n * words + t;
    s[at] = gamma1 * a2[at] * (s[at] - centre);
  }
}

/// ds, the gradient of a1, becomes that of the scores.
template <class T>
__global__ void __launch_bounds__(block_size)
    attend_words_backward_kernel(Index rows, Index regions, Index words, Texts texts, const T* a1,
                                 const T* a2, const T* ddot, T* ds) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index k = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; k < rows * texts.count;
       k += gridDim.x * Index{block_warps}) {
    const Index r = k / texts.count, text = k % texts.count, first = texts.begin(text),
                begin = first + lane, end = first + texts.words(text);
    const T *x = a1 + r * words, *y = a2 + r * words, *g = ddot + r / regions * words;
    T* d = ds + r * words;
    double sum = 0;
    for (Index t = begin; t < end; t += warp_size) sum += wide(x[t]) * wide(d[t]);
    const T centre = static_cast<T>(warp_sum(sum));
    for (Index t = begin; t < end; t += warp_size) d[t] = g[t] * y[t] + x[t] * (d[t] - centre);
  }
}

/// dw_t += w_t sum over the images of d|w_t| / |w_t|, one block a word.
template <class T>
__global__ void __launch_bounds__(block_size)
    word_norm_backward_kernel(Index images, Index words, Index dim, const double* dnorm, const T* w,
                              T* dw) {
  __shared__ double shared[block_warps];
  for (Index t = blockIdx.x; t < words; t += gridDim.x) {
    double sum = 0;
    for (Index i = threadIdx.x; i < images; i += block_size) sum += dnorm[i * words + t];
    const T k = static_cast<T>(block_sum(sum, shared));
    for (Index c = threadIdx.x; c < dim; c += block_size) dw[t * dim + c] += k * w[t * dim + c];
  }
}

}  // namespace

template <class T>
void local::scores(Context::State& c, const char* operation, Index images, Index columns,
                   const Texts& texts, LocalAggregation aggregation, const double* rho, T* z,
                   Index ldz) {
  score_kernel<<<blocks_for(images * texts.count, block_warps), block_size, 0, c.stream>>>(
      images, columns, texts, aggregation, rho, z, ldz);
  check(cudaGetLastError(), operation);
}

template <class T>
void local::scores_backward(Context::State& c, const char* operation, Index images, Index columns,
                            const Texts& texts, LocalAggregation aggregation, T gamma2, const T* dz,
                            Index ldz, const WordSums& sums, const double* word_norm, T* ddot,
                            T* dsquare) {
  score_backward_kernel<<<blocks_for(images * texts.count, block_warps), block_size, 0, c.stream>>>(
      images, columns, texts, aggregation, gamma2, dz, ldz, sums, word_norm, ddot, dsquare);
  check(cudaGetLastError(), operation);
}

namespace {

/// One call: its scratch memory, and what both passes do with a tile.
template <class T>
class Tiles {
 public:
  Tiles(const LocalArgs<T>& args, Index tile, bool backward, const char* operation)
      : a(args),
        plan(args, tile, 1, a.regions * a.regions),
        name(operation),
        context(current()),
        memory(context, static_cast<Index>(Buffers<T>(a, plan, backward, nullptr).bytes)),
        b(a, plan, backward, memory.data()) {
    context.staging.upload(a.offsets, b.offsets,
                           static_cast<std::size_t>(a.texts + 1) * sizeof(std::int32_t));
    row_norm_kernel<<<blocks_for(a.offsets[a.texts], block_warps), block_size, 0, context.stream>>>(
        a.offsets[a.texts], a.dim, a.w, b.word_norm);
    launched();
  }

  /// For some images at a time: begin(first image), block(first image, first text) for each run of
  /// texts, end(first image).
  template <class F, class G, class H>
  void each(F&& begin, G&& block, H&& end) {
    for (Index first = 0; first < a.images; first += plan.images) {
      images = std::min(plan.images, a.images - first);
      rows = images * a.regions;
      p = a.p + first * a.regions * a.dim;
      const Index n = a.regions;
      Products::gemm_batch(images, false, true, n, n, a.dim, T(1), p, a.dim, n * a.dim, p, a.dim,
                           n * a.dim, T(0), b.gram, n, n * n);
      begin(first);
      plan.each_block(a, [&](Index from, Index to) {
        texts = {b.offsets, b.offsets, from, to - from, a.offsets[from]};
        words = a.offsets[to] - texts.before;
        w = a.w + texts.before * a.dim;
        block(first, from);
      });
      end(first);
    }
  }

  /// From p and w to rho.
  void attend() {
    const Index n = a.regions;
    Products::gemm(false, true, rows, words, a.dim, T(1), p, a.dim, w, a.dim, T(0), b.s, words);
    if (rows > 0) {
      attend_words_kernel<<<for_warps(rows * texts.count), block_size, 0, context.stream>>>(
          rows, words, texts, b.s, b.a1);
      launched();
    }
    attend_regions_kernel<<<for_words(), word_block, 0, context.stream>>>(n, words, a.gamma1, b.a1,
                                                                          b.a2);
    launched();
    Products::gemm_batch(images, false, false, n, words, n, T(1), b.gram, n, n * n, b.a2, words,
                         n * words, T(0), b.ga, words, n * words);
    relevance_kernel<<<for_words(), word_block, 0, context.stream>>>(
        n, words, a.gamma2, b.s, b.a2, b.ga, b.word_norm + texts.before, b.sums);
    launched();
  }

  static unsigned for_warps(Index n) { return blocks_for(n, block_warps); }
  dim3 for_words() const {
    return dim3(blocks_for(words, warp_size, words), static_cast<unsigned>(images));
  }
  void launched() const { check(cudaGetLastError(), name); }

  static constexpr dim3 word_block{warp_size, slices, 1};
  const LocalArgs<T>& a;
  const Plan plan;
  const char* const name;
  Context::State& context;
  const Scratch<std::byte> memory;
  const Buffers<T> b;
  Index images = 0, rows = 0, words = 0;  // of the tile
  Texts texts{};
  const T *p = nullptr, *w = nullptr;
};

}  // namespace

template <class T>
void LocalAlignment::local_scores(const LocalArgs<T>& a, T* z, Index tile) {
  if (a.images <= 0 || a.texts <= 0) return;
  if constexpr (std::is_same_v<T, float>)
    if (local::on_tensor_cores(a)) return local::scores_bf16(a, z, tile);
  Tiles<T> t(a, tile, false, "local_scores");
  const auto nothing = [](Index) {};
  t.each(
      nothing,
      [&](Index image, Index text) {
        t.attend();
        local::scores(t.context, t.name, t.images, t.words, t.texts, a.aggregation, t.b.sums.rho,
                      z + image * a.texts + text, a.texts);
      },
      nothing);
}

template <class T>
void LocalAlignment::local_scores_backward(const LocalArgs<T>& a, const T* dz, T* dp, T* dw,
                                           Index tile) {
  if (a.images <= 0 || a.texts <= 0 || (!dp && !dw)) return;
  if constexpr (std::is_same_v<T, float>)
    if (local::on_tensor_cores(a)) return local::scores_bf16_backward(a, dz, dp, dw, tile);
  Tiles<T> t(a, tile, true, "local_scores_backward");
  const Buffers<T>& b = t.b;
  const Index n = a.regions, d = a.dim;
  t.each(
      [&](Index) {
        check(cudaMemsetAsync(b.dgram, 0, static_cast<std::size_t>(t.images * n * n) * sizeof(T),
                              t.context.stream),
              t.name);
      },
      [&](Index image, Index text) {
        t.attend();
        const cudaStream_t stream = t.context.stream;
        local::scores_backward(t.context, t.name, t.images, t.words, t.texts, a.aggregation,
                               a.gamma2, dz + image * a.texts + text, a.texts, b.sums,
                               b.word_norm + t.texts.before, b.ddot, b.dsquare);
        attend_regions_backward_kernel<<<t.for_words(), t.word_block, 0, stream>>>(
            n, t.words, a.gamma1, b.a2, b.ddot, b.dsquare, b.s, b.ga);
        t.launched();
        if (t.rows > 0) {
          attend_words_backward_kernel<<<t.for_warps(t.rows * t.texts.count), block_size, 0,
                                         stream>>>(t.rows, n, t.words, t.texts, b.a1, b.a2, b.ddot,
                                                   b.s);
          t.launched();
        }
        if (dp) {
          Products::gemm(false, false, t.rows, d, t.words, T(1), b.s, t.words, t.w, d, T(1),
                         dp + image * n * d, d);
          Products::gemm_batch(t.images, false, true, n, n, t.words, T(1), b.ga, t.words,
                               n * t.words, b.a2, t.words, n * t.words, T(1), b.dgram, n, n * n);
        }
        if (dw) {
          T* g = dw + t.texts.before * d;
          Products::gemm(true, false, t.words, d, t.rows, T(1), b.s, t.words, t.p, d, T(1), g, d);
          word_norm_backward_kernel<<<blocks_for(t.words, 1), block_size, 0, stream>>>(
              t.images, t.words, d, b.sums.dnorm, t.w, g);
          t.launched();
        }
      },
      [&](Index image) {
        if (dp)  // the Gram matrix has each row of p twice
          Products::gemm_batch(t.images, false, false, n, d, n, T(2), b.dgram, n, n * n, t.p, d,
                               n * d, T(1), dp + image * n * d, d, n * d);
      });
}

template <class T>
std::size_t LocalAlignment::local_scores_scratch(const LocalArgs<T>& a, bool backward, Index tile) {
  if (a.images <= 0 || a.texts <= 0) return 0;
  if constexpr (std::is_same_v<T, float>)
    if (local::on_tensor_cores(a)) return local::scratch_bf16(a, backward, tile);
  return Buffers<T>(a, Plan(a, tile, 1, a.regions * a.regions), backward, nullptr).bytes;
}

#define HYBRIDMED_INSTANTIATE(T)                                                                 \
  template void local::scores(Context::State&, const char*, Index, Index, const Texts&,          \
                              LocalAggregation, const double*, T*, Index);                       \
  template void local::scores_backward(Context::State&, const char*, Index, Index, const Texts&, \
                                       LocalAggregation, T, const T*, Index, const WordSums&,    \
                                       const double*, T*, T*);                                   \
  template void LocalAlignment::local_scores(const LocalArgs<T>&, T*, Index);                    \
  template void LocalAlignment::local_scores_backward(const LocalArgs<T>&, const T*, T*, T*,     \
                                                      Index);                                    \
  template std::size_t LocalAlignment::local_scores_scratch(const LocalArgs<T>&, bool, Index);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
