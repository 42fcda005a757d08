// Ragged attention. One block of 128 threads takes one tile of rows of one segment and head:
//
//   attention_kernel        a tile of queries; walks over tiles of keys with a running maximum and
//                           sum, so a score is computed once and never leaves the block
//   column_centres_kernel   what the backward pass takes from keys and values (see there)
//   query_gradient_kernel   a tile of queries -> dq, and each row's maximum, 1 / sum and delta
//   key_gradient_kernel     a tile of keys; walks over tiles of queries -> dk, dv, dbias
//
// The backward pass computes scores twice, and in return no two blocks add to one place. It
// normalises anew, as the reference does: a log-sum-exp, rounded, would make an offset that all
// scores of a row share cost digits of the gradient.
//
// How long a segment is only the device knows. The grid follows from the longest segment where that
// is said; blocks without a tile end at once, and blocks loop where there are more tiles.
//
// Half a warp computes a row of a tile. Thread x of 16 has the columns x, x + 16, ... of scores,
// and pieces of 16 bytes (x, x + 16, ...) of outputs. A warp has neighbouring rows, its two halves
// in turn: see `Lane`.
#include <cuda_pipeline.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "hybridmed/backend/cuda/attention.hpp"
#include "hybridmed/backend/cuda/device.cuh"

namespace hybridmed::cuda {

namespace {

constexpr int threads = 128, warps = threads / warp_size, lanes = 16;

template <class T>
constexpr int piece = 16 / static_cast<int>(sizeof(T));  // elements of one copy
/// From row to row of a tile in shared memory. One piece more than the row: 8 rows of one column
/// lie in 8 different groups of banks.
template <class T, int dim>
constexpr int pitch = dim + piece<T>;

/// The pitch of a tile of weights whose rows a half-warp writes along, so that the two halves of a
/// warp fill all banks; and of one it writes across.
template <class T, int n>
constexpr int along = sizeof(T) == 8 ? n + 2
                      : n % 32 == 0  ? n + 16
                                     : n;
template <class T, int n>
constexpr int across = n > 8 ? n + piece<T> : n;  // 8: only there does all just fit

/// Queries and keys per tile, by the bytes of a row; the shared memory they take; blocks that a
/// multiprocessor with 228 KiB of it shall hold at once, which bounds the registers. Every tile
/// fits in the 99 KiB that any device of compute capability 8.0 or newer gives to a block.
template <class T, int dim>
struct Tiles {
  static constexpr int row_bytes = dim * static_cast<int>(sizeof(T));
  static constexpr int pick(int b256, int b512, int b1024, int b2048) {
    return row_bytes <= 256 ? b256 : row_bytes <= 512 ? b512 : row_bytes <= 1024 ? b1024 : b2048;
  }
  static constexpr int most = sizeof(T) == 4 ? 3 : 2;
  static constexpr int resident(int bytes, int wanted = most) {
    const int fit = (228 << 10) / (bytes + 1024);
    return fit < 1 ? 1 : fit < wanted ? fit : wanted;
  }
  struct Forward {
    static constexpr int queries = pick(64, 64, 32, 16), keys = pick(64, 32, 16, 16),
                         weights_pitch = along<T, keys>,
                         bytes = sizeof(T) *
                                 ((queries + 2 * keys) * pitch<T, dim> + queries * weights_pitch),
                         blocks = resident(bytes);
  };
  struct QueryGradient {
    static constexpr int queries = pick(64, 32, 16, 8), keys = pick(32, 32, 16, 16),
                         weights_pitch = along<T, keys>,
                         bytes = sizeof(T) *
                                 (2 * (queries + keys) * pitch<T, dim> + queries * weights_pitch),
                         blocks = resident(bytes);
  };
  struct KeyGradient {
    static constexpr int queries = pick(32, 32, 16, 8), keys = pick(64, 32, 16, 16),
                         weights_pitch = across<T, queries>,
                         bytes = sizeof(T) *
                                 (2 * (queries + keys) * pitch<T, dim> + 2 * keys * weights_pitch),
                         blocks =
                             resident(bytes, pick(most, 2, most, most));  // 512: for its registers
  };
};

template <class T, int n>
struct alignas(n * sizeof(T)) Pack {
  T v[n];
};
template <int n, class T>
__device__ Pack<T, n> load(const T* p) {
  return *reinterpret_cast<const Pack<T, n>*>(p);
}

/// Where a thread stands in a tile of `rows` rows.
template <int rows>
struct Lane {
  static constexpr int count = rows / (2 * warps);  // rows of a thread
  int x, first_of_warp, first;
  __device__ Lane()
      : x(static_cast<int>(threadIdx.x) % lanes),
        first_of_warp(static_cast<int>(threadIdx.x) / warp_size * (rows / warps)),
        first(first_of_warp + static_cast<int>(threadIdx.x) / lanes % 2) {}
  __device__ int row(int r) const { return first + 2 * r; }
  __device__ int last_of_warp() const { return first_of_warp + rows / warps - 1; }
};

template <class T>
__device__ T half_warp_sum(T x) {
  for (int d = lanes / 2; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}
template <class T>
__device__ T half_warp_max(T x) {  // of the numbers; NaN only where all are
  for (int d = lanes / 2; d > 0; d /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}
__device__ bool half_warp_any(bool x) {
  const unsigned votes = __ballot_sync(0xffffffffu, x);
  return (votes >> (threadIdx.x % warp_size / lanes * lanes) & 0xffffu) != 0;
}

/// The rows of one segment.
struct Segment {
  int first, count;
  __device__ Segment(const std::int32_t* ranges, Index i)
      : first(ranges[2 * i]), count(ranges[2 * i + 1] - first) {}
};

/// Which tile, head and segment (or group of segments) a block works for.
struct Task {
  int tile, head, segment;
  __device__ Task(int tiles, Index heads)
      : tile(static_cast<int>(blockIdx.x) % tiles),
        head(static_cast<int>(blockIdx.x) / tiles % static_cast<int>(heads)),
        segment(static_cast<int>(blockIdx.x) / tiles / static_cast<int>(heads)) {}
};

/// What is added to the scaled products of one segment and head.
template <class T>
struct Addend {
  const T *bias, *mask;
  int area;
  __device__ Addend(const AttentionArgs<T>& a, Index segment, Index head)
      : bias(a.bias ? a.bias + head * a.area * a.area : nullptr),
        mask(a.mask ? a.mask + segment % a.windows * a.area * a.area : nullptr),
        area(static_cast<int>(a.area)) {}
  __device__ T operator()(int query, int key) const {
    T x = T(0);
    const Index at = Index{query} * area + key;
    if (bias) x += bias[at];
    if (mask) x += mask[at];
    return x;
  }
};

/// How many keys query i of a segment sees.
template <class T>
__device__ int seen_by(const AttentionArgs<T>& a, int i, int keys) {
  return a.causal ? min(keys, i + 1) : keys;
}

// ---- tiles

/// Begins to copy `count` rows of d columns to a tile, and zeros to the rest of it. `pieces`: the
/// addresses allow 16 bytes at a time. Every thread always copies the same columns.
template <int rows, int dim, class T>
__device__ void copy_rows(T* tile, const T* x, Index ld, int count, int d, bool pieces) {
  constexpr int w = piece<T>, per_row = dim / w;
  static_assert(threads % per_row == 0);
  const int c = static_cast<int>(threadIdx.x) % per_row * w;
#pragma unroll 4
  for (int r = static_cast<int>(threadIdx.x) / per_row; r < rows; r += threads / per_row) {
    T* to = tile + r * pitch<T, dim> + c;
    const T* from = x + r * ld + c;
    if (pieces) {
      const bool in = r < count && c < d;
      __pipeline_memcpy_async(to, in ? from : x, 16, in ? 0 : 16);
    } else {
      for (int i = 0; i < w; ++i) {
        const bool in = r < count && c + i < d;
        __pipeline_memcpy_async(to + i, in ? from + i : x, sizeof(T), in ? 0 : sizeof(T));
      }
    }
  }
}

/// Takes `centre` (d) from every row of a tile, the same elements that this thread has copied.
template <int rows, int dim, class T>
__device__ void subtract(T* tile, const T* centre, int d) {
  constexpr int w = piece<T>, per_row = dim / w;
  const int first = static_cast<int>(threadIdx.x) % per_row * w;
  T from[w];
  bool any = false;
#pragma unroll
  for (int i = 0; i < w; ++i) {
    from[i] = first + i < d ? centre[first + i] : T(0);
    any |= from[i] != T(0);
  }
  if (!any) return;  // as a rule
#pragma unroll 1
  for (int r = static_cast<int>(threadIdx.x) / per_row; r < rows; r += threads / per_row) {
    T* p = tile + r * pitch<T, dim> + first;
    auto x = load<w>(p);
#pragma unroll
    for (int i = 0; i < w; ++i) x.v[i] -= from[i];
    *reinterpret_cast<Pack<T, w>*>(p) = x;
  }
}

/// s = x y^T: the thread's rows of tile x with its rows of tile y, over d columns.
template <int dim, int R, int C, class T>
__device__ void products(const T* x, const T* y, int d, T (&s)[R][C]) {
  constexpr int w = piece<T>, ld = pitch<T, dim>;
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < C; ++c) s[r][c] = T(0);
#pragma unroll 1
  for (int k = 0; k < d; k += w) {
    Pack<T, w> b[C];
#pragma unroll
    for (int c = 0; c < C; ++c) b[c] = load<w>(y + lanes * c * ld + k);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const auto a = load<w>(x + 2 * r * ld + k);
#pragma unroll
      for (int c = 0; c < C; ++c)
#pragma unroll
        for (int e = 0; e < w; ++e) s[r][c] += a.v[e] * b[c].v[e];
    }
  }
}

/// Columns of an output row that a thread has, in pieces.
template <class T, int dim>
struct Columns {
  static constexpr int count = dim / lanes, width = count < piece<T> ? count : piece<T>,
                       pieces = count / width;
  static __device__ int first(int x, int part) { return (part * lanes + x) * width; }
};

/// y += weights x over rows [from, to) of tile x, as far as seen(r, row).
template <int dim, int R, class T, class F>
__device__ void accumulate(const T* weights, int weights_pitch, const T* x, int lane, int from,
                           int to, T (&y)[R][dim / lanes], F seen) {
  using Own = Columns<T, dim>;
  constexpr int w = piece<T>;
#pragma unroll 1
  for (int j = from; j < to; j += w) {
    Pack<T, w> a[R];
#pragma unroll
    for (int r = 0; r < R; ++r) a[r] = load<w>(weights + 2 * r * weights_pitch + j);
#pragma unroll
    for (int e = 0; e < w; ++e)
#pragma unroll
      for (int part = 0; part < Own::pieces; ++part) {
        const auto b = load<Own::width>(x + (j + e) * pitch<T, dim> + Own::first(lane, part));
#pragma unroll
        for (int r = 0; r < R; ++r) {
          if (!seen(r, j + e)) continue;
#pragma unroll
          for (int i = 0; i < Own::width; ++i) y[r][part * Own::width + i] += a[r].v[e] * b.v[i];
        }
      }
  }
}
struct AllSeen {
  __device__ bool operator()(int, int) const { return true; }
};

/// The same over the first `count` rows; of those, the tile's row r sees rows 0 ... r + ahead where
/// it is causal. What a row does not see takes no part, whatever it holds: 0 * NaN is NaN.
template <int dim, int rows, class T>
__device__ void accumulate_keys(const T* weights, int weights_pitch, const T* x, int count,
                                bool causal, int ahead, const Lane<rows>& lane,
                                T (&y)[Lane<rows>::count][dim / lanes]) {
  constexpr int w = piece<T>;
  const int end = causal ? min(count, lane.last_of_warp() + ahead + 1) : count,
            full = causal ? max(0, min(end, lane.first_of_warp + ahead + 1)) / w * w : end;
  accumulate<dim>(weights, weights_pitch, x, lane.x, 0, full, y, AllSeen{});
  const int last = lane.first + ahead;
  accumulate<dim>(weights, weights_pitch, x, lane.x, full, end, y,
                  [=](int r, int j) { return j <= last + 2 * r; });
}
/// The same with keys as rows of y: the tile's row r is seen by rows r - ahead, r - ahead + 1, ...
template <int dim, int rows, class T>
__device__ void accumulate_queries(const T* weights, int weights_pitch, const T* x, int count,
                                   bool causal, int ahead, const Lane<rows>& lane,
                                   T (&y)[Lane<rows>::count][dim / lanes]) {
  constexpr int w = piece<T>;
  const int begin = causal ? max(0, lane.first_of_warp - ahead) / w * w : 0,
            full =
                causal ? max(begin, (min(count, lane.last_of_warp() - ahead) + w - 1) / w * w) : 0;
  const int first = lane.first - ahead;
  accumulate<dim>(weights, weights_pitch, x, lane.x, begin, min(full, count), y,
                  [=](int r, int i) { return i >= first + 2 * r; });
  accumulate<dim>(weights, weights_pitch, x, lane.x, full, count, y, AllSeen{});
}

/// Writes a thread's part of a row, times `factor`.
template <int dim, class T>
__device__ void write_row(const T (&y)[dim / lanes], T factor, T* row, int d, int lane,
                          bool pieces) {
  using Own = Columns<T, dim>;
#pragma unroll
  for (int part = 0; part < Own::pieces; ++part) {
    const int c = Own::first(lane, part);
    Pack<T, Own::width> p;
#pragma unroll
    for (int i = 0; i < Own::width; ++i) p.v[i] = y[part * Own::width + i] * factor;
    if (pieces) {
      if (c < d) *reinterpret_cast<Pack<T, Own::width>*>(row + c) = p;
    } else {
#pragma unroll
      for (int i = 0; i < Own::width; ++i)
        if (c + i < d) row[c + i] = p.v[i];
    }
  }
}

template <class T, int dim>
constexpr bool fits =
    Tiles<T, dim>::Forward::bytes <= 99 << 10 && Tiles<T, dim>::QueryGradient::bytes <= 99 << 10 &&
    Tiles<T, dim>::KeyGradient::bytes <= 99 << 10;
static_assert(fits<float, 32> && fits<float, 64> && fits<float, 128> && fits<float, 256>);
static_assert(fits<double, 32> && fits<double, 64> && fits<double, 128> && fits<double, 256>);

extern __shared__ __align__(16) unsigned char memory[];

// ---- forward

template <class T, int dim, class Tile>
__global__ void __launch_bounds__(threads, Tile::blocks)
    attention_kernel(const AttentionArgs<T> a, int tiles, bool pieces) {
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<T, dim>,
                weights_ld = Tile::weights_pitch;
  using OfQueries = Lane<queries>;
  constexpr int R = OfQueries::count, C = keys / lanes;
  T *q = reinterpret_cast<T*>(memory), *k = q + queries * ld, *v = k + keys * ld,
    *weights = v + keys * ld;
  const OfQueries lane;
  const Task task(tiles, a.heads);
  const Segment qs(a.q_ranges, task.segment), ks(a.k_ranges, task.segment);
  const Addend<T> addend(a, task.segment, task.head);
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d;
  const T *k_rows = a.k + ks.first * a.ldk + column, *v_rows = a.v + ks.first * a.ldv + column;
  for (int i0 = task.tile * queries; i0 < qs.count; i0 += tiles * queries) {
    const int rows = min(queries, qs.count - i0),
              seen = seen_by(a, i0 + rows - 1, ks.count);  // by the last row
    const bool working = lane.first_of_warp < rows;
    __syncthreads();  // the tile before is no longer read
    copy_rows<queries, dim>(q, a.q + (qs.first + i0) * a.ldq + column, a.ldq, rows, d, pieces);
    copy_rows<keys, dim>(k, k_rows, a.ldk, seen, d, pieces);
    __pipeline_commit();
    T top[R], sum[R], y[R][dim / lanes] = {};
    unsigned admitted = 0;  // bit r: a key of row r is not masked out
#pragma unroll
    for (int r = 0; r < R; ++r) {
      top[r] = -INFINITY;
      sum[r] = T(0);
    }
    for (int j0 = 0; j0 < seen; j0 += keys) {
      // Values come while scores are made, and the next keys while values are used.
      __pipeline_wait_prior(0);
      __syncthreads();
      copy_rows<keys, dim>(v, v_rows + j0 * a.ldv, a.ldv, seen - j0, d, pieces);
      __pipeline_commit();
      T s[R][C];
      if (working) products<dim>(q + lane.first * ld, k + lane.x * ld, d, s);
      __syncthreads();
      if (j0 + keys < seen)
        copy_rows<keys, dim>(k, k_rows + (j0 + keys) * a.ldk, a.ldk, seen - j0 - keys, d, pieces);
      __pipeline_commit();
      if (working) {
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const int i = i0 + lane.row(r), limit = i < qs.count ? seen_by(a, i, ks.count) : 0;
          T highest = top[r];
#pragma unroll
          for (int c = 0; c < C; ++c) {
            const int j = j0 + lane.x + lanes * c;
            const bool in = j < limit;
            const T extra = in ? addend(i, j) : T(0);
            if (in && extra != T(-INFINITY)) admitted |= 1u << r;
            s[r][c] = in ? s[r][c] * a.scale + extra : T(-INFINITY);
            highest = max(highest, s[r][c]);
          }
          highest = half_warp_max(highest);
          const T shift = highest == T(-INFINITY) ? T(0) : highest,  // -inf - -inf is NaN
              correction = exp(top[r] - shift);
          top[r] = highest;
          sum[r] *= correction;
#pragma unroll
          for (int c = 0; c < dim / lanes; ++c) y[r][c] *= correction;
#pragma unroll
          for (int c = 0; c < C; ++c) {
            const T p = exp(s[r][c] - shift);
            sum[r] += p;
            weights[lane.row(r) * weights_ld + lane.x + lanes * c] = p;
          }
        }
      }
      __pipeline_wait_prior(1);
      __syncthreads();
      if (working)
        accumulate_keys<dim>(weights + lane.first * weights_ld, weights_ld, v, min(keys, seen - j0),
                             a.causal, i0 - j0, lane, y);
    }
    __pipeline_wait_prior(0);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int i = i0 + lane.row(r);
      const bool any = half_warp_any(admitted >> r & 1u);
      T total = half_warp_sum(sum[r]);
      if (i >= qs.count) continue;
      if (top[r] == T(-INFINITY)) total = NAN;  // no exponential, and yet not masked out
      const Index row = qs.first + i;
      if (lane.x == 0) a.lse[row * a.heads + task.head] = any ? top[r] + log(total) : -INFINITY;
      if (!any) {
#pragma unroll
        for (int c = 0; c < dim / lanes; ++c) y[r][c] = T(0);
      }
      write_row<dim>(y[r], any ? T(1) / total : T(1), a.out + row * a.ldo + column, d, lane.x,
                     pieces);
    }
  }
}

// ---- backward

/// What the backward pass keeps of each row and head, (heads, query rows).
template <class T>
struct RowStatistics {
  T *top, *inverse, *delta;  // of the centred keys and values; inverse = 0: every key masked out
};

/// The gradient stays the same when one vector is taken from all keys of a segment, or from all
/// values: the rows of ds sum to zero. Without their means, near-equal keys or values lose no
/// digits to cancellation. centres (2, segments, width) gets the mean of each column of k and v
/// whose values lie nearer to it than it lies to zero, and else 0: there nothing cancels, and one
/// large value, which a row may not even see, would take the digits of all others. 32 columns a
/// block, 8 threads each.
template <class T>
__global__ void __launch_bounds__(block_size)
    column_centres_kernel(const AttentionArgs<T> a, Index width, int strips, T* centres) {
  constexpr int columns = warp_size, parts = block_size / columns;
  __shared__ T shared[parts][columns + 1];
  const int x = static_cast<int>(threadIdx.x) % columns,
            part = static_cast<int>(threadIdx.x) / columns;
  const Index of_values = blockIdx.x % 2, column = blockIdx.x / 2 % strips * columns + x,
              segment = blockIdx.x / 2 / strips;
  const Segment ks(a.k_ranges, segment);
  const Index ld = of_values ? a.ldv : a.ldk;
  const T* rows = (of_values ? a.v : a.k) + ks.first * ld + column;
  const bool in = column < width;
  T sum = T(0), spread = T(0);
  if (in)
    for (int j = part; j < ks.count; j += parts) sum += rows[j * ld];
  shared[part][x] = sum;
  __syncthreads();
  sum = T(0);
  for (int p = 0; p < parts; ++p) sum += shared[p][x];
  const T mean = sum / static_cast<T>(ks.count);
  if (in)
    for (int j = part; j < ks.count; j += parts) spread = max(spread, abs(rows[j * ld] - mean));
  __syncthreads();
  shared[part][x] = spread;
  __syncthreads();
  for (int p = 0; p < parts; ++p) spread = max(spread, shared[p][x]);
  if (in && part == 0)
    centres[(of_values * a.segments + segment) * width + column] =
        isfinite(mean) && spread < abs(mean) ? mean : T(0);
}

template <class T, int dim, class Tile>
__global__ void __launch_bounds__(threads, Tile::blocks)
    query_gradient_kernel(const AttentionArgs<T> a, const AttentionGradients<T> g, const T* centres,
                          RowStatistics<T> statistics, int tiles, bool pieces) {
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<T, dim>,
                weights_ld = Tile::weights_pitch;
  using OfQueries = Lane<queries>;
  constexpr int R = OfQueries::count, C = keys / lanes;
  T *q = reinterpret_cast<T*>(memory), *dout = q + queries * ld, *k = dout + queries * ld,
    *v = k + keys * ld, *weights = v + keys * ld;
  const OfQueries lane;
  const Task task(tiles, a.heads);
  const Segment qs(a.q_ranges, task.segment), ks(a.k_ranges, task.segment);
  const Addend<T> addend(a, task.segment, task.head);
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d, width = a.heads * d;
  const T *k_rows = a.k + ks.first * a.ldk + column, *v_rows = a.v + ks.first * a.ldv + column;
  const T *k_centre = centres + task.segment * width + column,
          *v_centre = k_centre + a.segments * width;
  for (int i0 = task.tile * queries; i0 < qs.count; i0 += tiles * queries) {
    const int rows = min(queries, qs.count - i0), seen = seen_by(a, i0 + rows - 1, ks.count);
    const bool working = lane.first_of_warp < rows;
    __syncthreads();  // the tile before is no longer read
    copy_rows<queries, dim>(dout, g.dout + (qs.first + i0) * a.ldo + column, a.ldo, rows, d,
                            pieces);
    copy_rows<keys, dim>(v, v_rows, a.ldv, seen, d, pieces);
    __pipeline_commit();
    copy_rows<queries, dim>(q, a.q + (qs.first + i0) * a.ldq + column, a.ldq, rows, d, pieces);
    copy_rows<keys, dim>(k, k_rows, a.ldk, seen, d, pieces);
    __pipeline_commit();
    T top[R], sum[R], delta[R], y[R][dim / lanes] = {};
    unsigned any = 0;  // bit r: row r has a key
#pragma unroll
    for (int r = 0; r < R; ++r) {
      top[r] = -INFINITY;
      sum[r] = T(0);
      const int i = i0 + lane.row(r);
      double part = 0;
      if (i < qs.count) {
        const Index row = qs.first + i;
        const T *dout_row = g.dout + row * a.ldo + column, *out_row = a.out + row * a.ldo + column;
        for (int c = lane.x; c < d; c += lanes)
          part += static_cast<double>(dout_row[c]) *
                  (static_cast<double>(out_row[c]) - static_cast<double>(v_centre[c]));
        if (ks.count > 0 && a.lse[row * a.heads + task.head] != T(-INFINITY)) any |= 1u << r;
      }
      delta[r] = static_cast<T>(half_warp_sum(part));
    }
    for (int j0 = 0; j0 < seen; j0 += keys) {
      __pipeline_wait_prior(1);
      subtract<keys, dim>(v, v_centre, d);
      __syncthreads();
      T ds[R][C], s[R][C];
      if (working) products<dim>(dout + lane.first * ld, v + lane.x * ld, d, ds);
      __pipeline_wait_prior(0);
      subtract<keys, dim>(k, k_centre, d);
      __syncthreads();
      if (j0 + keys < seen)
        copy_rows<keys, dim>(v, v_rows + (j0 + keys) * a.ldv, a.ldv, seen - j0 - keys, d, pieces);
      __pipeline_commit();
      if (working) {
        products<dim>(q + lane.first * ld, k + lane.x * ld, d, s);
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const int i = i0 + lane.row(r), limit = i < qs.count ? seen_by(a, i, ks.count) : 0;
          T highest = top[r];
#pragma unroll
          for (int c = 0; c < C; ++c) {
            const int j = j0 + lane.x + lanes * c;
            s[r][c] = j < limit ? s[r][c] * a.scale + addend(i, j) : T(-INFINITY);
            highest = max(highest, s[r][c]);
          }
          highest = half_warp_max(highest);
          const T shift = highest == T(-INFINITY) ? T(0) : highest,
                  correction = exp(top[r] - shift);
          top[r] = highest;
          sum[r] *= correction;
#pragma unroll
          for (int c = 0; c < dim / lanes; ++c) y[r][c] *= correction;
#pragma unroll
          for (int c = 0; c < C; ++c) {
            const T p = any >> r & 1u ? exp(s[r][c] - shift) : T(0);
            sum[r] += p;
            weights[lane.row(r) * weights_ld + lane.x + lanes * c] =
                j0 + lane.x + lanes * c < limit ? p * (ds[r][c] - delta[r]) : T(0);
          }
        }
        __syncwarp();  // a warp reads its own rows only
        accumulate_keys<dim>(weights + lane.first * weights_ld, weights_ld, k, min(keys, seen - j0),
                             a.causal, i0 - j0, lane, y);
      }
      __syncthreads();
      if (j0 + keys < seen)
        copy_rows<keys, dim>(k, k_rows + (j0 + keys) * a.ldk, a.ldk, seen - j0 - keys, d, pieces);
      __pipeline_commit();
    }
    __pipeline_wait_prior(0);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int i = i0 + lane.row(r);
      const T total = half_warp_sum(sum[r]), inverse = any >> r & 1u ? T(1) / total : T(0);
      if (i >= qs.count) continue;
      const Index row = qs.first + i;
      if (lane.x == 0) {
        const Index at = task.head * a.query_rows + row;
        statistics.top[at] = top[r];
        statistics.inverse[at] = inverse;
        statistics.delta[at] = delta[r];
      }
      write_row<dim>(y[r], inverse * a.scale, g.dq + row * a.ldq + column, d, lane.x, pieces);
    }
  }
}

/// A block takes its tile of keys of every segment of its group. bias_parts (groups, heads, area,
/// area), or null: sums of ds over the segments of a group, in their order. Without it, every group
/// is one segment.
template <class T, int dim, class Tile>
__global__ void __launch_bounds__(threads, Tile::blocks)
    key_gradient_kernel(const AttentionArgs<T> a, const AttentionGradients<T> g, const T* centres,
                        const RowStatistics<T> statistics, Index groups, T* bias_parts, int tiles,
                        bool pieces) {
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<T, dim>,
                weights_ld = Tile::weights_pitch;
  using OfQueries = Lane<queries>;
  using OfKeys = Lane<keys>;
  constexpr int R = OfQueries::count, C = keys / lanes;
  T *k = reinterpret_cast<T*>(memory), *v = k + keys * ld, *q = v + keys * ld,
    *dout = q + queries * ld, *p_weights = dout + queries * ld,
    *ds_weights = p_weights + keys * weights_ld;  // (keys, queries)
  const OfQueries lane;
  const OfKeys key_lane;
  const Task task(tiles, a.heads);  // its segment is a group
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d, width = a.heads * d;
  T* bias_part =
      bias_parts ? bias_parts + (task.segment * a.heads + task.head) * a.area * a.area : nullptr;
  const int end = static_cast<int>((task.segment + 1) * a.segments / groups);
  for (int segment = static_cast<int>(task.segment * a.segments / groups); segment < end;
       ++segment) {
    const Segment qs(a.q_ranges, segment), ks(a.k_ranges, segment);
    const Addend<T> addend(a, segment, task.head);
    const T *q_rows = a.q + qs.first * a.ldq + column,
            *dout_rows = g.dout + qs.first * a.ldo + column;
    const Index first_statistic = task.head * a.query_rows + qs.first;
    for (int j0 = task.tile * keys; j0 < ks.count; j0 += tiles * keys) {
      const int cols = min(keys, ks.count - j0);
      const bool working = key_lane.first_of_warp < cols;
      const int begin = a.causal ? j0 / queries * queries : 0;  // no query before sees these keys
      __syncthreads();                                          // the tile before is no longer read
      copy_rows<keys, dim>(k, a.k + (ks.first + j0) * a.ldk + column, a.ldk, cols, d, pieces);
      copy_rows<keys, dim>(v, a.v + (ks.first + j0) * a.ldv + column, a.ldv, cols, d, pieces);
      copy_rows<queries, dim>(dout, dout_rows + begin * a.ldo, a.ldo, qs.count - begin, d, pieces);
      copy_rows<queries, dim>(q, q_rows + begin * a.ldq, a.ldq, qs.count - begin, d, pieces);
      __pipeline_commit();
      const T* centre = centres + segment * width + column;
      __pipeline_wait_prior(0);
      subtract<keys, dim>(k, centre, d);
      subtract<keys, dim>(v, centre + a.segments * width, d);
      T dk[OfKeys::count][dim / lanes] = {}, dv[OfKeys::count][dim / lanes] = {};
      for (int i0 = begin; i0 < qs.count; i0 += queries) {
        const int rows = min(queries, qs.count - i0);
        const bool scoring = lane.first_of_warp < rows;
        __pipeline_wait_prior(1);
        __syncthreads();
        T ds[R][C], s[R][C];
        if (scoring) products<dim>(dout + lane.first * ld, v + lane.x * ld, d, ds);
        __pipeline_wait_prior(0);
        __syncthreads();
        if (scoring) {
          products<dim>(q + lane.first * ld, k + lane.x * ld, d, s);
#pragma unroll
          for (int r = 0; r < R; ++r) {
            const int i = i0 + lane.row(r), limit = i < qs.count ? seen_by(a, i, ks.count) : 0;
            const Index at = first_statistic + min(i, qs.count - 1);
            const T top = statistics.top[at], inverse = statistics.inverse[at],
                    delta = statistics.delta[at];
#pragma unroll
            for (int c = 0; c < C; ++c) {
              const int j = j0 + lane.x + lanes * c;
              T p = T(0), slope = T(0);
              if (j < limit) {
                if (inverse != T(0)) p = exp(s[r][c] * a.scale + addend(i, j) - top) * inverse;
                slope = p * (ds[r][c] - delta);
                if (bias_part) bias_part[i * a.area + j] += slope;  // always by this thread
              }
              const int to = (lane.x + lanes * c) * weights_ld + lane.row(r);
              p_weights[to] = p;
              ds_weights[to] = slope;
            }
          }
        }
        __syncthreads();
        const int next = i0 + queries;
        if (working)
          accumulate_queries<dim>(p_weights + key_lane.first * weights_ld, weights_ld, dout, rows,
                                  a.causal, i0 - j0, key_lane, dv);
        __syncthreads();
        if (next < qs.count)
          copy_rows<queries, dim>(dout, dout_rows + next * a.ldo, a.ldo, qs.count - next, d,
                                  pieces);
        __pipeline_commit();
        if (working)
          accumulate_queries<dim>(ds_weights + key_lane.first * weights_ld, weights_ld, q, rows,
                                  a.causal, i0 - j0, key_lane, dk);
        __syncthreads();
        if (next < qs.count)
          copy_rows<queries, dim>(q, q_rows + next * a.ldq, a.ldq, qs.count - next, d, pieces);
        __pipeline_commit();
      }
      __pipeline_wait_prior(0);
#pragma unroll
      for (int r = 0; r < OfKeys::count; ++r) {
        const int j = j0 + key_lane.row(r);
        if (j >= ks.count) continue;
        const Index row = ks.first + j;
        write_row<dim>(dv[r], T(1), g.dv + row * a.ldv + column, d, lane.x, pieces);
        write_row<dim>(dk[r], a.scale, g.dk + row * a.ldk + column, d, lane.x, pieces);
      }
    }
  }
}

// ---- host

/// f(integral_constant<int, dim>) with the smallest tile width that holds d columns.
template <class F>
void with_dim(Index d, const char* operation, F f) {
  if (d <= 32) return f(std::integral_constant<int, 32>{});
  if (d <= 64) return f(std::integral_constant<int, 64>{});
  if (d <= 128) return f(std::integral_constant<int, 128>{});
  if (d <= 256) return f(std::integral_constant<int, 256>{});
  fail("cuda", operation, "a head has " + std::to_string(d) + " columns, more than 256",
       "more heads");
}

template <class... P, class... Arguments>
void launch(Context::State& c, const char* operation, void (*kernel)(P...), Index blocks, int block,
            std::size_t bytes, Arguments... arguments) {
  if (blocks > INT32_MAX)
    fail("cuda", operation, std::to_string(blocks) + " tiles are more than a grid has blocks");
  if (bytes > std::size_t{48} << 10)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)),
          operation);
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(block), bytes, c.stream>>>(
      arguments...);
  check(cudaGetLastError(), operation);
}

/// Blocks along a segment.
int tiles_for(Index longest, int rows) {
  if (longest < 0) return 4;  // not said
  return static_cast<int>(
      std::max<Index>(1, std::min<Index>((longest + rows - 1) / rows, 1 << 20)));
}

/// May rows of d columns move in pieces of 16 bytes?
template <class T>
bool in_pieces(Index d, const T* x, Index ld) {
  return reinterpret_cast<std::uintptr_t>(x) % 16 == 0 && d % piece<T> == 0 && ld % piece<T> == 0;
}

/// sum (n) += the rows of parts (groups, n), in their order.
template <class T>
void add_groups(Index groups, Index n, const char* operation, const T* parts, T* sum) {
  for_each(n, operation, [=] __device__(Index i) {
    T s = T(0);
#pragma unroll 8
    for (Index group = 0; group < groups; ++group) s += parts[group * n + i];
    sum[i] += s;
  });
}

}  // namespace

template <class T>
void Attention::attention(const AttentionArgs<T>& a) {
  constexpr const char* name = "attention";
  Context::State& c = current();
  with_dim(a.head_dim, name, [&]<int dim>(std::integral_constant<int, dim>) {
    if (a.segments <= 0 || a.heads <= 0) return;
    using Tile = typename Tiles<T, dim>::Forward;
    const int tiles = tiles_for(a.longest_queries, Tile::queries);
    const Index d = a.head_dim;
    const bool pieces = in_pieces(d, a.q, a.ldq) && in_pieces(d, a.k, a.ldk) &&
                        in_pieces(d, a.v, a.ldv) && in_pieces<T>(d, a.out, a.ldo);
    launch(c, name, attention_kernel<T, dim, Tile>, a.segments * a.heads * tiles, threads,
           Tile::bytes, a, tiles, pieces);
  });
}

template <class T>
void Attention::attention_backward(const AttentionArgs<T>& a, const AttentionGradients<T>& g) {
  constexpr const char* name = "attention_backward";
  Context::State& c = current();
  with_dim(a.head_dim, name, [&]<int dim>(std::integral_constant<int, dim>) {
    if (a.segments <= 0 || a.heads <= 0) return;
    if (a.query_rows < 0)
      fail("cuda", name, "AttentionArgs::query_rows is not set",
           "it cannot be read from the ranges without waiting for the device");
    using Tile = Tiles<T, dim>;
    using ForQueries = typename Tile::QueryGradient;
    using ForKeys = typename Tile::KeyGradient;
    const Index d = a.head_dim, width = a.heads * d;
    const bool pieces = in_pieces(d, a.q, a.ldq) && in_pieces(d, a.k, a.ldk) &&
                        in_pieces(d, a.v, a.ldv) && in_pieces(d, g.dout, a.ldo) &&
                        in_pieces<T>(d, g.dq, a.ldq) && in_pieces<T>(d, g.dk, a.ldk) &&
                        in_pieces<T>(d, g.dv, a.ldv);

    const Scratch<T> centres(c, 2 * a.segments * width);
    const Index strips = (width + warp_size - 1) / warp_size;
    if (strips > 0)
      launch(c, name, column_centres_kernel<T>, 2 * a.segments * strips, block_size, 0, a, width,
             static_cast<int>(strips), centres.data());

    const Index per_head = a.heads * a.query_rows;
    const Scratch<T> rows(c, 3 * per_head);
    const RowStatistics<T> statistics{rows.data(), rows.data() + per_head,
                                      rows.data() + 2 * per_head};
    int tiles = tiles_for(a.longest_queries, ForQueries::queries);
    launch(c, name, query_gradient_kernel<T, dim, ForQueries>, a.segments * a.heads * tiles,
           threads, ForQueries::bytes, a, g, centres.data(), statistics, tiles, pieces);

    // The bias gradient sums over segments: in groups, then group by group. There are as many as
    // fill a large device, but no more than 64 MiB of partial sums.
    const Index plane = a.heads * a.area * a.area;
    Index groups = a.segments;
    if (g.dbias) {
      constexpr Index wanted = 1024, most_bytes = Index{64} << 20;
      groups = std::min({groups, (wanted + a.heads - 1) / a.heads,
                         most_bytes / std::max<Index>(1, plane * Index{sizeof(T)})});
      groups = std::max<Index>(groups, 1);
    }
    const Scratch<T> bias_parts(c, g.dbias ? groups * plane : 0);
    if (g.dbias)
      check(cudaMemsetAsync(bias_parts.data(), 0,
                            static_cast<std::size_t>(groups * plane) * sizeof(T), c.stream),
            name);
    tiles = tiles_for(a.longest_keys, ForKeys::keys);
    launch(c, name, key_gradient_kernel<T, dim, ForKeys>, groups * a.heads * tiles, threads,
           ForKeys::bytes, a, g, centres.data(), statistics, groups,
           g.dbias ? bias_parts.data() : nullptr, tiles, pieces);
    if (g.dbias) add_groups(groups, plane, name, bias_parts.data(), g.dbias);
  });
}

#define HYBRIDMED_INSTANTIATE(T)                                       \
  template void Attention::attention(const AttentionArgs<T>&);         \
  template void Attention::attention_backward(const AttentionArgs<T>&, \
                                              const AttentionGradients<T>&);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
