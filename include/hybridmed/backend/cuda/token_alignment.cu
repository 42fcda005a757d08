// Token-wise contrast within samples (method 4.2b). One direction: the n anchors a of a sample
// attend to its m others b, c is what they attend to, at length 1.
//
//   alpha   (n, m)    softmax of a b^T / tau        -> in the backward pass ds, beside it
//   c       (n, dim)  alpha b, then unit rows
//   logits  (n, n)    a c^T / tau                   -> in the backward pass their gradient
//
// Anchors are words and others regions, then the other way round. The samples of a tile lie one
// after the other; each matrix has the rows of the samples' words or of their regions, and one
// leading extent for all. Products of all samples are one launch, as are the sums over rows.
#include <algorithm>
#include <cstddef>

#include "hybridmed/backend/cuda/device.cuh"
#include "hybridmed/backend/cuda/log_sum.cuh"
#include "hybridmed/backend/cuda/pieces.cuh"
#include "hybridmed/backend/cuda/token_alignment.hpp"

namespace hybridmed::cuda {

namespace {

/// An extent of a matrix of a sample: a number, or that of the sample's words.
using Extent = Index;
constexpr Extent of_words = -1;

/// The samples of a tile.
struct Samples {
  const std::int32_t* offsets;  // (samples + 1), device: of the tile's samples
  Index regions;
  __device__ Index extent(Index s, Extent e) const {
    return e == of_words ? Index{offsets[s + 1]} - offsets[s] : e;
  }
  /// The first row of a sample in matrices of that many rows.
  __device__ Index begin(Index s, Extent rows) const {
    return rows == of_words ? Index{offsets[s]} - offsets[0] : s * rows;
  }
};

/// Matrices of all samples of a tile, below each other.
template <class T>
struct Stacked {
  T* x;
  Extent rows;
  Index ld;
  __device__ T* of(const Samples& samples, Index s) const {
    return x + samples.begin(s, rows) * ld;
  }
};
template <class T>
Stacked<const T> read(const Stacked<T>& m) {
  return {m.x, m.rows, m.ld};
}

/// c (m, n) = alpha op(a) op(b), or added to c, for each sample; blockIdx.z is the sample. A block
/// makes 64 x 64 elements, a thread 4 x 4 of them, 16 apart, so that neighbours read and write
/// neighbours. The rows of the shared tiles are a bit longer than 64: no two lanes of a warp store
/// to the same bank.
template <class T, bool ta, bool tb>
__global__ void __launch_bounds__(block_size)
    products_kernel(Samples samples, Extent em, Extent en, Extent ek, T alpha, Stacked<const T> sa,
                    Stacked<const T> sb, bool accumulate, Stacked<T> sc) {
  constexpr int edge = 64, depth = 16, side = 16, each = edge / side,
                pitch = edge + (sizeof(T) == 4 ? 2 : 1);
  __shared__ T as[depth][pitch], bs[depth][pitch];
  const Index s = blockIdx.z, m = samples.extent(s, em), n = samples.extent(s, en),
              k = samples.extent(s, ek), row0 = blockIdx.y * Index{edge},
              col0 = blockIdx.x * Index{edge};
  if (row0 >= m || col0 >= n) return;
  const T *a = sa.of(samples, s), *b = sb.of(samples, s);
  const int tid = static_cast<int>(threadIdx.x), tx = tid % side, ty = tid / side;
  T sum[each][each] = {};
  for (Index k0 = 0; k0 < k; k0 += depth) {
    for (int i = 0; i < each; ++i) {
      // The extent that runs fastest in memory is that of neighbouring threads.
      const int ka = ta ? tid / edge + i * (depth / each) : tid % depth,
                ra = ta ? tid % edge : tid / depth + i * side;
      const int kb = tb ? tid % depth : tid / edge + i * (depth / each),
                cb = tb ? tid / depth + i * side : tid % edge;
      as[ka][ra] = row0 + ra < m && k0 + ka < k
                       ? (ta ? a[(k0 + ka) * sa.ld + row0 + ra] : a[(row0 + ra) * sa.ld + k0 + ka])
                       : T(0);
      bs[kb][cb] = col0 + cb < n && k0 + kb < k
                       ? (tb ? b[(col0 + cb) * sb.ld + k0 + kb] : b[(k0 + kb) * sb.ld + col0 + cb])
                       : T(0);
    }
    __syncthreads();
    for (int q = 0; q < depth; ++q) {
      T x[each], y[each];
      for (int i = 0; i < each; ++i) {
        x[i] = as[q][ty + i * side];
        y[i] = bs[q][tx + i * side];
      }
      for (int i = 0; i < each; ++i)
        for (int j = 0; j < each; ++j) sum[i][j] += x[i] * y[j];
    }
    __syncthreads();
  }
  T* c = sc.of(samples, s);
  for (int i = 0; i < each; ++i)
    for (int j = 0; j < each; ++j) {
      const Index row = row0 + ty + i * side, col = col0 + tx + j * side;
      if (row >= m || col >= n) continue;
      T& out = c[row * sc.ld + col];
      out = accumulate ? out + alpha * sum[i][j] : alpha * sum[i][j];
    }
}

/// f(row of the sample, row of the tile, the sample's extents, lane) by one warp a row; blockIdx.y
/// is the sample.
template <class F>
__device__ void each_row(const Samples& samples, Extent rows, F f) {
  const Index s = blockIdx.y, n = samples.extent(s, rows), begin = samples.begin(s, rows);
  for (Index i = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; i < n;
       i += gridDim.x * Index{block_warps})
    f(s, i, begin + i, static_cast<int>(threadIdx.x) % warp_size);
}

/// x becomes softmax(x), row by row.
template <class T>
__global__ void __launch_bounds__(block_size)
    softmax_kernel(Samples samples, Extent cols, Stacked<T> x) {
  each_row(samples, x.rows, [&](Index s, Index, Index row, int lane) {
    T* xr = x.x + row * x.ld;
    warp_softmax(lane, samples.extent(s, cols), xr, xr);
  });
}

/// ds, the gradient of the attention, becomes that of its scores.
template <class T>
__global__ void __launch_bounds__(block_size)
    softmax_backward_kernel(Samples samples, Extent cols, Stacked<const T> alpha, Stacked<T> ds) {
  each_row(samples, ds.rows, [&](Index s, Index, Index row, int lane) {
    const Index m = samples.extent(s, cols);
    const T* x = alpha.x + row * alpha.ld;
    T* g = ds.x + row * ds.ld;
    double sum = 0;
    for (Index j = lane; j < m; j += warp_size) sum += wide(x[j]) * wide(g[j]);
    const T centre = static_cast<T>(warp_sum(sum));
    for (Index j = lane; j < m; j += warp_size) g[j] = x[j] * (g[j] - centre);
  });
}

/// c becomes c / |c|, with the length kept.
template <class T>
__global__ void __launch_bounds__(block_size)
    to_unit_kernel(Samples samples, Index dim, Stacked<T> c, double* length) {
  each_row(samples, c.rows, [&](Index, Index, Index row, int lane) {
    T* x = c.x + row * dim;
    double square = 0;
    for (Index k = lane; k < dim; k += warp_size) square += wide(x[k]) * wide(x[k]);
    const double size = max(sqrt(warp_sum(square)), 1e-12);
    const T share = static_cast<T>(1 / size);
    for (Index k = lane; k < dim; k += warp_size) x[k] *= share;
    if (lane == 0) length[row] = size;
  });
}

/// dc, the gradient of the unit vectors c, becomes that of the vectors before they had length 1.
template <class T>
__global__ void __launch_bounds__(block_size)
    to_unit_backward_kernel(Samples samples, Index dim, Stacked<const T> c, const double* length,
                            Stacked<T> dc) {
  each_row(samples, c.rows, [&](Index, Index, Index row, int lane) {
    const T* x = c.x + row * dim;
    T* g = dc.x + row * dim;
    double sum = 0;
    for (Index k = lane; k < dim; k += warp_size) sum += wide(x[k]) * wide(g[k]);
    sum = warp_sum(sum);
    const double size = length[row];
    const T along = size > 1e-12 ? static_cast<T>(sum) : T(0),  // below it a constant divides
        share = static_cast<T>(1 / size);
    for (Index k = lane; k < dim; k += warp_size) g[k] = share * (g[k] - along * x[k]);
  });
}

/// What the loss keeps of the anchors of a tile, (anchors) each.
template <class T>
struct Anchors {
  T *row_top, *column_top;                         // the largest logit
  double *row_log, *column_log, *length, *weight;  // log-sum-exp above it; |c|; share in the loss
};

template <class T>
__global__ void __launch_bounds__(block_size)
    row_sums_kernel(Samples samples, Stacked<const T> logits, Anchors<T> anchors) {
  each_row(samples, logits.rows, [&](Index s, Index, Index row, int lane) {
    const Index n = samples.extent(s, logits.rows);
    LogSum<T> sum;
    for (Index t = lane; t < n; t += warp_size) sum.add(logits.x[row * logits.ld + t]);
    sum = warp_log_sum(sum);
    if (lane != 0) return;
    anchors.row_top[row] = sum.top;
    anchors.row_log[row] = sum.log();
  });
}
/// 32 columns of a sample times 8 slices of its rows.
template <class T>
__global__ void __launch_bounds__(block_size)
    column_sums_kernel(Samples samples, Stacked<const T> logits, Anchors<T> anchors) {
  __shared__ T shared[slices][warp_size];
  __shared__ double shared_wide[slices][warp_size];
  const Index s = blockIdx.y, n = samples.extent(s, logits.rows),
              t = blockIdx.x * Index{warp_size} + threadIdx.x;
  if (blockIdx.x * Index{warp_size} >= n) return;
  const T* x = logits.of(samples, s) + t;
  LogSum<T> sum;
  for (Index i = threadIdx.y; i < n && t < n; i += slices) sum.add(x[i * logits.ld]);
  const T top = slice_max(sum.top, shared);
  sum = {top, slice_sum(sum.sum * sum.share(top, T(1)), shared_wide)};
  if (threadIdx.y != 0 || t >= n) return;
  const Index row = samples.begin(s, logits.rows) + t;
  anchors.column_top[row] = sum.top;
  anchors.column_log[row] = sum.log();
}

/// The loss of a direction, one block a sample, and the weights of the anchors, which add up to 1.
template <class T>
__global__ void __launch_bounds__(block_size)
    loss_kernel(Samples samples, Stacked<const T> logits, const T* weights, Anchors<T> anchors,
                double* loss) {
  __shared__ double shared[block_warps];
  const Index s = blockIdx.x, n = samples.extent(s, logits.rows),
              begin = samples.begin(s, logits.rows);
  double total = 0, sum = 0;
  for (Index i = threadIdx.x; i < n; i += block_size)
    total += weights ? wide(weights[begin + i]) : 1;
  total = block_sum(total, shared);
  for (Index i = threadIdx.x; i < n; i += block_size) {
    const Index row = begin + i;
    const double x = wide(logits.x[row * logits.ld + i]),
                 weight = (weights ? wide(weights[row]) : 1) / total;
    anchors.weight[row] = weight;
    sum += weight * ((anchors.row_log[row] + (wide(anchors.row_top[row]) - x)) +
                     (anchors.column_log[row] + (wide(anchors.column_top[row]) - x)));
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) loss[s] = 0.5 * sum;
}

/// The logits become the gradient of the loss with respect to them, times *upstream share. (Bounds:
/// with room for 3 blocks, nothing spills.)
template <class T>
__global__ void __launch_bounds__(block_size, 3)
    logits_gradient_kernel(Samples samples, const T* upstream, double share, Anchors<T> anchors,
                           Stacked<T> logits) {
  const double scale = 0.5 * wide(*upstream) * share;
  each_row(samples, logits.rows, [&](Index s, Index i, Index row, int lane) {
    const Index n = samples.extent(s, logits.rows), begin = row - i;
    T* x = logits.x + row * logits.ld;
    const T top = anchors.row_top[row], lse = static_cast<T>(anchors.row_log[row]),
            own = static_cast<T>(scale * anchors.weight[row]);
    for (Index t = lane; t < n; t += warp_size) {
      if (t == i) continue;
      const Index column = begin + t;
      x[t] = own * exp(x[t] - top - lse) + static_cast<T>(scale * anchors.weight[column]) *
                                               exp(x[t] - anchors.column_top[column] -
                                                   static_cast<T>(anchors.column_log[column]));
    }
    if (lane != 0) return;
    // by expm1, p - 1 of the pair itself keeps its digits where p is nearly 1
    const double p = expm1((wide(x[i]) - wide(top)) - anchors.row_log[row]),
                 q = expm1((wide(x[i]) - wide(anchors.column_top[row])) - anchors.column_log[row]);
    x[i] = static_cast<T>(scale * anchors.weight[row] * (p + q));
  });
}

/// y = factor sum(x)
template <class T>
__global__ void __launch_bounds__(block_size)
    total_kernel(Index n, double factor, const double* x, T* y) {
  __shared__ double shared[block_warps];
  double s = 0;
  for (Index i = threadIdx.x; i < n; i += block_size) s += x[i];
  s = block_sum(s, shared);
  if (threadIdx.x == 0) *y = static_cast<T>(factor * s);
}

/// How the samples are cut into tiles.
template <class T>
struct Plan {
  static constexpr Index most_samples = 65535;  // of a grid's second and third extent
  Index limit, longest = 0;                     // words of the longest text
  Index samples = 0, words = 0;                 // of the largest tiles

  Plan(const TokenArgs<T>& a, Index tile) {
    for (Index s = 0; s < a.samples; ++s) longest = std::max(longest, a.words(s));
    limit = tile / std::max<Index>(1, std::max({a.regions, longest, a.dim}));
    each(a, [&](Index first, Index last) {
      samples = std::max(samples, last - first);
      words = std::max<Index>(words, a.offsets[last] - a.offsets[first]);
    });
  }
  /// Calls f(first sample, last sample) for runs of at most `limit` regions and as many words, or
  /// of one sample.
  template <class F>
  void each(const TokenArgs<T>& a, F&& f) const {
    for (Index first = 0; first < a.samples;) {
      Index last = first + 1;
      while (last < a.samples && last - first < most_samples &&
             (last + 1 - first) * a.regions <= limit &&
             a.offsets[last + 1] - a.offsets[first] <= limit)
        ++last;
      f(first, last);
      first = last;
    }
  }
};

/// Scratch memory of a call, all of it.
template <class T>
struct Buffers {
  std::size_t bytes;
  std::int32_t* offsets;  // (samples + 1)
  double* loss;           // (2, samples), of the directions
  T *alpha, *logits, *c;  // (anchors, others), (anchors, anchors), (anchors, dim)
  T *ds, *dc;             // (anchors, others), (anchors, dim)
  Anchors<T> anchors;

  Buffers(const TokenArgs<T>& a, const Plan<T>& plan, bool backward, std::byte* memory) {
    Pieces pieces(memory);
    const Index of_regions = plan.samples * a.regions, rows = std::max(of_regions, plan.words),
                attention = std::max(of_regions * plan.longest, plan.words * a.regions),
                square = std::max(of_regions * a.regions, plan.words * plan.longest);
    pieces.take(offsets, a.samples + 1);
    pieces.take(loss, 2 * a.samples);
    pieces.take(alpha, attention);
    pieces.take(logits, square);
    pieces.take(c, rows * a.dim);
    pieces.take(ds, backward ? attention : 0);
    pieces.take(dc, backward ? rows * a.dim : 0);
    pieces.take(anchors.row_top, rows);
    pieces.take(anchors.column_top, rows);
    pieces.take(anchors.row_log, rows);
    pieces.take(anchors.column_log, rows);
    pieces.take(anchors.length, rows);
    pieces.take(anchors.weight, rows);
    bytes = pieces.bytes();
  }
};

/// One call: its scratch memory, and both directions of each tile.
template <class T>
class Contrast {
 public:
  Contrast(const TokenArgs<T>& args, Index tile, bool backward, const char* operation)
      : a(args),
        plan(args, tile),
        name(operation),
        context(current()),
        memory(context, static_cast<Index>(Buffers<T>(a, plan, backward, nullptr).bytes)),
        buffers(a, plan, backward, memory.data()),
        inverse(static_cast<T>(1 / a.temperature)) {
    context.staging.upload(a.offsets, buffers.offsets,
                           static_cast<std::size_t>(a.samples + 1) * sizeof(std::int32_t));
  }

  /// The losses of the samples, and after each direction of a tile then(first sample, are its
  /// anchors words?).
  template <class F>
  void run(F&& then) {
    plan.each(a, [&](Index first, Index last) {
      count = last - first;
      samples = {buffers.offsets + first, a.regions};
      const Index first_word = a.offsets[first];
      const Stacked<const T> p{a.p + first * a.regions * a.dim, a.regions, a.dim},
          w{a.w + first_word * a.dim, of_words, a.dim};
      forward(w, p, a.word_weights ? a.word_weights + first_word : nullptr, buffers.loss + first);
      then(first, true);
      forward(p, w, a.region_weights ? a.region_weights + first * a.regions : nullptr,
              buffers.loss + a.samples + first);
      then(first, false);
    });
  }

  /// Adds the gradients of share times *upstream times the loss of the direction that ran last to
  /// da (anchors, dim) and db (others, dim); either may be null.
  void backward(const T* upstream, double share, T* da, T* db) {
    const Extent n = anchor.rows, m = other.rows;
    const Stacked<T> ds{buffers.ds, n, alpha.ld}, dc{buffers.dc, n, a.dim}, to_a{da, n, a.dim},
        to_b{db, m, a.dim};
    by_rows(n, logits_gradient_kernel<T>, samples, upstream, share, buffers.anchors, logits);
    if (da) product<false, false>(n, a.dim, n, inverse, read(logits), read(c), true, to_a);
    product<true, false>(n, a.dim, n, inverse, read(logits), anchor, false, dc);
    by_rows(n, to_unit_backward_kernel<T>, samples, a.dim, read(c),
            static_cast<const double*>(buffers.anchors.length), dc);
    product<false, true>(n, m, a.dim, T(1), read(dc), other, false, ds);
    by_rows(n, softmax_backward_kernel<T>, samples, m, read(alpha), ds);
    if (da) product<false, false>(n, a.dim, m, inverse, read(ds), other, true, to_a);
    if (!db) return;
    product<true, false>(m, a.dim, n, inverse, read(ds), anchor, true, to_b);
    product<true, false>(m, a.dim, n, T(1), read(alpha), read(dc), true, to_b);
  }

  void mean_loss(T* loss) const {
    total_kernel<<<1, block_size, 0, context.stream>>>(
        2 * a.samples, 1 / static_cast<double>(a.samples), buffers.loss, loss);
    launched();
  }

 private:
  void forward(Stacked<const T> anchors, Stacked<const T> others, const T* weights, double* loss) {
    anchor = anchors;
    other = others;
    const Extent n = anchor.rows, m = other.rows;
    alpha = {buffers.alpha, n, most(m)};
    logits = {buffers.logits, n, most(n)};
    c = {buffers.c, n, a.dim};
    product<false, true>(n, m, a.dim, inverse, anchor, other, false, alpha);
    by_rows(n, softmax_kernel<T>, samples, m, alpha);
    product<false, false>(n, a.dim, m, T(1), read(alpha), other, false, c);
    by_rows(n, to_unit_kernel<T>, samples, a.dim, c, buffers.anchors.length);
    product<false, true>(n, n, a.dim, inverse, anchor, read(c), false, logits);
    by_rows(n, row_sums_kernel<T>, samples, read(logits), buffers.anchors);
    if (most(n) > 0) {
      column_sums_kernel<T>
          <<<dim3(blocks_for(most(n), warp_size, most(n)), of_samples()), dim3(warp_size, slices),
             0, context.stream>>>(samples, read(logits), buffers.anchors);
      launched();
    }
    loss_kernel<<<of_samples(), block_size, 0, context.stream>>>(samples, read(logits), weights,
                                                                 buffers.anchors, loss);
    launched();
  }

  /// c (m, n) = factor op(x) op(y), or added to c; op(x) is (m, k).
  template <bool tx, bool ty>
  void product(Extent m, Extent n, Extent k, T factor, Stacked<const T> x, Stacked<const T> y,
               bool accumulate, Stacked<T> to) const {
    constexpr Index edge = 64;
    if (most(m) <= 0 || most(n) <= 0) return;
    const dim3 grid(blocks_for(most(n), edge, most(n)), blocks_for(most(m), edge, most(m)),
                    of_samples());
    products_kernel<T, tx, ty>
        <<<grid, block_size, 0, context.stream>>>(samples, m, n, k, factor, x, y, accumulate, to);
    launched();
  }
  template <class... P, class... X>
  void by_rows(Extent rows, void (*kernel)(P...), X... x) const {
    if (most(rows) <= 0) return;
    kernel<<<dim3(blocks_for(most(rows), block_warps), of_samples()), block_size, 0,
             context.stream>>>(x...);
    launched();
  }
  Index most(Extent e) const { return e == of_words ? plan.longest : e; }
  unsigned of_samples() const { return static_cast<unsigned>(count); }
  void launched() const { check(cudaGetLastError(), name); }

  const TokenArgs<T>& a;
  const Plan<T> plan;
  const char* const name;
  Context::State& context;
  const Scratch<std::byte> memory;
  const Buffers<T> buffers;
  const T inverse;  // of the temperature
  Index count = 0;  // samples of the tile
  Samples samples{};
  Stacked<const T> anchor{}, other{};
  Stacked<T> alpha{}, logits{}, c{};
};

}  // namespace

template <class T>
void TokenAlignment::token_alignment(const TokenArgs<T>& a, T* loss, Index tile) {
  if (a.samples <= 0)
    return for_each(1, "token_alignment", [=] __device__(Index) { *loss = T(0); });
  Contrast<T> contrast(a, tile, false, "token_alignment");
  contrast.run([](Index, bool) {});
  contrast.mean_loss(loss);
}

template <class T>
void TokenAlignment::token_alignment_backward(const TokenArgs<T>& a, const T* upstream, T* dp,
                                              T* dw, Index tile) {
  if (a.samples <= 0 || (!dp && !dw)) return;
  Contrast<T> contrast(a, tile, true, "token_alignment_backward");
  contrast.run([&](Index first, bool from_words) {
    T *regions = dp ? dp + first * a.regions * a.dim : nullptr,
      *words = dw ? dw + a.offsets[first] * a.dim : nullptr;
    contrast.backward(upstream, 1 / static_cast<double>(a.samples), from_words ? words : regions,
                      from_words ? regions : words);
  });
}

template <class T>
std::size_t TokenAlignment::token_alignment_scratch(const TokenArgs<T>& a, bool backward,
                                                    Index tile) {
  return a.samples > 0 ? Buffers<T>(a, Plan<T>(a, tile), backward, nullptr).bytes : 0;
}

#define HYBRIDMED_INSTANTIATE(T)                                                                \
  template void TokenAlignment::token_alignment(const TokenArgs<T>&, T*, Index);                \
  template void TokenAlignment::token_alignment_backward(const TokenArgs<T>&, const T*, T*, T*, \
                                                         Index);                                \
  template std::size_t TokenAlignment::token_alignment_scratch(const TokenArgs<T>&, bool, Index);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
