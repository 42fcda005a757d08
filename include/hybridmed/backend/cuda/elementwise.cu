#include "hybridmed/backend/cuda/elementwise.hpp"

#include "hybridmed/backend/cuda/activation.cuh"
#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

namespace {

/// part[block] = sum of term(i) over the block's share of [0, n).
template <class F>
__global__ void __launch_bounds__(block_size) partial_sum_kernel(Index n, F term, double* part) {
  __shared__ double shared[block_warps];
  double s = 0;
  for (Index i = blockIdx.x * Index{block_size} + threadIdx.x; i < n;
       i += gridDim.x * Index{block_size})
    s += term(i);
  s = block_sum(s, shared);
  if (threadIdx.x == 0) part[blockIdx.x] = s;
}

/// Calls done(sum of part) in one thread.
template <class F>
__global__ void __launch_bounds__(block_size)
    final_sum_kernel(int parts, const double* part, F done) {
  __shared__ double shared[block_warps];
  double s = 0;
  for (int i = static_cast<int>(threadIdx.x); i < parts; i += block_size) s += part[i];
  s = block_sum(s, shared);
  if (threadIdx.x == 0) done(s);
}

template <class F, class G>
void add_up(Index n, const char* operation, F term, G done) {
  Context::State& c = current();
  if (n <= 0) return;
  const unsigned blocks = blocks_for(n, 4 * block_size, Context::State::most_partial_sums);
  const std::lock_guard lock(c.issue);
  partial_sum_kernel<<<blocks, block_size, 0, c.stream>>>(n, term, c.partial_sums);
  check(cudaGetLastError(), operation);
  final_sum_kernel<<<1, block_size, 0, c.stream>>>(static_cast<int>(blocks), c.partial_sums, done);
  check(cudaGetLastError(), operation);
}

/// That of doubles is called: inlined, it spills registers.
__device__ float exponential_of(float x) { return exp(x); }
__device__ __noinline__ double exponential_of(double x) { return exp(x); }

}  // namespace

template <class T>
void Elementwise::fill(Index n, T value, T* y) {
  const accumulator_of<T> x = value;
  map(
      n, "fill", [=] __device__() { return x; }, y);
}
template <class T>
void Elementwise::copy(Index n, const T* x, T* y) {
  Context::State& c = current_for<T>("copy");
  if (n > 0)
    check(cudaMemcpyAsync(y, x, static_cast<std::size_t>(n) * sizeof(T), cudaMemcpyDeviceToDevice,
                          c.stream),
          "copy");
}
void Elementwise::convert(Index n, const bfloat16* x, float* y) {
  map(
      n, "convert", [] __device__(float v) { return v; }, y, x);
}
void Elementwise::convert(Index n, const float* x, bfloat16* y) {
  map(
      n, "convert", [] __device__(float v) { return v; }, y, x);
}
template <class T>
void Elementwise::add(Index n, const T* a, const T* b, T* y) {
  using A = accumulator_of<T>;
  map(
      n, "add", [] __device__(A s, A t) { return s + t; }, y, a, b);
}
template <class T>
void Elementwise::multiply(Index n, const T* a, const T* b, T* y) {
  using A = accumulator_of<T>;
  map(
      n, "multiply", [] __device__(A s, A t) { return s * t; }, y, a, b);
}
template <class T>
void Elementwise::divide(Index n, const T* a, const T* b, T* y) {
  using A = accumulator_of<T>;
  map(
      n, "divide", [] __device__(A s, A t) { return s / t; }, y, a, b);
}
template <class T>
void Elementwise::scale(Index n, accumulator_of<T> alpha, const T* x, T* y) {
  using A = accumulator_of<T>;
  map(
      n, "scale", [=] __device__(A v) { return alpha * v; }, y, x);
}
template <class T>
void Elementwise::axpy(Index n, accumulator_of<T> alpha, const T* x, accumulator_of<T>* y) {
  using A = accumulator_of<T>;
  map(
      n, "axpy", [=] __device__(A s, A t) { return t + alpha * s; }, y, x, y);
}
template <class T>
void Elementwise::scale_by(Index n, const T* alpha, const T* x, T* y) {
  using A = accumulator_of<T>;
  map(
      n, "scale_by", [=] __device__(A v) { return widen(*alpha) * v; }, y, x);
}
template <class T>
void Elementwise::exponential(Index n, const T* x, T* y) {
  using A = accumulator_of<T>;
  map(
      n, "exponential", [] __device__(A v) { return exponential_of(v); }, y, x);
}
template <class T>
void Elementwise::logarithm(Index n, const T* x, T* y) {
  using A = accumulator_of<T>;
  map(
      n, "logarithm", [] __device__(A v) { return log(v); }, y, x);
}
template <class T>
void Elementwise::clamp(Index n, T low, T high, T* y) {
  for_each(n, "clamp", [=] __device__(Index i) {
    y[i] = y[i] < low ? low : y[i] > high ? high : y[i];
  });
}
template <class T>
void Elementwise::reciprocal_sqrt(Index n, const T* x, T eps, T* y) {
  for_each(n, "reciprocal_sqrt", [=] __device__(Index i) { y[i] = T(1) / sqrt(x[i] + eps); });
}
template <class T>
void Elementwise::activation(Activation kind, Index n, const T* x, T* y) {
  using A = accumulator_of<T>;
  map(
      n, "activation", [=] __device__(A v) { return activate(kind, v); }, y, x);
}
template <class T>
void Elementwise::activation_backward(Activation kind, Index n, const T* x, const T* dy, T* dx) {
  using A = accumulator_of<T>;
  map(
      n, "activation_backward", [=] __device__(A v, A d) { return activation_slope(kind, v) * d; },
      dx, x, dy);
}
template <class T>
void Elementwise::sigmoid_cross_entropy(Index n, const T* x, const T* z, T* y) {
  for_each(n, "sigmoid_cross_entropy", [=] __device__(Index i) {
    y[i] = (x[i] > T(0) ? x[i] * (T(1) - z[i]) : -x[i] * z[i]) + log1p(exp(-fabs(x[i])));
  });
}
template <class T>
void Elementwise::sigmoid_cross_entropy_backward(Index n, const T* x, const T* z, const T* dy,
                                                 T* dx) {
  for_each(n, "sigmoid_cross_entropy_backward", [=] __device__(Index i) {
    const T e = exp(-fabs(x[i])), tail = e / (T(1) + e);
    dx[i] = (x[i] > T(0) ? (T(1) - z[i]) - tail : tail - z[i]) * dy[i];
  });
}
template <class T>
void Elementwise::fill_normal(Index n, Philox random, double stddev, T* y) {
  for_each(n, "fill_normal", [=] __device__(Index i) {
    y[i] = static_cast<T>(stddev * random.normal(static_cast<std::uint64_t>(i)));
  });
}
template <class T>
void Elementwise::dropout_mask(Index n, Philox random, double p, T* y) {
  const T keep = static_cast<T>(1 / (1 - p));
  for_each(n, "dropout_mask", [=] __device__(Index i) {
    y[i] = random.uniform(static_cast<std::uint64_t>(i)) < p ? T(0) : keep;
  });
}

template <class T, class Y>
void Elementwise::sum(Index n, double factor, const T* x, Y* y) {
  using A = accumulator_of<Y>;
  current_for<T>("sum");
  add_up(
      n, "sum", [=] __device__(Index i) { return wide(x[i]); },
      [=] __device__(double s) { *y = narrow<Y>(widen(*y) + static_cast<A>(factor * s)); });
}
template <class T>
void Elementwise::dot(Index n, accumulator_of<T> alpha, const T* a, const T* b,
                      accumulator_of<T>* y) {
  using A = accumulator_of<T>;
  current_for<T>("dot");
  add_up(
      n, "dot", [=] __device__(Index i) { return wide(a[i]) * wide(b[i]); },
      [=] __device__(double s) { *y += static_cast<A>(static_cast<double>(alpha) * s); });
}
template <class T>
void Elementwise::squared_norm(Index n, const T* x, double* total) {
  add_up(
      n, "squared_norm",
      [=] __device__(Index i) { return static_cast<double>(x[i]) * static_cast<double>(x[i]); },
      [=] __device__(double s) { *total += s; });
}

#define HYBRIDMED_INSTANTIATE(T)                                                             \
  template void Elementwise::fill(Index, T, T*);                                             \
  template void Elementwise::copy(Index, const T*, T*);                                      \
  template void Elementwise::add(Index, const T*, const T*, T*);                             \
  template void Elementwise::multiply(Index, const T*, const T*, T*);                        \
  template void Elementwise::divide(Index, const T*, const T*, T*);                          \
  template void Elementwise::scale(Index, accumulator_of<T>, const T*, T*);                  \
  template void Elementwise::axpy(Index, accumulator_of<T>, const T*, accumulator_of<T>*);   \
  template void Elementwise::scale_by(Index, const T*, const T*, T*);                        \
  template void Elementwise::exponential(Index, const T*, T*);                               \
  template void Elementwise::logarithm(Index, const T*, T*);                                 \
  template void Elementwise::activation(Activation, Index, const T*, T*);                    \
  template void Elementwise::activation_backward(Activation, Index, const T*, const T*, T*); \
  template void Elementwise::sum(Index, double, const T*, T*);                               \
  template void Elementwise::dot(Index, accumulator_of<T>, const T*, const T*, accumulator_of<T>*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
#undef HYBRIDMED_INSTANTIATE
template void Elementwise::sum(Index, double, const bfloat16*, float*);

// In scalars that parameters and losses are held in.
#define HYBRIDMED_INSTANTIATE(T)                                                                 \
  template void Elementwise::clamp(Index, T, T, T*);                                             \
  template void Elementwise::reciprocal_sqrt(Index, const T*, T, T*);                            \
  template void Elementwise::sigmoid_cross_entropy(Index, const T*, const T*, T*);               \
  template void Elementwise::sigmoid_cross_entropy_backward(Index, const T*, const T*, const T*, \
                                                            T*);                                 \
  template void Elementwise::fill_normal(Index, Philox, double, T*);                             \
  template void Elementwise::dropout_mask(Index, Philox, double, T*);                            \
  template void Elementwise::squared_norm(Index, const T*, double*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
