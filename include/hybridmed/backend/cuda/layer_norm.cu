// LayerNorm: a warp takes a row, each lane some neighbours at a time. Where registers hold what a
// lane needs of a row, it is read once; the gradients of gain and bias are summed by the kernel
// that makes dx, over the rows of a block first.
#include "hybridmed/backend/cuda/layer_norm.hpp"

#include "hybridmed/backend/cuda/column_sums.cuh"
#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

namespace {

/// Neighbours that a lane takes of a row; by the extent alone, since it orders sums. Float and
/// double rows fill a warp's accesses one by one.
template <class X, class T>
constexpr int lane_columns = sizeof(X) == 2 || sizeof(T) == 2 ? 8 : 1;
/// Numbers of a row that a lane holds in registers: rows of 32 times as many are read once.
constexpr int few = 8, most = 32;

/// w neighbours in the scalar of sums. `packed`: the address allows one access.
template <int w, class T>
__device__ Pack<accumulator_of<T>, w> load(const T* p, bool packed) {
  if (w > 1 && packed) return widen(*reinterpret_cast<const Pack<T, w>*>(p));
  Pack<accumulator_of<T>, w> x;
#pragma unroll
  for (int e = 0; e < w; ++e) x.v[e] = widen(p[e]);
  return x;
}
template <int w, class T>
__device__ void store(const Pack<accumulator_of<T>, w>& x, T* p, bool packed) {
  const Pack<T, w> y = narrow<T>(x);
  if (w > 1 && packed) {
    *reinterpret_cast<Pack<T, w>*>(p) = y;
    return;
  }
#pragma unroll
  for (int e = 0; e < w; ++e) p[e] = y.v[e];
}

/// Calls f(group, column) for the groups of w neighbours that the lane takes of a row, at most
/// `groups` where that is not 0.
template <int w, int groups, class F>
__device__ void each_group(Index cols, F f) {
  const Index first = threadIdx.x % warp_size * w;
  if constexpr (groups == 0) {
    for (Index c = first; c < cols; c += warp_size * w) f(0, c);
  } else {
#pragma unroll
    for (int g = 0; g < groups; ++g)
      if (const Index c = first + g * warp_size * w; c < cols) f(g, c);
  }
}

/// What a lane needs of a row: held where `groups` is not 0, else loaded each time.
template <int w, int groups, class A, class Load>
struct LaneRow {
  Load load;
  Pack<A, w> held[groups > 0 ? groups : 1];

  __device__ LaneRow(Index cols, Load load_) : load(load_) {
    if constexpr (groups > 0)
      each_group<w, groups>(cols, [&](int g, Index c) { held[g] = load(c); });
  }
  __device__ Pack<A, w> at(int g, Index c) const {
    if constexpr (groups > 0) return held[g];
    return load(c);
  }
};
template <int w, int groups, class A, class Load>
__device__ LaneRow<w, groups, A, Load> lane_row(Index cols, Load load) {
  return {cols, load};
}

/// x (rows, cols); y too, or null: the sum of both is normalised, and kept in `sum`. Two passes
/// over a row: the mean, then the squared distances from it.
template <int w, int groups, class X, class T, class A = accumulator_of<T>>
__global__ void __launch_bounds__(block_size)
    layer_norm_kernel(Index rows, Index cols, bool packed, const X* x, const X* y, X* sum,
                      const A* gain, const A* bias, A eps, T* norm, A* mean, A* rstd) {
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{block_warps}) {
    const Index row = r * cols;
    const auto values = lane_row<w, groups, A>(cols, [=](Index c) {
      auto v = load<w>(x + row + c, packed);
      if (!y) return v;
      const auto more = load<w>(y + row + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) v.v[e] += more.v[e];
      return v;
    });
    A s = 0, q = 0;
    each_group<w, groups>(cols, [&](int g, Index c) {
      const auto v = values.at(g, c);
#pragma unroll
      for (int e = 0; e < w; ++e) s += v.v[e];
    });
    const A m = warp_sum(s) / static_cast<A>(cols);
    each_group<w, groups>(cols, [&](int g, Index c) {
      const auto v = values.at(g, c);
#pragma unroll
      for (int e = 0; e < w; ++e) q += (v.v[e] - m) * (v.v[e] - m);
    });
    const A k = A(1) / sqrt(warp_sum(q) / static_cast<A>(cols) + eps);
    if (threadIdx.x % warp_size == 0) {
      mean[r] = m;
      rstd[r] = k;
    }
    each_group<w, groups>(cols, [&](int g, Index c) {
      auto v = values.at(g, c);
      if (y) store<w>(v, sum + row + c, packed);
      const auto scale = load<w>(gain + c, packed), shift = load<w>(bias + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) v.v[e] = (v.v[e] - m) * k * scale.v[e] + shift.v[e];
      store<w>(v, norm + row + c, packed);
    });
  }
}

/// Rows of a block whose gradients of gain and bias are summed before they leave it.
constexpr Index block_rows = 64;

/// part (blocks, 2, cols): of each block the sums of dy times the normalised x, and of dy; null:
/// not wanted, or by others. `more` (rows, cols), or null, is added to dx, and may be it. A block
/// takes block_rows rows.
template <int w, int groups, bool sums, class X, class T, class A = accumulator_of<T>>
__global__ void __launch_bounds__(block_size)
    layer_norm_backward_kernel(Index rows, Index cols, bool packed, const X* x, const A* gain,
                               const A* mean, const A* rstd, const T* dy, const X* more, X* dx,
                               A* part) {
  constexpr int held = sums ? groups : 1;
  // One by one, the numbers of four rows do not fit beside their addresses: dy is loaded again.
  constexpr int slope_groups = sums && w == 1 ? 0 : groups;
  Pack<A, w> of_gain[held] = {}, of_bias[held] = {};
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const Index end = min(rows, (blockIdx.x + Index{1}) * block_rows);
  for (Index r = blockIdx.x * block_rows + warp; r < end; r += block_warps) {
    const Index row = r * cols;
    const A m = mean[r], k = rstd[r];
    const auto values =
        lane_row<w, groups, A>(cols, [=](Index c) { return load<w>(x + row + c, packed); });
    const auto slopes =
        lane_row<w, slope_groups, A>(cols, [=](Index c) { return load<w>(dy + row + c, packed); });
    A a = 0, b = 0;
    each_group<w, groups>(cols, [&](int g, Index c) {
      const auto v = values.at(g, c), d = slopes.at(g, c), scale = load<w>(gain + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) {
        const A unit = (v.v[e] - m) * k, slope = d.v[e] * scale.v[e];
        a += slope;
        b += slope * unit;
        if constexpr (sums) {
          of_gain[g].v[e] += d.v[e] * unit;
          of_bias[g].v[e] += d.v[e];
        }
      }
    });
    if (!dx) continue;
    a = warp_sum(a) / static_cast<A>(cols);
    b = warp_sum(b) / static_cast<A>(cols);
    each_group<w, groups>(cols, [&](int g, Index c) {
      auto v = values.at(g, c);
      const auto d = slopes.at(g, c), scale = load<w>(gain + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) v.v[e] = (d.v[e] * scale.v[e] - a - (v.v[e] - m) * k * b) * k;
      if (more) {
        const auto other = load<w>(more + row + c, packed);
#pragma unroll
        for (int e = 0; e < w; ++e) v.v[e] += other.v[e];
      }
      store<w>(v, dx + row + c, packed);
    });
  }
  if constexpr (sums) {
    // Warp after warp adds its sums: a fixed order.
    __shared__ A total[2][warp_size * most];
    for (int turn = 0; turn < block_warps; ++turn) {
      if (warp == turn)
        each_group<w, groups>(cols, [&](int g, Index c) {
#pragma unroll
          for (int e = 0; e < w; ++e) {
            total[0][c + e] = (turn > 0 ? total[0][c + e] : A(0)) + of_gain[g].v[e];
            total[1][c + e] = (turn > 0 ? total[1][c + e] : A(0)) + of_bias[g].v[e];
          }
        });
      __syncthreads();
    }
    A* to = part + blockIdx.x * 2 * cols;
    for (Index i = threadIdx.x; i < 2 * cols; i += block_size) to[i] = total[i / cols][i % cols];
  }
}

/// f(integral_constant<int, w>, integral_constant<int, groups>, packed) with the neighbours that a
/// lane takes of rows of X and T, and how many of them it holds.
template <class X, class T, class F>
void by_lanes(Index cols, std::initializer_list<const void*> addresses, F f) {
  bool packed = true;
  for (const void* p : addresses) packed = packed && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  const auto by_length = [&]<int w>(std::integral_constant<int, w> width) {
    if (cols <= warp_size * few) return f(width, std::integral_constant<int, few / w>{}, packed);
    if (cols <= warp_size * most) return f(width, std::integral_constant<int, most / w>{}, packed);
    f(width, std::integral_constant<int, 0>{}, packed);
  };
  constexpr int widest = lane_columns<X, T>;
  if constexpr (widest > 1)
    if (cols % widest == 0) return by_length(std::integral_constant<int, widest>{});
  by_length(std::integral_constant<int, 1>{});
}

template <class X, class T, class A = accumulator_of<T>>
void normalise(const char* name, Index rows, Index cols, const X* x, const X* y, X* sum,
               const A* gain, const A* bias, double eps, T* norm, A* mean, A* rstd) {
  Context::State& c = current_for<T>(name);
  if (rows <= 0) return;
  by_lanes<X, T>(
      cols, {x, y, sum, gain, bias, norm},
      [&]<int w, int groups>(std::integral_constant<int, w>, std::integral_constant<int, groups>,
                             bool packed) {
        layer_norm_kernel<w, groups><<<blocks_for(rows, block_warps), block_size, 0, c.stream>>>(
            rows, cols, packed, x, y, sum, gain, bias, static_cast<A>(eps), norm, mean, rstd);
        check(cudaGetLastError(), name);
      });
}

template <class X, class T, class A = accumulator_of<T>>
void send_back(const char* name, Index rows, Index cols, const X* x, const A* gain, const A* mean,
               const A* rstd, const T* dy, const X* more, X* dx, A* dgain, A* dbias) {
  Context::State& context = current_for<T>(name);
  if (rows <= 0 || cols <= 0) return;
  const Index blocks = (rows + block_rows - 1) / block_rows;
  if (blocks > INT32_MAX) fail("cuda", name, std::to_string(rows) + " rows are too many");
  // Four times as many numbers stay in registers then; those of doubles would not fit.
  const bool sums = dgain || dbias,
             at_once = sums && sizeof(A) == sizeof(float) && cols <= warp_size * most;
  if (sums && !at_once)
    column_sums<2>(
        rows, cols, name,
        [=] __device__(Index r, Index k, double* s) {
          const double d = wide(dy[r * cols + k]);
          s[0] += d * wide(widen(x[r * cols + k]) - mean[r]) * wide(rstd[r]);
          s[1] += d;
        },
        [=] __device__(Index k, const double* s) {
          if (dgain) dgain[k] += static_cast<A>(s[0]);
          if (dbias) dbias[k] += static_cast<A>(s[1]);
        });
  if (!dx && !at_once) return;
  const Scratch<A> part(context, at_once ? blocks * 2 * cols : 0);
  A* const parts = part.data();
  by_lanes<X, T>(cols, {x, gain, dy, more, dx},
                 [&]<int w, int groups>(std::integral_constant<int, w>,
                                        std::integral_constant<int, groups>, bool packed) {
                   const auto launch = [&]<bool together>(std::bool_constant<together>) {
                     layer_norm_backward_kernel<w, groups, together>
                         <<<static_cast<unsigned>(blocks), block_size, 0, context.stream>>>(
                             rows, cols, packed, x, gain, mean, rstd, dy, more, dx, parts);
                     check(cudaGetLastError(), name);
                   };
                   if constexpr (groups > 0 && sizeof(A) == sizeof(float))
                     if (at_once) return launch(std::true_type{});
                   launch(std::false_type{});
                 });
  if constexpr (std::is_same_v<A, float>)
    if (at_once)
      for_each(cols, name, [=] __device__(Index k) {
        double of_gain = 0, of_bias = 0;
        for (Index b = 0; b < blocks; ++b) {
          of_gain += wide(parts[2 * b * cols + k]);
          of_bias += wide(parts[(2 * b + 1) * cols + k]);
        }
        if (dgain) dgain[k] += static_cast<A>(of_gain);
        if (dbias) dbias[k] += static_cast<A>(of_bias);
      });
}

}  // namespace

template <class X, class T>
void LayerNorm::layer_norm(Index rows, Index cols, const X* x, const accumulator_of<T>* gain,
                           const accumulator_of<T>* bias, double eps, T* y, accumulator_of<T>* mean,
                           accumulator_of<T>* rstd) {
  normalise<X, T>("layer_norm", rows, cols, x, nullptr, nullptr, gain, bias, eps, y, mean, rstd);
}
template <class T>
bool LayerNorm::add_norm(Index rows, Index cols, const accumulator_of<T>* x,
                         const accumulator_of<T>* y, const accumulator_of<T>* gain,
                         const accumulator_of<T>* bias, double eps, accumulator_of<T>* sum, T* norm,
                         accumulator_of<T>* mean, accumulator_of<T>* rstd) {
  normalise<accumulator_of<T>, T>("add_norm", rows, cols, x, y, sum, gain, bias, eps, norm, mean,
                                  rstd);
  return true;
}

template <class X, class T>
void LayerNorm::layer_norm_backward(Index rows, Index cols, const X* x,
                                    const accumulator_of<T>* gain, const accumulator_of<T>* mean,
                                    const accumulator_of<T>* rstd, const T* dy, X* dx,
                                    accumulator_of<T>* dgain, accumulator_of<T>* dbias) {
  send_back<X, T>("layer_norm_backward", rows, cols, x, gain, mean, rstd, dy, nullptr, dx, dgain,
                  dbias);
}
template <class T>
bool LayerNorm::add_norm_backward(Index rows, Index cols, const accumulator_of<T>* sum,
                                  const accumulator_of<T>* gain, const accumulator_of<T>* mean,
                                  const accumulator_of<T>* rstd, const T* dnorm,
                                  const accumulator_of<T>* dsum, accumulator_of<T>* dx,
                                  accumulator_of<T>* dgain, accumulator_of<T>* dbias) {
  send_back<accumulator_of<T>, T>("add_norm_backward", rows, cols, sum, gain, mean, rstd, dnorm,
                                  dsum, dx, dgain, dbias);
  return true;
}

#define HYBRIDMED_INSTANTIATE_NORM(X, T)                                                        \
  template void LayerNorm::layer_norm(Index, Index, const X*, const accumulator_of<T>*,         \
                                      const accumulator_of<T>*, double, T*, accumulator_of<T>*, \
                                      accumulator_of<T>*);                                      \
  template void LayerNorm::layer_norm_backward(                                                 \
      Index, Index, const X*, const accumulator_of<T>*, const accumulator_of<T>*,               \
      const accumulator_of<T>*, const T*, X*, accumulator_of<T>*, accumulator_of<T>*);
#define HYBRIDMED_INSTANTIATE(T)                                                                  \
  HYBRIDMED_INSTANTIATE_NORM(T, T)                                                                \
  template bool LayerNorm::add_norm(Index, Index, const accumulator_of<T>*,                       \
                                    const accumulator_of<T>*, const accumulator_of<T>*,           \
                                    const accumulator_of<T>*, double, accumulator_of<T>*, T*,     \
                                    accumulator_of<T>*, accumulator_of<T>*);                      \
  template bool LayerNorm::add_norm_backward(                                                     \
      Index, Index, const accumulator_of<T>*, const accumulator_of<T>*, const accumulator_of<T>*, \
      const accumulator_of<T>*, const T*, const accumulator_of<T>*, accumulator_of<T>*,           \
      accumulator_of<T>*, accumulator_of<T>*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
HYBRIDMED_INSTANTIATE_NORM(float, bfloat16)
#undef HYBRIDMED_INSTANTIATE
#undef HYBRIDMED_INSTANTIATE_NORM

}  // namespace hybridmed::cuda
