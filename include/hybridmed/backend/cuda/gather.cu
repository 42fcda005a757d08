// Rows: picked, added up by target, mixed, normalised; patches. A row is shared by a group of
// neighbouring threads (RowGroups), 16 bytes at a time where it allows that.
#include "hybridmed/backend/cuda/gather.hpp"

#include "hybridmed/backend/cuda/order.cuh"
#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

namespace {

/// x (targets, cols), index (rows) -> y (rows, cols); cols in packs.
template <class V>
__global__ void __launch_bounds__(block_size)
    gather_rows_kernel(Index rows, Index cols, int bits, const V* x, const std::int32_t* index,
                       V* y) {
  const RowPlace at(bits);
  for (Index r = at.row; r < rows; r += at.rows_step) {
    const Index from = index[r];
    for (Index c = at.col; c < cols; c += at.cols_step)
      y[r * cols + c] = from < 0 ? V{} : x[from * cols + c];
  }
}

/// dy (rows, cols), dx (targets, cols); cols in packs. A group takes one place of the order: where
/// a target begins there, it sums all its sources, several of them read at a time.
template <class V, class W>
__global__ void __launch_bounds__(block_size)
    scatter_add_rows_kernel(Index cols, int bits, const V* dy, TargetOrder order, W* dx) {
  constexpr int ahead = 8;
  const RowPlace at(bits);
  const Index n = order.count();
  const std::int32_t *targets = order.targets(), *sources = order.sources();
  for (Index i = at.row; i < n; i += at.rows_step) {
    const std::int32_t target = targets[i];
    if (target < 0 || (i > 0 && targets[i - 1] == target)) continue;
    for (Index c = at.col; c < cols; c += at.cols_step) {
      W sum = dx[target * cols + c];
      int length = ahead;
      for (Index j = i; length == ahead; j += ahead) {
        V part[ahead];
        length = 0;
#pragma unroll
        for (int k = 0; k < ahead; ++k)
          if (j + k < n && targets[j + k] == target) {
            part[k] = dy[sources[j + k] * cols + c];
            length = k + 1;
          }
#pragma unroll
        for (int k = 0; k < ahead; ++k)
          if (k < length)
            for (int e = 0; e < V::size; ++e) sum.v[e] += widen(part[k].v[e]);
      }
      dx[target * cols + c] = sum;
    }
  }
}

/// x (batch, inputs, cols) -> y (batch, outputs, cols); cols in packs.
template <class V, class A = accumulator_of<typename V::scalar>>
__global__ void __launch_bounds__(block_size)
    mix_rows_kernel(Index rows, Index outputs, Index inputs, Index cols, int bits,
                    const std::int32_t* start, const std::int32_t* column, const A* weight,
                    const V* x, V* y) {
  const RowPlace at(bits);
  for (Index r = at.row; r < rows; r += at.rows_step) {
    const Index item = r / outputs, o = r - item * outputs;
    const std::int32_t begin = start[o], end = start[o + 1];
    const V* from = x + item * inputs * cols;
    for (Index c = at.col; c < cols; c += at.cols_step) {
      Pack<A, V::size> sum{};
#pragma unroll 4
      for (std::int32_t k = begin; k < end; ++k) {
        const A w = weight[k];
        const auto part = widen(from[column[k] * cols + c]);
        for (int e = 0; e < V::size; ++e) sum.v[e] += w * part.v[e];
      }
      y[r * cols + c] = narrow<typename V::scalar>(sum);
    }
  }
}

/// One warp a row.
template <class T, class A = accumulator_of<T>>
__global__ void __launch_bounds__(block_size)
    normalize_rows_kernel(Index rows, Index cols, const T* x, T* y, A* norm) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{block_warps}) {
    const T* xr = x + r * cols;
    double s = 0;
    for (Index c = lane; c < cols; c += warp_size) {
      const auto v = static_cast<double>(xr[c]);
      s += v * v;
    }
    s = sqrt(warp_sum(s));
    const double length = s > 1e-12 ? s : 1e-12, factor = 1 / length;
    if (lane == 0) norm[r] = static_cast<A>(length);
    for (Index c = lane; c < cols; c += warp_size)
      y[r * cols + c] = narrow<T>(static_cast<A>(wide(xr[c]) * factor));
  }
}

template <class T, class A = accumulator_of<T>>
__global__ void __launch_bounds__(block_size)
    normalize_rows_backward_kernel(Index rows, Index cols, const T* y, const A* norm, const T* dy,
                                   T* dx) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{block_warps}) {
    const T *yr = y + r * cols, *dr = dy + r * cols;
    const A length = norm[r];
    double s = 0;
    if (length > A(1e-12))  // below it the divisor is a constant
      for (Index c = lane; c < cols; c += warp_size)
        s += static_cast<double>(yr[c]) * static_cast<double>(dr[c]);
    s = warp_sum(s);
    const double factor = 1 / static_cast<double>(length);
    for (Index c = lane; c < cols; c += warp_size)
      dx[r * cols + c] = narrow<T>(static_cast<A>((wide(dr[c]) - wide(yr[c]) * s) * factor));
  }
}

/// One block a patch: x (batch, channels, side, side) -> y (batch, side / patch squared, channels *
/// patch * patch); columns in packs, `width` and `across` being those of a line and of a patch.
template <class V>
__global__ void __launch_bounds__(block_size)
    patchify_kernel(Index patches, Index channels, Index side, Index width, unsigned patch,
                    unsigned across, const V* x, V* y) {
  const Index n = side / patch;
  for (Index p = blockIdx.x; p < patches; p += gridDim.x) {
    const Index line = p / n, b = line / n, i = line - b * n, j = p - line * n;
    const V* corner = x + (b * channels * side + i * patch) * width + j * across;
    const auto elements = static_cast<unsigned>(channels) * patch * across;
    for (unsigned e = threadIdx.x; e < elements; e += block_size) {
      const unsigned run = e / across, v = e - run * across, c = run / patch, u = run - c * patch;
      y[p * elements + e] = corner[(c * side + u) * width + v];
    }
  }
}

}  // namespace

template <class T>
void Gather::gather_rows(Index rows, Index cols, const T* x, const std::int32_t* index, T* y) {
  constexpr const char* name = "gather_rows";
  Context::State& context = current_for<T>(name);
  if (rows <= 0 || cols <= 0) return;
  by_packs<T>(cols, {x, y}, [&]<class V>(V, Index n) {
    const RowGroups groups(rows, n);
    gather_rows_kernel<<<groups.grid, block_size, 0, context.stream>>>(
        rows, n, groups.bits, reinterpret_cast<const V*>(x), index, reinterpret_cast<V*>(y));
    check(cudaGetLastError(), name);
  });
}

template <class T>
void Gather::scatter_add_rows(Index rows, Index cols, const T* dy, const std::int32_t* index,
                              accumulator_of<T>* dx) {
  constexpr const char* name = "scatter_add_rows";
  Context::State& context = current_for<T>(name);
  if (rows <= 0 || cols <= 0) return;
  const InTargetOrder by_target(context, rows, index, name);
  by_packs<T>(cols, {dy, dx}, [&]<class V>(V, Index n) {
    const RowGroups groups(rows, n);
    scatter_add_rows_kernel<<<groups.grid, block_size, 0, context.stream>>>(
        n, groups.bits, reinterpret_cast<const V*>(dy), by_target.order(),
        reinterpret_cast<Pack<accumulator_of<T>, V::size>*>(dx));
    check(cudaGetLastError(), name);
  });
}

template <class T>
void Gather::mix_rows(Index batch, Index outputs, Index inputs, Index cols,
                      const std::int32_t* start, const std::int32_t* column,
                      const accumulator_of<T>* weight, const T* x, T* y) {
  constexpr const char* name = "mix_rows";
  Context::State& context = current_for<T>(name);
  const Index rows = batch * outputs;
  if (rows <= 0 || cols <= 0) return;
  by_packs<T>(cols, {x, y}, [&]<class V>(V, Index n) {
    const RowGroups groups(rows, n);
    mix_rows_kernel<<<groups.grid, block_size, 0, context.stream>>>(
        rows, outputs, inputs, n, groups.bits, start, column, weight, reinterpret_cast<const V*>(x),
        reinterpret_cast<V*>(y));
    check(cudaGetLastError(), name);
  });
}

template <class T>
void Gather::normalize_rows(Index rows, Index cols, const T* x, T* y, accumulator_of<T>* norm) {
  constexpr const char* name = "normalize_rows";
  Context::State& context = current_for<T>(name);
  if (rows <= 0) return;
  normalize_rows_kernel<<<blocks_for(rows, block_warps), block_size, 0, context.stream>>>(
      rows, cols, x, y, norm);
  check(cudaGetLastError(), name);
}
template <class T>
void Gather::normalize_rows_backward(Index rows, Index cols, const T* y,
                                     const accumulator_of<T>* norm, const T* dy, T* dx) {
  constexpr const char* name = "normalize_rows_backward";
  Context::State& context = current_for<T>(name);
  if (rows <= 0) return;
  normalize_rows_backward_kernel<<<blocks_for(rows, block_warps), block_size, 0, context.stream>>>(
      rows, cols, y, norm, dy, dx);
  check(cudaGetLastError(), name);
}

template <class T>
void Gather::patchify(Index batch, Index channels, Index side, Index patch, const T* x, T* y) {
  constexpr const char* name = "patchify";
  Context::State& context = current_for<T>(name);
  if (batch <= 0 || channels <= 0 || side < patch) return;
  if (channels * patch * patch > INT32_MAX)
    fail("cuda", name, "patches of more than " + std::to_string(INT32_MAX) + " numbers");
  const Index n = side / patch, patches = batch * n * n;
  by_packs<T>(patch, {x, x + side, y}, [&]<class V>(V, Index across) {
    patchify_kernel<<<blocks_for(patches, 1), block_size, 0, context.stream>>>(
        patches, channels, side, side / V::size, static_cast<unsigned>(patch),
        static_cast<unsigned>(across), reinterpret_cast<const V*>(x), reinterpret_cast<V*>(y));
    check(cudaGetLastError(), name);
  });
}

#define HYBRIDMED_INSTANTIATE(T)                                                                  \
  template void Gather::gather_rows(Index, Index, const T*, const std::int32_t*, T*);             \
  template void Gather::scatter_add_rows(Index, Index, const T*, const std::int32_t*,             \
                                         accumulator_of<T>*);                                     \
  template void Gather::mix_rows(Index, Index, Index, Index, const std::int32_t*,                 \
                                 const std::int32_t*, const accumulator_of<T>*, const T*, T*);    \
  template void Gather::normalize_rows(Index, Index, const T*, T*, accumulator_of<T>*);           \
  template void Gather::normalize_rows_backward(Index, Index, const T*, const accumulator_of<T>*, \
                                                const T*, T*);                                    \
  template void Gather::patchify(Index, Index, Index, Index, const T*, T*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
