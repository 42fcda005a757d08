#include "hybridmed/backend/cuda/rows.hpp"

#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

namespace {

constexpr Index rows_per_chunk =
    256;  // of column sums: a fixed split, so that the order of a sum is fixed

/// Sums over a chunk of rows, one thread a column: part[(chunk * values + k) * cols + c] = sum of
/// term(r, c)[k].
template <int values, class F>
__global__ void __launch_bounds__(block_size)
    column_partial_kernel(Index rows, Index cols, F term, double* part) {
  const Index c = blockIdx.x * Index{block_size} + threadIdx.x, first = blockIdx.y * rows_per_chunk,
              last = min(rows, first + rows_per_chunk);
  if (c >= cols) return;
  double s[values] = {};
  for (Index r = first; r < last; ++r) term(r, c, s);
  for (int k = 0; k < values; ++k) part[(blockIdx.y * Index{values} + k) * cols + c] = s[k];
}

/// Column sums of `values` quantities at once: term(r, c, s) adds to s[k]; done(c, s) takes the
/// sums.
template <int values, class F, class G>
void column_sums(Index rows, Index cols, const char* operation, F term, G done) {
  Context::State& context = current();
  if (rows <= 0 || cols <= 0) return;
  const Index chunks = (rows + rows_per_chunk - 1) / rows_per_chunk;
  if (chunks > 65535)
    fail("cuda", operation, "more than " + std::to_string(65535 * rows_per_chunk) + " rows");
  Scratch<double> part(context, chunks * values * cols);
  double* p = part.data();
  column_partial_kernel<values>
      <<<dim3(blocks_for(cols, block_size, cols), static_cast<unsigned>(chunks)), block_size, 0,
         context.stream>>>(rows, cols, term, p);
  check(cudaGetLastError(), operation);
  for_each(cols, operation, [=] __device__(Index c) {
    double s[values] = {};
    for (Index chunk = 0; chunk < chunks; ++chunk)
      for (int k = 0; k < values; ++k) s[k] += p[(chunk * values + k) * cols + c];
    done(c, s);
  });
}

/// Neighbours that a lane takes of a row; by the extent alone, since it orders sums. Float and
/// double rows fill a warp's accesses one by one.
template <class X, class T>
constexpr int lane_columns = sizeof(X) == 2 || sizeof(T) == 2 ? 8 : 1;

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

/// One warp a row, two passes: the mean, then the squared distances from it. A lane takes w
/// neighbours at a time.
template <int w, class X, class T, class A = accumulator_of<T>>
__global__ void __launch_bounds__(block_size)
    layer_norm_kernel(Index rows, Index cols, bool packed, const X* x, const A* gain, const A* bias,
                      A eps, T* y, A* mean, A* rstd) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size * w;
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{block_warps}) {
    const X* xr = x + r * cols;
    A s = 0, q = 0;
    for (Index c = lane; c < cols; c += warp_size * w) {
      const auto v = load<w>(xr + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) s += v.v[e];
    }
    const A m = warp_sum(s) / static_cast<A>(cols);
    for (Index c = lane; c < cols; c += warp_size * w) {
      const auto v = load<w>(xr + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) q += (v.v[e] - m) * (v.v[e] - m);
    }
    const A k = A(1) / sqrt(warp_sum(q) / static_cast<A>(cols) + eps);
    if (lane == 0) {
      mean[r] = m;
      rstd[r] = k;
    }
    for (Index c = lane; c < cols; c += warp_size * w) {
      auto v = load<w>(xr + c, packed);
      const auto g = load<w>(gain + c, packed), b = load<w>(bias + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) v.v[e] = (v.v[e] - m) * k * g.v[e] + b.v[e];
      store<w>(v, y + r * cols + c, packed);
    }
  }
}

template <int w, class X, class T, class A = accumulator_of<T>>
__global__ void __launch_bounds__(block_size)
    layer_norm_backward_kernel(Index rows, Index cols, bool packed, const X* x, const A* gain,
                               const A* mean, const A* rstd, const T* dy, X* dx) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size * w;
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{block_warps}) {
    const A m = mean[r], k = rstd[r];
    const X* xr = x + r * cols;
    const T* dr = dy + r * cols;
    A a = 0, b = 0;
    for (Index c = lane; c < cols; c += warp_size * w) {
      const auto v = load<w>(xr + c, packed), d = load<w>(dr + c, packed),
                 g = load<w>(gain + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) {
        const A slope = d.v[e] * g.v[e];
        a += slope;
        b += slope * (v.v[e] - m) * k;
      }
    }
    a = warp_sum(a) / static_cast<A>(cols);
    b = warp_sum(b) / static_cast<A>(cols);
    for (Index c = lane; c < cols; c += warp_size * w) {
      auto v = load<w>(xr + c, packed);
      const auto d = load<w>(dr + c, packed), g = load<w>(gain + c, packed);
#pragma unroll
      for (int e = 0; e < w; ++e) v.v[e] = (d.v[e] * g.v[e] - a - (v.v[e] - m) * k * b) * k;
      store<w>(v, dx + r * cols + c, packed);
    }
  }
}

/// f(integral_constant<int, w>, packed) with the neighbours that a lane takes of rows of X and T.
template <class X, class T, class F>
void by_lanes(Index cols, std::initializer_list<const void*> addresses, F f) {
  constexpr int most = lane_columns<X, T>;
  bool packed = true;
  for (const void* p : addresses) packed = packed && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  if constexpr (most > 1)
    if (cols % most == 0) return f(std::integral_constant<int, most>{}, packed);
  f(std::integral_constant<int, 1>{}, packed);
}

}  // namespace

template <class T>
void Rows::add_vector(Index rows, Index cols, const T* x, const accumulator_of<T>* v, T* y) {
  current_for<T>("add_vector");
  for_each(rows * cols, "add_vector",
           [=] __device__(Index i) { y[i] = narrow<T>(widen(x[i]) + v[i % cols]); });
}
template <class T>
void Rows::column_sum(Index rows, Index cols, const T* x, accumulator_of<T>* y) {
  using A = accumulator_of<T>;
  current_for<T>("column_sum");
  column_sums<1>(
      rows, cols, "column_sum",
      [=] __device__(Index r, Index c, double* s) { s[0] += wide(x[r * cols + c]); },
      [=] __device__(Index c, const double* s) { y[c] += static_cast<A>(s[0]); });
}
void Rows::repeat_indices(Index count, const std::int32_t* first, Index repeats, Index period,
                          std::int32_t* y) {
  for_each(count * repeats, "repeat_indices", [=] __device__(Index i) {
    const std::int32_t at = first[i % count];
    y[i] = at < 0 ? at : at + static_cast<std::int32_t>(i / count * period);
  });
}

template <class T>
void Rows::transpose(Index batch, Index rows, Index cols, const T* x, T* y) {
  current_for<T>("transpose");
  for_each(batch * rows * cols, "transpose", [=] __device__(Index i) {
    const Index r = i % rows, c = i / rows % cols, b = i / rows / cols;
    y[i] = x[(b * rows + r) * cols + c];
  });
}

template <class X, class T>
void Rows::layer_norm(Index rows, Index cols, const X* x, const accumulator_of<T>* gain,
                      const accumulator_of<T>* bias, double eps, T* y, accumulator_of<T>* mean,
                      accumulator_of<T>* rstd) {
  constexpr const char* name = "layer_norm";
  Context::State& c = current_for<T>(name);
  if (rows <= 0) return;
  by_lanes<X, T>(cols, {x, gain, bias, y}, [&]<int w>(std::integral_constant<int, w>, bool packed) {
    layer_norm_kernel<w><<<blocks_for(rows, block_warps), block_size, 0, c.stream>>>(
        rows, cols, packed, x, gain, bias, static_cast<accumulator_of<T>>(eps), y, mean, rstd);
    check(cudaGetLastError(), name);
  });
}
template <class X, class T>
void Rows::layer_norm_backward(Index rows, Index cols, const X* x, const accumulator_of<T>* gain,
                               const accumulator_of<T>* mean, const accumulator_of<T>* rstd,
                               const T* dy, X* dx, accumulator_of<T>* dgain,
                               accumulator_of<T>* dbias) {
  using A = accumulator_of<T>;
  constexpr const char* name = "layer_norm_backward";
  Context::State& c = current_for<T>(name);
  if (rows <= 0) return;
  if (dgain || dbias)
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
  if (!dx) return;
  by_lanes<X, T>(cols, {x, gain, dy, dx}, [&]<int w>(std::integral_constant<int, w>, bool packed) {
    layer_norm_backward_kernel<w><<<blocks_for(rows, block_warps), block_size, 0, c.stream>>>(
        rows, cols, packed, x, gain, mean, rstd, dy, dx);
    check(cudaGetLastError(), name);
  });
}

#define HYBRIDMED_INSTANTIATE_NORM(X, T)                                                      \
  template void Rows::layer_norm(Index, Index, const X*, const accumulator_of<T>*,            \
                                 const accumulator_of<T>*, double, T*, accumulator_of<T>*,    \
                                 accumulator_of<T>*);                                         \
  template void Rows::layer_norm_backward(Index, Index, const X*, const accumulator_of<T>*,   \
                                          const accumulator_of<T>*, const accumulator_of<T>*, \
                                          const T*, X*, accumulator_of<T>*, accumulator_of<T>*);
#define HYBRIDMED_INSTANTIATE(T)                                                        \
  template void Rows::add_vector(Index, Index, const T*, const accumulator_of<T>*, T*); \
  template void Rows::column_sum(Index, Index, const T*, accumulator_of<T>*);           \
  template void Rows::transpose(Index, Index, Index, const T*, T*);                     \
  HYBRIDMED_INSTANTIATE_NORM(T, T)
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
HYBRIDMED_INSTANTIATE_NORM(float, bfloat16)
#undef HYBRIDMED_INSTANTIATE
#undef HYBRIDMED_INSTANTIATE_NORM

}  // namespace hybridmed::cuda
