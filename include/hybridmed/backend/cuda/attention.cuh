#pragma once
// Ragged attention, what its passes share: the place of a block in a segment and head, tiles of
// rows in shared memory, products of tiles. Never included by a host compiler.
//
// How long a segment is only the device knows. The grid follows from the longest segment where that
// is said; blocks without a tile end at once, and blocks loop where there are more tiles.
//
// A block has 128 threads, and half a warp computes a row of a tile. Thread x of 16 has the columns
// x, x + 16, ... of scores, and pieces of 16 bytes (x, x + 16, ...) of outputs. A warp has
// neighbouring rows, its two halves in turn: see `Lane`.
#include <cuda_pipeline.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "hybridmed/backend/arguments.hpp"
#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda::tiles {

inline constexpr int threads = 128, warps = threads / warp_size, lanes = 16;

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
                         blocks = resident(bytes, row_bytes <= 128 ? 2 : most);  // registers
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
                         blocks = resident(
                             bytes, pick(most, 2, 2, most));  // 512, 1024: for their registers
  };
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
inline __device__ bool half_warp_any(bool x) {
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
  using A = accumulator_of<T>;
  const A *bias, *mask;
  int area;
  __device__ Addend(const AttentionArgs<T>& a, Index segment, Index head)
      : bias(a.bias ? a.bias + head * a.area * a.area : nullptr),
        mask(a.mask ? a.mask + segment % a.windows * a.area * a.area : nullptr),
        area(static_cast<int>(a.area)) {}
  /// Of one query, `offset` keys on.
  struct Row {
    const A *bias, *mask;
    __device__ A operator()(int key) const {
      A x = A(0);
      if (bias) x += bias[key];
      if (mask) x += mask[key];
      return x;
    }
  };
  __device__ Row row(int query, int offset = 0) const {
    const Index at = Index{query} * area + offset;
    return {bias ? bias + at : nullptr, mask ? mask + at : nullptr};
  }
  __device__ A operator()(int query, int key) const { return row(query)(key); }
};

/// How many keys query i of a segment sees.
template <class T>
__device__ int seen_by(const AttentionArgs<T>& a, int i, int keys) {
  return a.causal ? min(keys, i + 1) : keys;
}

/// What the backward pass keeps of each row and head, (heads, query rows).
template <class T>
struct RowStatistics {
  T *top, *inverse, *delta;  // of the centred keys and values; inverse = 0: every key masked out
};

// ---- tiles

/// Begins to copy `count` rows of d columns to a tile, and zeros to the rest of it. `pieces`: the
/// addresses allow 16 bytes at a time. Every thread always copies the same columns. A tile is of A,
/// bf16 or the scalar of sums; what is not moved in 4 bytes or more, or is widened for it, is there
/// when this returns.
template <int rows, int dim, int block = threads, class A, class T>
__device__ void copy_rows(A* tile, const T* x, Index ld, int count, int d, bool pieces) {
  constexpr int w = piece<A>, per_row = dim / w;
  constexpr bool same = std::is_same_v<A, T>;
  static_assert(block % per_row == 0);
  const int c = static_cast<int>(threadIdx.x) % per_row * w,
            first = static_cast<int>(threadIdx.x) / per_row;
  constexpr int step = block / per_row;
  if (same && pieces) {
#pragma unroll 4
    for (int r = first; r < rows; r += step) {
      const bool in = r < count && c < d;
      __pipeline_memcpy_async(tile + r * pitch<A, dim> + c, in ? x + r * ld + c : x, 16,
                              in ? 0 : 16);
    }
  } else if constexpr (same && sizeof(T) >= 4) {
#pragma unroll 1
    for (int r = first; r < rows; r += step)
      for (int i = 0; i < w; ++i) {
        const bool in = r < count && c + i < d;
        __pipeline_memcpy_async(tile + r * pitch<A, dim> + c + i, in ? x + r * ld + c + i : x,
                                sizeof(T), in ? 0 : sizeof(T));
      }
  } else {
#pragma unroll 1
    for (int r = first; r < rows; r += step) {
      const T* from = x + r * ld + c;
      Pack<T, w> part{};
      if (pieces) {
        if (r < count && c < d) part = load<w>(from);
      } else {
#pragma unroll
        for (int i = 0; i < w; ++i)
          if (r < count && c + i < d) part.v[i] = from[i];
      }
      A* to = tile + r * pitch<A, dim> + c;
      if constexpr (same)
        *reinterpret_cast<Pack<A, w>*>(to) = part;
      else
        *reinterpret_cast<Pack<A, w>*>(to) = widen(part);
    }
  }
}

/// Takes `centre` (d) from every row of a tile, the same elements that this thread has copied.
template <int rows, int dim, int block = threads, class T>
__device__ void subtract(T* tile, const accumulator_of<T>* centre, int d) {
  using A = accumulator_of<T>;
  constexpr int w = piece<T>, per_row = dim / w;
  const int first = static_cast<int>(threadIdx.x) % per_row * w;
  A from[w];
  bool any = false;
#pragma unroll
  for (int i = 0; i < w; ++i) {
    from[i] = first + i < d ? centre[first + i] : A(0);
    any |= from[i] != A(0);
  }
  if (!any) return;  // as a rule
#pragma unroll 1
  for (int r = static_cast<int>(threadIdx.x) / per_row; r < rows; r += block / per_row) {
    T* p = tile + r * pitch<T, dim> + first;
    auto x = load<w>(p);
#pragma unroll
    for (int i = 0; i < w; ++i) x.v[i] = narrow<T>(widen(x.v[i]) - from[i]);
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
template <int dim, class A, class T>
__device__ void write_row(const A (&y)[dim / lanes], A factor, T* row, int d, int lane,
                          bool pieces) {
  using Own = Columns<A, dim>;
#pragma unroll
  for (int part = 0; part < Own::pieces; ++part) {
    const int c = Own::first(lane, part);
    Pack<T, Own::width> p;
#pragma unroll
    for (int i = 0; i < Own::width; ++i) p.v[i] = narrow<T>(y[part * Own::width + i] * factor);
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

// ---- host

/// f(integral_constant<int, dim>) with the smallest tile width that holds d columns, `least` or
/// more.
template <int least, class F>
void with_dim(Index d, const char* operation, F f) {
  if constexpr (least <= 32)
    if (d <= 32) return f(std::integral_constant<int, 32>{});
  if constexpr (least <= 64)
    if (d <= 64) return f(std::integral_constant<int, 64>{});
  if constexpr (least <= 128)
    if (d <= 128) return f(std::integral_constant<int, 128>{});
  if (d <= 256) return f(std::integral_constant<int, 256>{});
  fail("cuda", operation, "a head has " + std::to_string(d) + " columns, more than 256",
       "more heads");
}

/// The narrowest tile of these kernels. What is narrower in bf16 is multiplied on tensor cores
/// (attention_bf16.cuh); a wider head in bf16 is widened for them.
template <class T>
constexpr int least_dim = std::is_same_v<T, bfloat16> ? 256 : 32;

/// Blocks along a segment.
inline int tiles_for(Index longest, int rows) {
  if (longest < 0) return 4;  // not said
  return static_cast<int>(
      std::max<Index>(1, std::min<Index>((longest + rows - 1) / rows, 1 << 20)));
}

/// May rows of d columns move in pieces of 16 bytes?
template <class T>
bool in_pieces(Index d, const T* x, Index ld) {
  return reinterpret_cast<std::uintptr_t>(x) % 16 == 0 && d % piece<T> == 0 && ld % piece<T> == 0;
}

}  // namespace hybridmed::cuda::tiles
