// Local alignment scores with products on tensor cores: local_alignment.cu's formulas over p and w
// rounded to bf16, with sums, scores and softmax in float. Scores never leave the chip:
//
//   half_attend_kernel      some regions of an image, the words of a text: scores, their softmax
//                           over the words, and exp(gamma1 a1) rounded to bf16 (`weights`): a2 but
//                           for a factor a word, which is the sum over the regions
//   half_relevance_kernel   some words before an image: a2^T G a2, and with it rho
//   half_gradient_kernel    as the first, again; the gradients of the scores
//
// The Gram matrix G = P P^T is two bf16 numbers an element, since |c|^2 is a sum of its rows that
// must not lose digits. Weights and gradients, (images, regions, columns) of a tile, are in bf16;
// products of them over all words or all regions are cuBLAS's.
#include <cmath>

#include "hybridmed/backend/cuda/elementwise.hpp"
#include "hybridmed/backend/cuda/local_alignment_bf16.cuh"
#include "hybridmed/backend/cuda/pieces.cuh"
#include "hybridmed/backend/cuda/products.hpp"

namespace hybridmed::cuda::local {

namespace {

/// p (images * regions, ld) and w (columns of all texts, ld) -> weights; of each tile of regions
/// (region tiles, images, columns): the sum of the weights, and of weights times scores.
__global__ void __launch_bounds__(block_size, 1)
    half_attend_kernel(const Tile t, float gamma1, const Half* p, const Half* w, int ld,
                       Half* weights, float* weight_sums, float* dot_sums) {
  const FragmentLane lane;
  const Place at(t);
  const Half *p_rows = p + at.first_row(t) * ld, *w_rows = w + Index{at.begin} * ld;
  const float shift = max(gamma1, 0.0f);  // a1 is at most 1
  RowSoftmax softmax;
  Sums s;
  for (int c = 0; c < at.padded; c += width) {
    product<false>(p_rows, ld, at.count, w_rows + Index{c} * ld, ld, min(width, at.words - c), ld,
                   0, s);
    softmax.add(s, c + lane.column, at.words);
  }
  softmax.end();
  for (int c = 0; c < at.padded; c += width) {
    const int end = min(width, at.padded - c);
    if (at.padded > width)  // else s is still what it was
      product<false>(p_rows, ld, at.count, w_rows + Index{c} * ld, ld, min(width, at.words - c), ld,
                     0, s);
    const ColumnSums sums;
#pragma unroll
    for (int n = 0; n < groups; ++n) {
      if (8 * n >= end) break;
      const int column = c + 8 * n + lane.column;
      float total[2] = {}, along[2] = {};
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const bool in = lane.row + 8 * h < at.count;
        float x[2];
#pragma unroll
        for (int e = 0; e < 2; ++e)
          x[e] = in && column + e < at.words
                     ? __expf(gamma1 * softmax.share(s[n][2 * h + e], h) - shift)
                     : 0.0f;
        const std::uint32_t pair = narrow_pair(x[0], x[1]);
        if (!in) continue;
        const float rounded[2] = {low_of(pair), high_of(pair)};
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          total[e] += rounded[e];
          if (column + e < at.words) along[e] += rounded[e] * s[n][2 * h + e];
        }
        const Index row = at.first_row(t) + lane.row + 8 * h;
        *reinterpret_cast<std::uint32_t*>(weights + row * t.columns + at.begin + column) = pair;
      }
      sums.put(0, 8 * n + lane.column, total[0], total[1]);
      sums.put(1, 8 * n + lane.column, along[0], along[1]);
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < end; i += block_size) {
      const Index to =
          (Index{blockIdx.x % t.region_tiles} * t.images + at.image) * t.columns + at.begin + c + i;
      weight_sums[to] = sums.total(0, i);
      dot_sums[to] = sums.total(1, i);
    }
    __syncthreads();
  }
}

/// gram (images, regions, 2, G): the Gram matrices, rounded, and what rounding has left. share
/// (images, columns): what a weight is multiplied with to be a2.
__global__ void __launch_bounds__(block_size, 2)
    half_relevance_kernel(const Tile t, float gamma2, const Half* gram, int gram_columns,
                          const Half* weights, const float* weight_sums, const float* dot_sums,
                          const double* word_norm, float* share, const WordSums to) {
  const FragmentLane lane;
  const Index image = blockIdx.y;
  const int c = static_cast<int>(blockIdx.x) * width,
            end = static_cast<int>(min(Index{width}, t.columns - c)),
            own = static_cast<int>(threadIdx.x);
  const Half* const image_weights = weights + image * t.regions * t.columns + c;
  double square = 0;
  for (int first = 0; first < t.regions; first += rows) {
    const int count = min(rows, t.regions - first);
    Sums s;
    product<true>(gram + (image * t.regions + first) * 2 * gram_columns, 2 * gram_columns, count,
                  image_weights, t.columns, end, 2 * gram_columns, t.regions, s);
    const ColumnSums sums;
#pragma unroll
    for (int n = 0; n < groups; ++n) {
      if (8 * n >= end) break;
      float part[2] = {};
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (lane.row + 8 * h >= count) continue;
        const std::uint32_t pair = *reinterpret_cast<const std::uint32_t*>(
            image_weights + (first + lane.row + 8 * h) * t.columns + 8 * n + lane.column);
        part[0] += low_of(pair) * s[n][2 * h];
        part[1] += high_of(pair) * s[n][2 * h + 1];
      }
      sums.put(0, 8 * n + lane.column, part[0], part[1]);
    }
    __syncthreads();
    if (own < end) square += wide(sums.total(0, own));
    __syncthreads();
  }
  if (own >= end) return;
  double total = 0, along = 0;
  for (int r = 0; r < t.region_tiles; ++r) {
    const Index from = (r * t.images + image) * t.columns + c + own;
    total += wide(weight_sums[from]);
    along += wide(dot_sums[from]);
  }
  const Index at = image * t.columns + c + own;
  const double factor = total == 0 ? 0 : 1 / total;  // 0: no word stands here
  share[at] = static_cast<float>(factor);
  relevance(to, at, wide(gamma2), along * factor, square * factor * factor, word_norm[c + own]);
}

/// Of a word and an image, for the gradients of its scores.
struct WordSlope {
  float dot, square, centre, share;  // square: twice d|c|^2 times share; centre: sum of a2 da2
};

/// ds, the gradients of the scores, and scaled, a2 d|c|^2 share: all three matrices together say
/// what becomes of p and w.
__global__ void __launch_bounds__(block_size, 1)
    half_gradient_kernel(const Tile t, float gamma1, const Half* p, const Half* w, int ld,
                         const Half* gram, int gram_columns, const Half* weights,
                         const float* share, const float* ddot, const float* dsquare,
                         const WordSums sums, Half* ds, Half* scaled) {
  __shared__ WordSlope slopes[width];
  const FragmentLane lane;
  const Place at(t);
  const Index first_row = at.first_row(t);
  const Half *p_rows = p + first_row * ld, *w_rows = w + Index{at.begin} * ld,
             *gram_rows = gram + first_row * 2 * gram_columns,
             *image_weights = weights + Index{at.image} * t.regions * t.columns + at.begin;
  const bool once = at.padded <= width;  // then what was made stays in registers
  RowSoftmax softmax;
  float centre[2] = {};  // of a1 times its gradient, of the lane's rows
  Sums s, g;             // scores, then a1; G times weights, then the gradient of a1
  for (int pass = 0; pass < 3; ++pass) {
    for (int c = 0; c < at.padded; c += width) {
      const int end = min(width, at.padded - c);
      if (pass == 0 || !once)
        product<false>(p_rows, ld, at.count, w_rows + Index{c} * ld, ld, min(width, at.words - c),
                       ld, 0, s);
      if (pass == 0) {
        softmax.add(s, c + lane.column, at.words);
        continue;
      }
      if (pass == 1 || !once) {
        if (threadIdx.x < end) {
          const Index word = Index{at.image} * t.columns + at.begin + c + threadIdx.x;
          const bool in = c + static_cast<int>(threadIdx.x) < at.words;
          const double length = in ? sums.length[word] : 0, of_square = in ? dsquare[word] : 0;
          slopes[threadIdx.x] = {in ? ddot[word] : 0.0f,
                                 in ? 2 * dsquare[word] * share[word] : 0.0f,
                                 in ? static_cast<float>(wide(ddot[word]) * sums.dot[word] +
                                                         2 * of_square * length * length)
                                    : 0.0f,
                                 in ? share[word] : 0.0f};
        }
        product<true>(gram_rows, 2 * gram_columns, at.count, image_weights + c, t.columns, end,
                      2 * gram_columns, t.regions, g);
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (lane.row + 8 * h >= at.count) continue;
        const Index to = (first_row + lane.row + 8 * h) * t.columns + at.begin + c + lane.column;
#pragma unroll
        for (int n = 0; n < groups; ++n) {
          if (8 * n >= end) break;
          const WordSlope* const slope = slopes + 8 * n + lane.column;
          const std::uint32_t pair = *reinterpret_cast<const std::uint32_t*>(weights + to + 8 * n);
          const float a2[2] = {low_of(pair) * slope[0].share, high_of(pair) * slope[1].share};
          float out[2];
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float &x = s[n][2 * h + e], &y = g[n][2 * h + e];
            if (pass == 1 || !once) {
              y = gamma1 * a2[e] * (slope[e].dot * x + slope[e].square * y - slope[e].centre);
              x = c + 8 * n + lane.column + e < at.words ? softmax.share(x, h) : 0.0f;
            }
            if (pass == 1)
              centre[h] += x * y;
            else
              out[e] = slope[e].dot * a2[e] + x * (y - centre[h]);
          }
          if (pass == 1) continue;
          *reinterpret_cast<std::uint32_t*>(ds + to + 8 * n) = narrow_pair(out[0], out[1]);
          *reinterpret_cast<std::uint32_t*>(scaled + to + 8 * n) =
              narrow_pair(0.5f * a2[0] * slope[0].square, 0.5f * a2[1] * slope[1].square);
        }
      }
      if (!once) __syncthreads();  // the slopes are no longer read
    }
    if (pass == 0) softmax.end();
    if (pass == 1) {
      centre[0] = row_sum(centre[0]);
      centre[1] = row_sum(centre[1]);
    }
  }
}

/// y (rows, ld) = x (., dim) rounded, zeros behind it; norm: of the rounded rows, or null. Where
/// there are texts, rows are their columns. One warp a row.
__global__ void __launch_bounds__(block_size)
    half_rows_kernel(Index count, Index dim, Index ld, const Texts texts, const float* x, Half* y,
                     double* norm) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < count;
       r += gridDim.x * Index{block_warps}) {
    Index from = r;
    if (texts.offsets) {
      Index text = 0;
      for (Index end = texts.count; end - text > 1;) {
        const Index middle = (text + end) / 2;
        (texts.begin(middle) <= r ? text : end) = middle;
      }
      const Index word = r - texts.begin(text);
      from = word < texts.words(text) ? texts.offsets[text] + word : -1;
    }
    double sum = 0;
    for (Index c = 2 * lane; c < ld; c += 2 * warp_size) {
      const std::uint32_t pair =
          narrow_pair(from >= 0 && c < dim ? x[from * dim + c] : 0.0f,
                      from >= 0 && c + 1 < dim ? x[from * dim + c + 1] : 0.0f);
      *reinterpret_cast<std::uint32_t*>(y + r * ld + c) = pair;
      sum += wide(low_of(pair)) * wide(low_of(pair)) + wide(high_of(pair)) * wide(high_of(pair));
    }
    sum = warp_sum(sum);
    if (norm && lane == 0) norm[r] = sqrt(sum);
  }
}

/// slope (columns) = (or += where some images came before) sum over the images of d|w| / |w|.
__global__ void __launch_bounds__(block_size)
    half_norm_slope_kernel(const Tile t, bool add, const double* dnorm, double* slope) {
  for (Index c = blockIdx.x * Index{block_size} + threadIdx.x; c < t.columns;
       c += gridDim.x * Index{block_size}) {
    double sum = add ? slope[c] : 0;
    for (Index i = 0; i < t.images; ++i) sum += dnorm[i * t.columns + c];
    slope[c] = sum;
  }
}

/// dw += products + w slope; a block takes words of one text.
__global__ void __launch_bounds__(block_size)
    half_word_gradient_kernel(const Texts texts, Index dim, const double* slope,
                              const float* products, const float* w, float* dw) {
  const Index text = blockIdx.x, words = texts.words(text), begin = texts.begin(text),
              first = texts.offsets[text];
  for (Index word = blockIdx.y; word < words; word += gridDim.y) {
    const float k = static_cast<float>(slope[begin + word]);
    const Index to = (first + word) * dim, from = (begin + word) * dim;
    for (Index c = threadIdx.x; c < dim; c += block_size)
      dw[to + c] += products[from + c] + k * w[to + c];
  }
}

/// Scratch memory of a call, all of it.
struct Buffers {
  std::size_t bytes;
  std::int32_t *offsets, *columns;  // (texts + 1)
  Half *p, *w;                      // (images * regions, ld), (columns of all texts, ld)
  double* word_norm;                // (columns of all texts)
  float* gram;                      // (images, regions, regions), then its gradient
  Half* split;                      // (images, regions, 2, gram columns), then that in bf16
  Half *weights, *ds, *scaled;      // (images, regions, columns)
  float *weight_sums, *dot_sums;    // (region tiles, images, columns)
  float *share, *ddot, *dsquare;    // (images, columns)
  WordSums sums;                    // (images, columns)
  double* word_slope;               // (columns of all texts)
  float* word_products;             // (columns of all texts, dim)

  Buffers(const LocalArgs<float>& a, const Plan& plan, bool backward, std::byte* memory) {
    Pieces pieces(memory);
    const Index ld = up_to(a.dim, step), all = plan.column(a.texts),
                of_regions = plan.images * a.regions, matrix = of_regions * plan.widest,
                row = plan.images * plan.widest, parts = up_to(a.regions, rows) / rows * row,
                more = backward ? 1 : 0;
    pieces.take(offsets, a.texts + 1);
    pieces.take(columns, a.texts + 1);
    pieces.take(p, of_regions * ld);
    pieces.take(w, all * ld);
    pieces.take(word_norm, all);
    pieces.take(gram, of_regions * a.regions);
    pieces.take(split, of_regions * 2 * up_to(a.regions, step));
    pieces.take(weights, matrix);
    pieces.take(ds, more * matrix);
    pieces.take(scaled, more * matrix);
    pieces.take(weight_sums, parts);
    pieces.take(dot_sums, parts);
    pieces.take(share, row);
    pieces.take(ddot, more * row);
    pieces.take(dsquare, more * row);
    pieces.take(sums.rho, row);
    pieces.take(sums.dot, more * row);
    pieces.take(sums.length, more * row);
    pieces.take(sums.dnorm, more * row);
    pieces.take(word_slope, more * all);
    pieces.take(word_products, more * all * a.dim);
    bytes = pieces.bytes();
  }
};

/// Each tile reads its rows of p and w, and adds to their gradients: as many words as regions of
/// all its images move the least.
Plan plan_of(const LocalArgs<float>& a, Index tile) {
  const auto words = static_cast<Index>(std::sqrt(static_cast<double>(tile)));
  return Plan(a, tile, spacing, a.regions * 2 * up_to(a.regions, step),
              std::max(words, Plan::least_words));
}

/// One call: its scratch memory, and what both passes do with a tile.
class Tiles {
 public:
  Tiles(const LocalArgs<float>& args, Index tile, bool backward, const char* operation)
      : a(args),
        plan(plan_of(args, tile)),
        name(operation),
        context(current_for<Half>(operation)),
        memory(context, static_cast<Index>(Buffers(a, plan, backward, nullptr).bytes)),
        b(a, plan, backward, memory.data()),
        ld(up_to(a.dim, step)),
        gram_columns(up_to(a.regions, step)) {
    const std::size_t size = plan.columns.size() * sizeof(std::int32_t);
    context.staging.upload(a.offsets, b.offsets, size);
    context.staging.upload(plan.columns.data(), b.columns, size);
    round(plan.column(a.texts), {b.offsets, b.columns, 0, a.texts, 0}, a.w, b.w, b.word_norm);
  }

  /// For some images at a time: begin(), block(first image, first text) for each run of texts,
  /// end(first image).
  template <class F, class G, class H>
  void each(F&& begin, G&& block, H&& end) {
    const Index n = a.regions;
    for (Index first = 0; first < a.images; first += plan.images) {
      t.images = std::min(plan.images, a.images - first);
      t.regions = static_cast<int>(n);
      t.region_tiles = static_cast<int>(up_to(n, rows) / rows);
      round(t.images * n, {}, a.p + first * n * a.dim, b.p, nullptr);
      Products::gemm_batch(t.images, false, true, n, n, ld, 1.0f, b.p, ld, n * ld, b.p, ld, n * ld,
                           0.0f, b.gram, n, n * n);
      split_gram();
      begin();
      plan.each_block(a, [&](Index from, Index to) {
        const Index before = plan.column(from);
        t.texts = {b.offsets, b.columns, from, to - from, before};
        t.columns = plan.column(to) - before;
        w = b.w + before * ld;
        block(first, from);
      });
      end(first);
    }
  }

  /// From p and w to rho.
  void attend() {
    launch(context, name, half_attend_kernel, t.images * t.texts.count * t.region_tiles, block_size,
           bytes, t, a.gamma1, b.p, w, static_cast<int>(ld), b.weights, b.weight_sums, b.dot_sums);
    launch(context, name, half_relevance_kernel,
           dim3(static_cast<unsigned>(up_to(t.columns, width) / width),
                static_cast<unsigned>(t.images)),
           block_size, bytes, t, a.gamma2, b.split, static_cast<int>(gram_columns), b.weights,
           b.weight_sums, b.dot_sums, b.word_norm + t.texts.before, b.share, b.sums);
  }

  void split_gram() {
    const Index n = a.regions, pitch_of = gram_columns;
    const float* const gram = b.gram;
    Half* const split = b.split;
    for_each(t.images * n * pitch_of, name, [=] __device__(Index i) {
      const Index row = i / pitch_of, c = i % pitch_of;
      const float x = c < n ? gram[row * n + c] : 0.0f;
      const Half high = narrow<Half>(x);
      split[row * 2 * pitch_of + c] = high;
      split[(row * 2 + 1) * pitch_of + c] = narrow<Half>(x - widen(high));
    });
  }
  void round(Index count, const Texts& texts, const float* x, Half* y, double* norm) {
    half_rows_kernel<<<blocks_for(count, block_warps), block_size, 0, context.stream>>>(
        count, a.dim, ld, texts, x, y, norm);
    check(cudaGetLastError(), name);
  }

  const LocalArgs<float>& a;
  const Plan plan;
  const char* const name;
  Context::State& context;
  const Scratch<std::byte> memory;
  const Buffers b;
  const Index ld, gram_columns;
  Tile t{};
  const Half* w = nullptr;
};

}  // namespace

void scores_bf16(const LocalArgs<float>& a, float* z, Index tile) {
  Tiles k(a, tile, false, "local_scores");
  k.each([] {},
         [&](Index image, Index text) {
           k.attend();
           scores(k.context, k.name, k.t.images, k.t.columns, k.t.texts, a.aggregation,
                  k.b.sums.rho, z + image * a.texts + text, a.texts);
         },
         [](Index) {});
}

void scores_bf16_backward(const LocalArgs<float>& a, const float* dz, float* dp, float* dw,
                          Index tile) {
  Tiles k(a, tile, true, "local_scores_backward");
  const Buffers& b = k.b;
  const Tile& t = k.t;
  const Index n = a.regions, d = a.dim;
  k.each(
      [&] {
        check(cudaMemsetAsync(b.gram, 0, static_cast<std::size_t>(t.images * n * n) * sizeof(float),
                              k.context.stream),
              k.name);
      },
      [&](Index image, Index text) {
        k.attend();
        scores_backward(k.context, k.name, t.images, t.columns, t.texts, a.aggregation, a.gamma2,
                        dz + image * a.texts + text, a.texts, b.sums, b.word_norm + t.texts.before,
                        b.ddot, b.dsquare);
        launch(k.context, k.name, half_gradient_kernel, t.images * t.texts.count * t.region_tiles,
               block_size, bytes, t, a.gamma1, b.p, k.w, static_cast<int>(k.ld), b.split,
               static_cast<int>(k.gram_columns), b.weights, b.share, b.ddot, b.dsquare, b.sums,
               b.ds, b.scaled);
        if (dp) {
          Products::gemm(false, false, t.images * n, d, t.columns, 1.0f, b.ds, t.columns, k.w, k.ld,
                         1.0f, dp + image * n * d, d);
          Products::gemm_batch(t.images, false, true, n, n, t.columns, 1.0f, b.scaled, t.columns,
                               n * t.columns, b.weights, t.columns, n * t.columns, 1.0f, b.gram, n,
                               n * n);
        }
        if (dw) {
          const Index before = t.texts.before;
          Products::gemm(true, false, t.columns, d, t.images * n, 1.0f, b.ds, t.columns, b.p, k.ld,
                         image == 0 ? 0.0f : 1.0f, b.word_products + before * d, d);
          half_norm_slope_kernel<<<blocks_for(t.columns, block_size), block_size, 0,
                                   k.context.stream>>>(t, image > 0, b.sums.dnorm,
                                                       b.word_slope + before);
          check(cudaGetLastError(), k.name);
        }
      },
      [&](Index image) {
        if (!dp) return;
        // The Gram matrix has each row of p twice.
        Elementwise::convert(t.images * n * n, b.gram, b.split);
        Products::gemm_batch(t.images, false, false, n, d, n, 2.0f, b.split, n, n * n, b.p, k.ld,
                             n * k.ld, 1.0f, dp + image * n * d, d, n * d);
      });
  if (dw) {
    half_word_gradient_kernel<<<dim3(static_cast<unsigned>(a.texts), 32), block_size, 0,
                                k.context.stream>>>({b.offsets, b.columns, 0, a.texts, 0}, d,
                                                    b.word_slope, b.word_products, a.w, dw);
    check(cudaGetLastError(), k.name);
  }
}

std::size_t scratch_bf16(const LocalArgs<float>& a, bool backward, Index tile) {
  return Buffers(a, plan_of(a, tile), backward, nullptr).bytes;
}

}  // namespace hybridmed::cuda::local
