#include "hybridmed/backend/cuda/device.cuh"
#include "hybridmed/backend/cuda/rows.hpp"

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

/// One warp a row, two passes: the mean, then the squared distances from it.
template <class T>
__global__ void __launch_bounds__(block_size)
    layer_norm_kernel(Index rows, Index cols, const T* x, const T* gain, const T* bias, T eps, T* y,
                      T* mean, T* rstd) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{block_warps}) {
    const T* xr = x + r * cols;
    T s = 0, q = 0;
    for (Index c = lane; c < cols; c += warp_size) s += xr[c];
    const T m = warp_sum(s) / static_cast<T>(cols);
    for (Index c = lane; c < cols; c += warp_size) q += (xr[c] - m) * (xr[c] - m);
    const T k = T(1) / sqrt(warp_sum(q) / static_cast<T>(cols) + eps);
    if (lane == 0) {
      mean[r] = m;
      rstd[r] = k;
    }
    for (Index c = lane; c < cols; c += warp_size)
      y[r * cols + c] = (xr[c] - m) * k * gain[c] + bias[c];
  }
}

template <class T>
__global__ void __launch_bounds__(block_size)
    layer_norm_backward_kernel(Index rows, Index cols, const T* x, const T* gain, const T* mean,
                               const T* rstd, const T* dy, T* dx) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (Index r = blockIdx.x * Index{block_warps} + threadIdx.x / warp_size; r < rows;
       r += gridDim.x * Index{block_warps}) {
    const T m = mean[r], k = rstd[r], *xr = x + r * cols, *dr = dy + r * cols;
    T a = 0, b = 0;
    for (Index c = lane; c < cols; c += warp_size) {
      const T d = dr[c] * gain[c];
      a += d;
      b += d * (xr[c] - m) * k;
    }
    a = warp_sum(a) / static_cast<T>(cols);
    b = warp_sum(b) / static_cast<T>(cols);
    for (Index c = lane; c < cols; c += warp_size)
      dx[r * cols + c] = (dr[c] * gain[c] - a - (xr[c] - m) * k * b) * k;
  }
}

}  // namespace

template <class T>
void Rows::add_vector(Index rows, Index cols, const T* x, const T* v, T* y) {
  for_each(rows * cols, "add_vector", [=] __device__(Index i) { y[i] = x[i] + v[i % cols]; });
}
template <class T>
void Rows::column_sum(Index rows, Index cols, const T* x, T* y) {
  column_sums<1>(
      rows, cols, "column_sum",
      [=] __device__(Index r, Index c, double* s) { s[0] += static_cast<double>(x[r * cols + c]); },
      [=] __device__(Index c, const double* s) { y[c] += static_cast<T>(s[0]); });
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
  for_each(batch * rows * cols, "transpose", [=] __device__(Index i) {
    const Index r = i % rows, c = i / rows % cols, b = i / rows / cols;
    y[i] = x[(b * rows + r) * cols + c];
  });
}

template <class T>
void Rows::layer_norm(Index rows, Index cols, const T* x, const T* gain, const T* bias, double eps,
                      T* y, T* mean, T* rstd) {
  Context::State& c = current();
  if (rows <= 0) return;
  layer_norm_kernel<<<blocks_for(rows, block_warps), block_size, 0, c.stream>>>(
      rows, cols, x, gain, bias, static_cast<T>(eps), y, mean, rstd);
  check(cudaGetLastError(), "layer_norm");
}
template <class T>
void Rows::layer_norm_backward(Index rows, Index cols, const T* x, const T* gain, const T* mean,
                               const T* rstd, const T* dy, T* dx, T* dgain, T* dbias) {
  Context::State& c = current();
  if (rows <= 0) return;
  if (dgain || dbias)
    column_sums<2>(
        rows, cols, "layer_norm_backward",
        [=] __device__(Index r, Index k, double* s) {
          const auto d = static_cast<double>(dy[r * cols + k]);
          s[0] += d * static_cast<double>(x[r * cols + k] - mean[r]) * static_cast<double>(rstd[r]);
          s[1] += d;
        },
        [=] __device__(Index k, const double* s) {
          if (dgain) dgain[k] += static_cast<T>(s[0]);
          if (dbias) dbias[k] += static_cast<T>(s[1]);
        });
  if (!dx) return;
  layer_norm_backward_kernel<<<blocks_for(rows, block_warps), block_size, 0, c.stream>>>(
      rows, cols, x, gain, mean, rstd, dy, dx);
  check(cudaGetLastError(), "layer_norm_backward");
}

#define HYBRIDMED_INSTANTIATE(T)                                                                  \
  template void Rows::add_vector(Index, Index, const T*, const T*, T*);                           \
  template void Rows::column_sum(Index, Index, const T*, T*);                                     \
  template void Rows::transpose(Index, Index, Index, const T*, T*);                               \
  template void Rows::layer_norm(Index, Index, const T*, const T*, const T*, double, T*, T*, T*); \
  template void Rows::layer_norm_backward(Index, Index, const T*, const T*, const T*, const T*,   \
                                          const T*, T*, T*, T*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
