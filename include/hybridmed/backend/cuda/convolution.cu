// Convolution as a product: patches of a band of output lines are gathered into scratch memory,
// (lines * out_width, kernel * kernel * in), multiplied, and forgotten; a 1x1 convolution with
// stride 1 needs none. BatchNorm: a block takes 32 columns and 256 rows, and sums of blocks are
// added in their order.
#include "hybridmed/backend/cuda/convolution.hpp"

#include <algorithm>
#include <climits>

#include "hybridmed/backend/cuda/elementwise.hpp"
#include "hybridmed/backend/cuda/products.hpp"
#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

namespace {

constexpr Index chunk_rows = 256;
/// A block over a chunk: columns and lanes of rows. One that adds chunks up: fewer columns, since
/// there may be few in all, and more lanes.
constexpr int chunk_cols = warp_size, chunk_lanes = block_size / chunk_cols, total_cols = 8,
              total_lanes = block_size / total_cols;

Index chunks_of(Index rows) { return (rows + chunk_rows - 1) / chunk_rows; }

/// The sum over a column's lanes, in their order, in each of them.
template <int cols, int lanes>
__device__ double lane_sum(double x, double (&shared)[lanes][cols]) {
  const unsigned col = threadIdx.x % cols;
  __syncthreads();  // the last use of `shared` is over
  shared[threadIdx.x / cols][col] = x;
  __syncthreads();
  double s = 0;
  for (int l = 0; l < lanes; ++l) s += shared[l][col];
  return s;
}

/// x (rows, cols) -> part (chunks, 3, cols): a mean, the sum of distances from it (it is rounded,
/// so they do not add up to 0) and that of their squares, in two passes over a chunk, which the
/// cache holds.
template <class T>
__global__ void __launch_bounds__(block_size)
    chunk_moments_kernel(Index rows, Index cols, const T* x, double* part) {
  __shared__ double shared[chunk_lanes][chunk_cols];
  const Index first = blockIdx.x * chunk_rows, last = min(rows, first + chunk_rows),
              lane = threadIdx.x / chunk_cols;
  for (Index strip = blockIdx.y; strip * chunk_cols < cols; strip += gridDim.y) {
    const Index c = strip * chunk_cols + threadIdx.x % chunk_cols, end = c < cols ? last : first;
    double s = 0, e = 0, q = 0;
#pragma unroll 4
    for (Index r = first + lane; r < end; r += chunk_lanes) s += wide(x[r * cols + c]);
    const double mean = lane_sum(s, shared) / static_cast<double>(last - first);
#pragma unroll 4
    for (Index r = first + lane; r < end; r += chunk_lanes) {
      const double d = wide(x[r * cols + c]) - mean;
      e += d;
      q += d * d;
    }
    e = lane_sum(e, shared);
    q = lane_sum(q, shared);
    if (lane > 0 || c >= cols) continue;
    double* p = part + blockIdx.x * 3 * cols + c;
    p[0] = mean;
    p[cols] = e;
    p[2 * cols] = q;
  }
}

/// The moments of all rows from those of the chunks (Chan et al.): with d the distance of a chunk's
/// mean from the mean of all, its squares are q + 2 d e + n d^2.
template <class T>
__global__ void __launch_bounds__(block_size)
    total_moments_kernel(Index rows, Index cols, Index chunks, const double* part, T* mean,
                         T* var) {
  __shared__ double shared[total_lanes][total_cols];
  const Index lane = threadIdx.x / total_cols;
  const auto size = [=](Index chunk) {
    return static_cast<double>(min(chunk_rows, rows - chunk * chunk_rows));
  };
  for (Index strip = blockIdx.x; strip * total_cols < cols; strip += gridDim.x) {
    const Index c = strip * total_cols + threadIdx.x % total_cols, end = c < cols ? chunks : 0;
    double s = 0, q = 0;
#pragma unroll 4
    for (Index k = lane; k < end; k += total_lanes) s += size(k) * part[k * 3 * cols + c];
    const double m = lane_sum(s, shared) / static_cast<double>(rows);
#pragma unroll 4
    for (Index k = lane; k < end; k += total_lanes) {
      const double* p = part + k * 3 * cols + c;
      const double d = p[0] - m;
      q += p[2 * cols] + d * (2 * p[cols] + size(k) * d);
    }
    q = lane_sum(q, shared);
    if (lane > 0 || c >= cols) continue;
    mean[c] = static_cast<T>(m);
    var[c] = static_cast<T>(q / static_cast<double>(rows));
  }
}

/// x (rows, cols); cols in packs. A thread stays in its columns.
template <class V, class W>
__global__ void __launch_bounds__(block_size)
    batch_norm_kernel(Index rows, Index cols, int bits, const V* x, const W* mean, const W* rstd,
                      const W* gain, const W* bias, V* y) {
  const RowPlace at(bits);
  for (Index c = at.col; c < cols; c += at.cols_step) {
    const W m = mean[c], g = gain[c], b = bias[c];
    W k = rstd[c];
    for (int e = 0; e < V::size; ++e) k.v[e] *= g.v[e];
#pragma unroll 4
    for (Index r = at.row; r < rows; r += at.rows_step) {
      auto value = widen(x[r * cols + c]);
      for (int e = 0; e < V::size; ++e) value.v[e] = fma(value.v[e] - m.v[e], k.v[e], b.v[e]);
      y[r * cols + c] = narrow<typename V::scalar>(value);
    }
  }
}

/// part (chunks, 2, cols): sums of dy times the normalised x, and of dy.
template <class T, class A = accumulator_of<T>>
__global__ void __launch_bounds__(block_size)
    chunk_slopes_kernel(Index rows, Index cols, const T* x, const A* mean, const A* rstd,
                        const T* dy, double* part) {
  __shared__ double shared[chunk_lanes][chunk_cols];
  const Index first = blockIdx.x * chunk_rows, last = min(rows, first + chunk_rows),
              lane = threadIdx.x / chunk_cols;
  for (Index strip = blockIdx.y; strip * chunk_cols < cols; strip += gridDim.y) {
    const Index c = strip * chunk_cols + threadIdx.x % chunk_cols, end = c < cols ? last : first;
    const auto m = c < cols ? static_cast<double>(mean[c]) : 0.0,
               k = c < cols ? static_cast<double>(rstd[c]) : 0.0;
    double g = 0, b = 0;
#pragma unroll 4
    for (Index r = first + lane; r < end; r += chunk_lanes) {
      const double d = wide(dy[r * cols + c]);
      g += d * ((wide(x[r * cols + c]) - m) * k);
      b += d;
    }
    g = lane_sum(g, shared);
    b = lane_sum(b, shared);
    if (lane > 0 || c >= cols) continue;
    part[blockIdx.x * 2 * cols + c] = g;
    part[(blockIdx.x * Index{2} + 1) * cols + c] = b;
  }
}

/// What dx needs of a column: dx = k (dy - shift - (x - mean) by_x).
struct Slope {
  double k, shift, by_x;
};

template <class T>
__global__ void __launch_bounds__(block_size)
    total_slopes_kernel(Index rows, Index cols, Index chunks, const double* part, const T* rstd,
                        const T* gain, bool moments, Slope* slope, T* dgain, T* dbias) {
  __shared__ double shared[total_lanes][total_cols];
  const Index lane = threadIdx.x / total_cols;
  for (Index strip = blockIdx.x; strip * total_cols < cols; strip += gridDim.x) {
    const Index c = strip * total_cols + threadIdx.x % total_cols, end = c < cols ? chunks : 0;
    double g = 0, b = 0;
#pragma unroll 4
    for (Index k = lane; k < end; k += total_lanes) {
      g += part[k * 2 * cols + c];
      b += part[(k * 2 + 1) * cols + c];
    }
    g = lane_sum(g, shared);
    b = lane_sum(b, shared);
    if (lane > 0 || c >= cols) continue;
    dgain[c] += static_cast<T>(g);
    dbias[c] += static_cast<T>(b);
    const auto n = static_cast<double>(rows), k = static_cast<double>(rstd[c]);
    slope[c] = {static_cast<double>(gain[c]) * k, moments ? b / n : 0.0, moments ? g / n * k : 0.0};
  }
}

template <class V, class W>
__global__ void __launch_bounds__(block_size)
    batch_norm_backward_kernel(Index rows, Index cols, int bits, const V* x, const W* mean,
                               const Slope* slope, const V* dy, V* dx) {
  using A = typename W::scalar;
  const RowPlace at(bits);
  for (Index c = at.col; c < cols; c += at.cols_step) {
    const W m = mean[c];
    Slope s[V::size];
    for (int e = 0; e < V::size; ++e) s[e] = slope[c * V::size + e];
#pragma unroll 2
    for (Index r = at.row; r < rows; r += at.rows_step) {
      const V xr = x[r * cols + c];
      V d = dy[r * cols + c];
      for (int e = 0; e < V::size; ++e)
        d.v[e] = narrow<typename V::scalar>(static_cast<A>(
            s[e].k * (wide(d.v[e]) - s[e].shift - (wide(xr.v[e]) - wide(m.v[e])) * s[e].by_x)));
      dx[r * cols + c] = d;
    }
  }
}

/// How a convolution is cut: bands of whole output lines, of whole images where one fits.
struct Bands {
  Index height, width, taps, lines, each;

  Bands(const ConvShape& s, Index elements, const char* operation)
      : height(s.out_height()),
        width(s.out_width()),
        taps(s.kernel * s.kernel * s.in),
        lines(s.batch > 0 && height > 0 && width > 0 ? s.batch * height : 0),
        each(1) {
    if (std::max(s.width * s.in, width * s.kernel) > INT_MAX)
      fail("cuda", operation, "lines of more than " + std::to_string(INT_MAX) + " numbers");
    if (lines > 0 && taps > 0) each = std::clamp<Index>(elements / (width * taps), 1, lines);
    if (each > height) each -= each % height;
  }
  bool empty() const { return lines == 0; }
  bool whole_images() const { return each % height == 0; }
  /// f(first line, number of lines) for each band, in order.
  template <class F>
  void operator()(F&& f) const {
    for (Index first = 0; first < lines; first += each) f(first, std::min(each, lines - first));
  }
};

bool pointwise(const ConvShape& s) { return s.kernel == 1 && s.stride == 1 && s.pad == 0; }

/// One block an output line. A tap's row of the kernel is one run of numbers in x, cut at the
/// border, and runs follow each other in patches (lines, width, kernel, kernel, in). Channels in
/// packs, in x, patches and s.
template <class V>
__global__ void __launch_bounds__(block_size)
    unfold_kernel(ConvShape s, Index height, unsigned width, Index first, int bits, const V* x,
                  V* patches) {
  const Index line = first + blockIdx.x, image = line / height, i = line - image * height,
              run = s.kernel * s.in, input_line = s.width * s.in;
  const auto kernel = static_cast<unsigned>(s.kernel), runs = width * kernel;
  V* to = patches + blockIdx.x * (Index{runs} * run);
  for (unsigned id = threadIdx.x >> bits; id < runs; id += block_size >> bits) {
    const unsigned j = id / kernel, u = id - j * kernel;
    const Index y = i * s.stride + u - s.pad, start = (Index{j} * s.stride - s.pad) * s.in,
                from = (image * s.height + y) * input_line + start;
    const bool inside = y >= 0 && y < s.height;
    for (Index e = threadIdx.x & ((1u << bits) - 1); e < run; e += Index{1} << bits)
      to[id * run + e] = inside && start + e >= 0 && start + e < input_line ? x[from + e] : V{};
  }
}

/// The transpose of unfold for the output lines [first, last): one block a line of dx, counted from
/// `target`; each place sums its taps in their order, after what dx holds where `add`.
template <class V, class W>
__global__ void __launch_bounds__(block_size)
    fold_kernel(ConvShape s, Index height, Index width, Index first, Index last, Index target,
                bool add, const V* patches, W* dx) {
  const Index line = target + blockIdx.x, image = line / s.height,
              y = line - image * s.height + s.pad, taps = s.kernel * s.kernel * s.in;
  const auto in = static_cast<unsigned>(s.in), stride = static_cast<unsigned>(s.stride),
             pad = static_cast<unsigned>(s.pad), elements = static_cast<unsigned>(s.width) * in;
  const Index i0 = image * height + y / s.stride, u0 = y % s.stride;
  for (unsigned e = threadIdx.x; e < elements; e += block_size) {
    const unsigned column = e / in, c = e - column * in, x = column + pad;
    const Index j0 = x / stride, v0 = x % stride;
    V sum{};
    if (add) sum = widen(dx[line * elements + e]);
    Index i = i0;
    for (Index u = u0; u < s.kernel; u += s.stride, --i) {
      if (i < first || i < image * height) break;
      if (i >= last || i >= (image + 1) * height) continue;
      Index j = j0;
      for (Index v = v0; v < s.kernel; v += s.stride, --j) {
        if (j < 0) break;
        if (j >= width) continue;
        const V part = patches[((i - first) * width + j) * taps + (u * s.kernel + v) * s.in + c];
        for (int n = 0; n < V::size; ++n) sum.v[n] += part.v[n];
      }
    }
    dx[line * elements + e] = narrow<typename W::scalar>(sum);
  }
}

template <class T>
void unfold(Context::State& context, const ConvShape& s, const Bands& bands, Index first,
            Index lines, const T* x, T* patches, const char* operation) {
  by_packs<T>(s.in, {x, patches}, [&]<class V>(V, Index in) {
    ConvShape packed = s;
    packed.in = in;
    unfold_kernel<<<static_cast<unsigned>(lines), block_size, 0, context.stream>>>(
        packed, bands.height, static_cast<unsigned>(bands.width), first,
        RowGroups(1, s.kernel * in).bits, reinterpret_cast<const V*>(x),
        reinterpret_cast<V*>(patches));
    check(cudaGetLastError(), operation);
  });
}

/// One block an output line: x (batch, height, width, channels), y and where (batch, out_height,
/// out_width, channels).
template <class T>
__global__ void __launch_bounds__(block_size)
    max_pool_kernel(ConvShape s, Index height, unsigned elements, const T* x, T* y,
                    std::int32_t* where) {
  const Index line = blockIdx.x, image = line / height, i = line - image * height;
  const auto in = static_cast<unsigned>(s.in);
  for (unsigned e = threadIdx.x; e < elements; e += block_size) {
    const unsigned j = e / in, c = e - j * in;
    accumulator_of<T> best = -INFINITY;
    Index at = -1;
    for (Index u = 0; u < s.kernel; ++u)
      for (Index v = 0; v < s.kernel; ++v) {
        const Index row = i * s.stride + u - s.pad, column = j * s.stride + v - s.pad;
        if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
        const Index k = ((image * s.height + row) * s.width + column) * s.in + c;
        const auto value = widen(x[k]);
        if (value > best || value != value || at < 0) {
          best = value;
          at = k;
        }
      }
    y[line * elements + e] = narrow<T>(best);
    where[line * elements + e] = static_cast<std::int32_t>(at);
  }
}

/// dx_k += the gradients of those windows over place k whose maximum it is, in their order: a place
/// looks at its windows, so nothing is added up by several threads. One block a line of the input.
template <class T>
__global__ void __launch_bounds__(block_size)
    max_pool_backward_kernel(ConvShape s, Index out_height, Index out_width, unsigned elements,
                             const T* dy, const std::int32_t* where, T* dx) {
  const Index line = blockIdx.x, image = line / s.height, row = line - image * s.height;
  const auto in = static_cast<unsigned>(s.in);
  // The first and the last window that cover a place.
  const auto first = [&](Index at) {
    const Index past = at + s.pad - s.kernel;
    return past < 0 ? Index{0} : past / s.stride + 1;
  };
  const auto last = [&](Index at, Index windows) {
    return min(windows - 1, (at + s.pad) / s.stride);
  };
  const Index i_first = first(row), i_last = last(row, out_height);
  for (unsigned e = threadIdx.x; e < elements; e += block_size) {
    const unsigned column = e / in, c = e - column * in;
    const Index k = line * elements + e, j_first = first(column), j_last = last(column, out_width);
    auto sum = widen(dx[k]);
    for (Index i = i_first; i <= i_last; ++i)
      for (Index j = j_first; j <= j_last; ++j) {
        const Index window = ((image * out_height + i) * out_width + j) * s.in + c;
        if (where[window] == k) sum += widen(dy[window]);
      }
    dx[k] = narrow<T>(sum);
  }
}

}  // namespace

template <class T>
void Convolution::column_moments(Index rows, Index cols, const T* x, accumulator_of<T>* mean,
                                 accumulator_of<T>* var) {
  Context::State& context = current_for<T>("column_moments");
  if (cols <= 0) return;
  const Index chunks = chunks_of(rows);
  Scratch<double> part(context, chunks * 3 * cols);
  if (chunks > 0) {
    const dim3 grid(static_cast<unsigned>(chunks), blocks_for(cols, chunk_cols, 65535));
    chunk_moments_kernel<<<grid, block_size, 0, context.stream>>>(rows, cols, x, part.data());
    check(cudaGetLastError(), "column_moments");
  }
  total_moments_kernel<<<blocks_for(cols, total_cols), block_size, 0, context.stream>>>(
      rows, cols, chunks, part.data(), mean, var);
  check(cudaGetLastError(), "column_moments");
}

template <class T>
void Convolution::batch_norm(Index rows, Index cols, const T* x, const accumulator_of<T>* mean,
                             const accumulator_of<T>* rstd, const accumulator_of<T>* gain,
                             const accumulator_of<T>* bias, T* y) {
  Context::State& context = current_for<T>("batch_norm");
  if (rows <= 0 || cols <= 0) return;
  by_packs<T>(cols, {x, mean, rstd, gain, bias, y}, [&]<class V>(V, Index n) {
    const auto packs = [](const accumulator_of<T>* p) {
      return reinterpret_cast<const Pack<accumulator_of<T>, V::size>*>(p);
    };
    const RowGroups groups(rows, n, 8);
    batch_norm_kernel<<<groups.grid, block_size, 0, context.stream>>>(
        rows, n, groups.bits, reinterpret_cast<const V*>(x), packs(mean), packs(rstd), packs(gain),
        packs(bias), reinterpret_cast<V*>(y));
    check(cudaGetLastError(), "batch_norm");
  });
}

template <class T>
void Convolution::batch_norm_backward(Index rows, Index cols, const T* x,
                                      const accumulator_of<T>* mean, const accumulator_of<T>* rstd,
                                      const accumulator_of<T>* gain, const T* dy, bool moments,
                                      T* dx, accumulator_of<T>* dgain, accumulator_of<T>* dbias) {
  constexpr const char* name = "batch_norm_backward";
  Context::State& context = current_for<T>(name);
  if (rows <= 0 || cols <= 0) return;
  const Index chunks = chunks_of(rows);
  Scratch<double> part(context, chunks * 2 * cols);
  Scratch<Slope> slope(context, cols);
  const dim3 grid(static_cast<unsigned>(chunks), blocks_for(cols, chunk_cols, 65535));
  chunk_slopes_kernel<<<grid, block_size, 0, context.stream>>>(rows, cols, x, mean, rstd, dy,
                                                               part.data());
  check(cudaGetLastError(), name);
  total_slopes_kernel<<<blocks_for(cols, total_cols), block_size, 0, context.stream>>>(
      rows, cols, chunks, part.data(), rstd, gain, moments, slope.data(), dgain, dbias);
  check(cudaGetLastError(), name);
  if (!dx) return;
  by_packs<T>(cols, {x, mean, dy, dx}, [&]<class V>(V, Index n) {
    const auto packs = [](const T* p) { return reinterpret_cast<const V*>(p); };
    const RowGroups groups(rows, n, 8);
    batch_norm_backward_kernel<<<groups.grid, block_size, 0, context.stream>>>(
        rows, n, groups.bits, packs(x),
        reinterpret_cast<const Pack<accumulator_of<T>, V::size>*>(mean), slope.data(), packs(dy),
        reinterpret_cast<V*>(dx));
    check(cudaGetLastError(), name);
  });
}

template <class T>
void Convolution::conv2d(const ConvShape& s, const T* x, const T* w, T* y, Index elements) {
  using A = accumulator_of<T>;
  constexpr const char* name = "conv2d";
  Context::State& context = current_for<T>(name);
  const Bands bands(s, elements, name);
  if (bands.empty() || s.out <= 0) return;
  const Index width = bands.width, taps = bands.taps;
  if (taps <= 0) return Elementwise::fill(bands.lines * width * s.out, T(0), y);
  const auto product = [&](Index first, Index lines, const T* patches) {
    Products::gemm(false, true, lines * width, s.out, taps, A(1), patches, taps, w, taps, A(0),
                   y + first * width * s.out, s.out);
  };
  if (pointwise(s)) return product(0, bands.lines, x);
  Scratch<T> patches(context, bands.each * width * taps);
  bands([&](Index first, Index lines) {
    unfold(context, s, bands, first, lines, x, patches.data(), name);
    product(first, lines, patches.data());
  });
}

template <class T>
void Convolution::conv2d_backward_input(const ConvShape& s, const T* dy, const T* w, T* dx,
                                        Index elements) {
  using A = accumulator_of<T>;
  constexpr const char* name = "conv2d_backward_input";
  Context::State& context = current_for<T>(name);
  const Bands bands(s, elements, name);
  const Index width = bands.width, taps = bands.taps, all = s.batch * s.height * s.width * s.in;
  if (all <= 0) return;
  if (bands.empty() || s.out <= 0) return Elementwise::fill(all, T(0), dx);
  const auto product = [&](Index first, Index lines, auto* patches) {
    Products::gemm(false, false, lines * width, taps, s.out, A(1), dy + first * width * s.out,
                   s.out, w, taps, A(0), patches, taps);
  };
  if (pointwise(s)) return product(0, bands.lines, dx);
  Scratch<A> patches(context, bands.each * width * taps);  // they are added up
  const auto fold_into = [&](auto* sum, bool add) {
    using Y = std::remove_pointer_t<decltype(sum)>;
    bands([&](Index first, Index lines) {
      product(first, lines, patches.data());
      const Index image = first / bands.height, last = (first + lines - 1) / bands.height;
      by_packs<A>(s.in, {sum, patches.data()}, [&]<class V>(V, Index in) {
        ConvShape packed = s;
        packed.in = in;
        fold_kernel<<<static_cast<unsigned>((last + 1 - image) * s.height), block_size, 0,
                      context.stream>>>(
            packed, bands.height, width, first, first + lines, image * s.height, add,
            reinterpret_cast<const V*>(patches.data()), reinterpret_cast<Pack<Y, V::size>*>(sum));
        check(cudaGetLastError(), name);
      });
    });
  };
  if (bands.whole_images()) return fold_into(dx, false);  // they have no line of dx in common
  if constexpr (std::is_same_v<A, T>) {
    Elementwise::fill(all, T(0), dx);
    fold_into(dx, true);
  } else {  // rounded once, after the last band
    Scratch<A> sum(context, all);
    Elementwise::fill(all, A(0), sum.data());
    fold_into(sum.data(), true);
    Elementwise::convert(all, sum.data(), dx);
  }
}

template <class T>
void Convolution::conv2d_backward_weight(const ConvShape& s, const T* x, const T* dy,
                                         accumulator_of<T>* dw, Index elements) {
  using A = accumulator_of<T>;
  constexpr const char* name = "conv2d_backward_weight";
  Context::State& context = current_for<T>(name);
  const Bands bands(s, elements, name);
  if (bands.empty() || s.out <= 0 || bands.taps <= 0) return;
  const Index width = bands.width, taps = bands.taps;
  const auto product = [&](Index first, Index lines, const T* patches) {
    Products::gemm(true, false, s.out, taps, lines * width, A(1), dy + first * width * s.out, s.out,
                   patches, taps, A(1), dw, taps);
  };
  if (pointwise(s))  // in bands as well: long sums in float lose digits
    return bands(
        [&](Index first, Index lines) { product(first, lines, x + first * s.width * s.in); });
  Scratch<T> patches(context, bands.each * width * taps);
  bands([&](Index first, Index lines) {
    unfold(context, s, bands, first, lines, x, patches.data(), name);
    product(first, lines, patches.data());
  });
}

template <class T>
void Convolution::max_pool(const ConvShape& s, const T* x, T* y, std::int32_t* where) {
  constexpr const char* name = "max_pool";
  Context::State& context = current_for<T>(name);
  const Index height = s.out_height(), elements = s.out_width() * s.in,
              image = s.height * s.width * s.in;
  if (image > 0 && s.batch > INT32_MAX / image)
    fail("backend", name,
         "a map of " + std::to_string(s.batch) + " x " + std::to_string(s.height) + " x " +
             std::to_string(s.width) + " x " + std::to_string(s.in) +
             " has more places than 32 bits tell apart",
         "a smaller batch or image");
  if (s.batch <= 0 || height <= 0 || elements <= 0) return;
  max_pool_kernel<<<static_cast<unsigned>(s.batch * height), block_size, 0, context.stream>>>(
      s, height, static_cast<unsigned>(elements), x, y, where);
  check(cudaGetLastError(), name);
}

template <class T>
void Convolution::max_pool_backward(const ConvShape& s, const T* dy, const std::int32_t* where,
                                    T* dx) {
  constexpr const char* name = "max_pool_backward";
  Context::State& context = current_for<T>(name);
  const Index elements = s.width * s.in;
  if (s.batch <= 0 || s.height <= 0 || elements <= 0) return;
  max_pool_backward_kernel<<<static_cast<unsigned>(s.batch * s.height), block_size, 0,
                             context.stream>>>(s, s.out_height(), s.out_width(),
                                               static_cast<unsigned>(elements), dy, where, dx);
  check(cudaGetLastError(), name);
}

#define HYBRIDMED_INSTANTIATE(T)                                                             \
  template void Convolution::column_moments(Index, Index, const T*, accumulator_of<T>*,      \
                                            accumulator_of<T>*);                             \
  template void Convolution::batch_norm(Index, Index, const T*, const accumulator_of<T>*,    \
                                        const accumulator_of<T>*, const accumulator_of<T>*,  \
                                        const accumulator_of<T>*, T*);                       \
  template void Convolution::batch_norm_backward(                                            \
      Index, Index, const T*, const accumulator_of<T>*, const accumulator_of<T>*,            \
      const accumulator_of<T>*, const T*, bool, T*, accumulator_of<T>*, accumulator_of<T>*); \
  template void Convolution::conv2d(const ConvShape&, const T*, const T*, T*, Index);        \
  template void Convolution::conv2d_backward_input(const ConvShape&, const T*, const T*, T*, \
                                                   Index);                                   \
  template void Convolution::conv2d_backward_weight(const ConvShape&, const T*, const T*,    \
                                                    accumulator_of<T>*, Index);              \
  template void Convolution::max_pool(const ConvShape&, const T*, T*, std::int32_t*);        \
  template void Convolution::max_pool_backward(const ConvShape&, const T*, const std::int32_t*, T*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
