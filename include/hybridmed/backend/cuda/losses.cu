// Losses over rows of logits (rows, classes): one block a row. The forward pass keeps the largest
// logit and the sums relative to it in one pass (LogSum). The backward pass is given the
// log-sum-exp above the largest logit; where it is not given that as well, it reads the row twice.
#include <algorithm>
#include <climits>
#include <cstdint>

#include "hybridmed/backend/cuda/device.cuh"
#include "hybridmed/backend/cuda/log_sum.cuh"
#include "hybridmed/backend/cuda/losses.hpp"
#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

namespace {

/// 16 bytes of a row.
template <class T>
using Bytes16 = Pack<T, 16 / static_cast<int>(sizeof(T))>;
template <class T>
__device__ bool in_packs(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}
template <class T>
__device__ Bytes16<T> load(const T* p, bool whole) {
  if (whole) return *reinterpret_cast<const Bytes16<T>*>(p);
  Bytes16<T> k;
  for (int i = 0; i < Bytes16<T>::size; ++i) k.v[i] = p[i];
  return k;
}
template <class T>
__device__ void store(const Bytes16<T>& k, T* p, bool whole) {
  if (whole) {
    *reinterpret_cast<Bytes16<T>*>(p) = k;
    return;
  }
  for (int i = 0; i < Bytes16<T>::size; ++i) p[i] = k.v[i];
}

/// How a block shares the elements of one row: a few until whole packs begin, packs, the rest. Rows
/// of an odd length begin anywhere within a pack. The shares, and with them the order of sums,
/// depend on row and length alone; whether packs are read as such depends on the matrix's address.
template <class T>
struct RowShares {
  Index begin, head, packs, n;
  __device__ RowShares(Index row, Index length) : begin(row * length), n(length) {
    constexpr Index size = Bytes16<T>::size;
    head = min(n, (size - begin % size) % size);
    packs = (n - head) / size;
  }
  /// f(v) for single elements, g(v) for packs that begin at element v; the packs from the last one
  /// on, if so wanted.
  template <class F, class G>
  __device__ void each(F f, G g, bool backwards = false) const {
    if (threadIdx.x < head) f(Index{threadIdx.x});
    for (Index i = threadIdx.x; i < packs; i += block_size)
      g(head + (backwards ? packs - 1 - i : i) * Bytes16<T>::size);
    const Index v = head + packs * Bytes16<T>::size + threadIdx.x;
    if (v < n) f(v);
  }
};

/// f(v, a_v) for the elements of a row.
template <class T, class F>
__device__ void read_row(Index row, Index n, const T* a, F f) {
  const RowShares<T> shares(row, n);
  const bool whole = in_packs(a);
  a += shares.begin;
  shares.each([&](Index v) { f(v, a[v]); },
              [&](Index v) {
                const Bytes16<T> x = load(a + v, whole);
                for (int i = 0; i < Bytes16<T>::size; ++i) f(v + i, x.v[i]);
              });
}
/// f(v, a_v, b_v)
template <class T, class F>
__device__ void read_rows(Index row, Index n, const T* a, const T* b, F f) {
  const RowShares<T> shares(row, n);
  const bool whole = in_packs(a) && in_packs(b);
  a += shares.begin;
  b += shares.begin;
  shares.each([&](Index v) { f(v, a[v], b[v]); },
              [&](Index v) {
                const Bytes16<T> x = load(a + v, whole), y = load(b + v, whole);
                for (int i = 0; i < Bytes16<T>::size; ++i) f(v + i, x.v[i], y.v[i]);
              });
}
/// y_v (+)= f(v, a_v, b_v). Backwards: what a pass before this one has read last is still cached.
template <class T, class F>
__device__ void write_row(Index row, Index n, const T* a, const T* b, bool accumulate, T* y, F f) {
  const RowShares<T> shares(row, n);
  const bool whole = in_packs(a) && in_packs(b) && in_packs(y);
  a += shares.begin;
  b += shares.begin;
  y += shares.begin;
  shares.each(
      [&](Index v) {
        const T g = f(v, a[v], b[v]);
        y[v] = accumulate ? y[v] + g : g;
      },
      [&](Index v) {
        const Bytes16<T> p = load(a + v, whole), q = load(b + v, whole);
        Bytes16<T> out = accumulate ? load(y + v, whole) : Bytes16<T>{};
        for (int i = 0; i < Bytes16<T>::size; ++i) {
          const T g = f(v + i, p.v[i], q.v[i]);
          out.v[i] = accumulate ? out.v[i] + g : g;
        }
        store(out, y + v, whole);
      },
      true);
}

/// sum q (top - x), moved along when a larger top comes; of the terms so far. Where every q is
/// above 0 nothing cancels.
template <class T>
struct BelowTop {
  double mass = 0, sum = 0;

  /// Before x becomes part of `s`.
  __device__ void add(T q, T x, const LogSum<T>& s) {
    if (x > s.top) move(s.top, x);
    if (q == T(0)) return;
    mass += wide(q);
    sum += wide(q) *
           (x == T(-INFINITY) ? static_cast<double>(INFINITY) : wide(max(s.top, x)) - wide(x));
  }
  __device__ void move(T from, T to) {
    if (mass != 0 && from < to && from > T(-INFINITY)) sum += mass * (wide(to) - wide(from));
  }
};

/// Each row's loss goes to `row_loss`.
template <class T>
__global__ void __launch_bounds__(block_size)
    cross_entropy_kernel(Index classes, const T* z, const std::int32_t* target, double smoothing,
                         double* row_loss, T* lse, T* top) {
  __shared__ T shared[block_warps];
  __shared__ double shared_wide[block_warps];
  const Index r = blockIdx.x;
  LogSum<T> s;
  BelowTop<T> spread;
  read_row(r, classes, z, [&](Index, T x) {
    if (smoothing > 0) spread.add(T(1), x, s);
    s.add(x);
  });
  const LogSum<T> all = block_log_sum(s, T(1), shared, shared_wide);
  spread.move(s.top, all.top);
  const double total = block_sum(spread.sum, shared_wide);
  if (threadIdx.x != 0) return;
  const double l = all.log();
  const bool valid = target[r] >= 0 && target[r] < classes;
  lse[r] = static_cast<T>(l);
  if (top) top[r] = all.top;
  double loss = valid ? 0.0 : static_cast<double>(NAN);
  if (valid && smoothing < 1)
    loss += (1 - smoothing) * (l + (wide(all.top) - wide(z[r * classes + target[r]])));
  if (smoothing > 0) loss += smoothing * (l + total / static_cast<double>(classes));
  row_loss[r] = loss;
}

/// The gradient of a row whose target is no class is NaN.
template <class T>
__global__ void __launch_bounds__(block_size)
    cross_entropy_backward_kernel(Index classes, const T* z, const std::int32_t* target, T flat,
                                  T smooth, T share, const T* lse, const T* tops, const T* upstream,
                                  bool accumulate, T* dz) {
  __shared__ T shared[block_warps];
  const Index r = blockIdx.x;
  T top = tops ? tops[r] : T(-INFINITY);
  if (!tops) {
    read_row(r, classes, z, [&](Index, T x) { top = max(top, x); });
    top = block_max(top, shared);
  }
  const T l = lse[r], k = *upstream * share;
  const bool valid = target[r] >= 0 && target[r] < classes;
  const Index wanted = target[r];
  write_row(r, classes, z, z, accumulate, dz, [&](Index v, T x, T) {
    const T log_p = x - top - l;
    // by expm1, p - 1 keeps its digits where p is nearly 1
    const T g = v == wanted ? expm1(log_p) + smooth : exp(log_p);
    return valid ? (g - flat) * k : T(NAN);
  });
}

/// KL(teacher || student) of a row, both logits times `inverse`, is the mean under the teacher of
/// (t - top_t) - (s - top_s), plus ls - lt: numbers that are small where the two agree. `gap` is
/// the sum of exp(t - top_t) times that difference; it follows the largest logits as they rise.
template <class T>
struct Divergence {
  LogSum<T> s, t;
  T lowest = INFINITY;  // of the student
  double gap = 0;

  __device__ void add(T xs, T xt, T inverse) {
    if (xs > s.top || xt > t.top) rise(max(s.top, xs), max(t.top, xt), inverse);
    lowest = min(lowest, xs);
    s.add(xs, inverse);
    const T above_t = xt - t.top;
    if (xt > t.top || inverse * above_t >= T(-87))
      gap += xt > t.top ? -wide(xs - s.top)
                        : wide(exp(inverse * above_t)) * (wide(above_t) - wide(xs - s.top));
    t.add(xt, inverse);
  }
  /// To larger tops, before the sums themselves follow.
  __device__ void rise(T top_s, T top_t, T inverse) {
    if (t.sum == 0) return;
    gap = t.share(top_t, inverse) *
          (gap + t.sum * ((wide(top_s) - wide(s.top)) - (wide(top_t) - wide(t.top))));
  }
};

template <class T>
__global__ void __launch_bounds__(block_size)
    distillation_kernel(Index classes, const T* student, const T* teacher, double tau,
                        double* row_loss, T* lse_s, T* lse_t, T* top_s, T* top_t) {
  __shared__ T shared[block_warps];
  __shared__ double shared_wide[block_warps];
  const T inverse = static_cast<T>(1 / tau);
  const Index r = blockIdx.x;
  Divergence<T> d;
  read_rows(r, classes, student, teacher, [&](Index, T xs, T xt) { d.add(xs, xt, inverse); });
  const LogSum<T> s = block_log_sum(d.s, inverse, shared, shared_wide),
                  t = block_log_sum(d.t, inverse, shared, shared_wide);
  const T lowest = -block_max(-d.lowest, shared);
  const double ls = s.log(), lt = t.log();
  double loss;
  if (wide(s.top) - wide(lowest) <= 1e5 * tau) {
    d.rise(s.top, t.top, inverse);
    loss = block_sum(d.gap, shared_wide) / (t.sum * tau) + (ls - lt);
  } else {
    // The student all but excludes a class. Only now it matters exactly which classes the
    // teacher excludes, and that is known after the first pass.
    double sum = 0;
    read_rows(r, classes, student, teacher, [&](Index, T xs, T xt) {
      const double above_t = (wide(xt) - wide(t.top)) / tau,
                   above_s = (wide(xs) - wide(s.top)) / tau;
      if (!(above_t - lt < -87)) sum += exp(above_t - lt) * (above_t - above_s + (ls - lt));
    });
    loss = block_sum(sum, shared_wide);
  }
  if (threadIdx.x != 0) return;
  lse_s[r] = static_cast<T>(ls);
  lse_t[r] = static_cast<T>(lt);
  if (top_s) {
    top_s[r] = s.top;
    top_t[r] = t.top;
  }
  row_loss[r] = loss;
}

template <class T>
__global__ void __launch_bounds__(block_size)
    distillation_backward_kernel(Index classes, const T* student, const T* teacher, T inverse,
                                 double share, const T* lse_s, const T* lse_t, const T* tops_s,
                                 const T* tops_t, const T* upstream, bool accumulate, T* dstudent) {
  __shared__ T shared[block_warps];
  const T k = static_cast<T>(wide(*upstream) * share);
  const Index r = blockIdx.x;
  T top_s = tops_s ? tops_s[r] : T(-INFINITY), top_t = tops_s ? tops_t[r] : T(-INFINITY);
  if (!tops_s) {
    read_rows(r, classes, student, teacher, [&](Index, T xs, T xt) {
      top_s = max(top_s, xs);
      top_t = max(top_t, xt);
    });
    top_s = block_max(top_s, shared);
    top_t = block_max(top_t, shared);
  }
  const T ls = lse_s[r], lt = lse_t[r];
  write_row(r, classes, student, teacher, accumulate, dstudent, [&](Index, T xs, T xt) {
    return k * (exp((xs - top_s) * inverse - ls) - exp((xt - top_t) * inverse - lt));
  });
}

template <class T>
__global__ void __launch_bounds__(block_size)
    soft_cross_entropy_kernel(Index classes, const T* z, const T* target, double tau,
                              double* row_loss, T* lse) {
  __shared__ T shared[block_warps];
  __shared__ double shared_wide[block_warps];
  const T inverse = static_cast<T>(1 / tau);
  const Index r = blockIdx.x;
  LogSum<T> s;
  BelowTop<T> below;
  read_rows(r, classes, z, target, [&](Index, T x, T q) {
    below.add(q, x, s);
    s.add(x, inverse);
  });
  const LogSum<T> all = block_log_sum(s, inverse, shared, shared_wide);
  below.move(s.top, all.top);
  const double sum = block_sum(below.sum, shared_wide), mass = block_sum(below.mass, shared_wide);
  if (threadIdx.x != 0) return;
  lse[r] = static_cast<T>(all.log());
  row_loss[r] = (mass != 0 ? mass * all.log() : 0) + sum / tau;
}

template <class T>
__global__ void __launch_bounds__(block_size)
    soft_cross_entropy_backward_kernel(Index classes, const T* z, const T* target, T inverse,
                                       double share, const T* lse, const T* upstream,
                                       bool accumulate, T* dz) {
  __shared__ T shared[block_warps];
  __shared__ double shared_wide[block_warps];
  const T k = static_cast<T>(wide(*upstream) * share);
  const Index r = blockIdx.x;
  T top = -INFINITY;
  double sum = 0;
  read_rows(r, classes, z, target, [&](Index, T x, T q) {
    top = max(top, x);
    sum += wide(q);
  });
  top = block_max(top, shared);
  const T mass = static_cast<T>(block_sum(sum, shared_wide)), l = lse[r];
  write_row(r, classes, z, target, accumulate, dz,
            [&](Index, T x, T q) { return k * (mass * exp((x - top) * inverse - l) - q); });
}

/// One block a row i: what its rows' and its columns' softmax make of it. P is symmetric, so is Q.
template <class T>
__global__ void __launch_bounds__(block_size)
    symmetric_cross_entropy_kernel(Index n, const T* s, const std::int32_t* keys, double smoothing,
                                   double row_weight, double column_weight, const double* col_top,
                                   const double* col_log, double* row_loss, T* ds) {
  __shared__ double shared[block_warps];
  const double m = 1 / static_cast<double>(n);
  const Index i = blockIdx.x;
  const T* x = s + i * n;
  LogSum<double> row;
  double same = 0;
  for (Index j = threadIdx.x; j < n; j += block_size) {
    row.add(wide(x[j]));
    same += keys ? keys[i] == keys[j] : i == j;
  }
  row = block_log_sum(row, 1.0, shared, shared);
  same = block_sum(same, shared);
  const double row_log = row.log();
  double loss = 0;
  for (Index j = threadIdx.x; j < n; j += block_size) {
    const bool positive = keys ? keys[i] == keys[j] : i == j;
    const double q = (1 - smoothing) * (positive ? 1 / same : 0.0) + smoothing * m;
    const double of_row = (wide(x[j]) - row.top) - row_log,
                 of_column = (wide(x[j]) - col_top[j]) - col_log[j];
    if (q != 0)
      loss -= q * m *
              ((row_weight != 0 ? row_weight * of_row : 0) +
               (column_weight != 0 ? column_weight * of_column : 0));
    ds[i * n + j] = static_cast<T>(row_weight * m * (exp(of_row) - q)) +
                    static_cast<T>(column_weight * m * (exp(of_column) - q));
  }
  loss = block_sum(loss, shared);
  if (threadIdx.x == 0) row_loss[i] = loss;
}

/// y = factor sum(x)
template <class T>
__global__ void __launch_bounds__(block_size)
    sum_kernel(Index n, double factor, const double* x, T* y) {
  __shared__ double shared[block_warps];
  double s = 0;
  for (Index i = threadIdx.x; i < n; i += block_size) s += x[i];
  s = block_sum(s, shared);
  if (threadIdx.x == 0) *y = static_cast<T>(factor * s);
}

/// More rows than a grid has blocks are refused by the launch.
unsigned block_a_row(Index rows) { return static_cast<unsigned>(std::min<Index>(rows, UINT_MAX)); }

/// The losses of the rows, by launch(blocks, their losses), become their mean times `factor`; 0 for
/// none.
template <class T, class F>
void mean_of_rows(Index rows, double factor, const char* operation, T* loss, F launch) {
  Context::State& c = current();
  const Scratch<double> row_loss(c, rows);
  if (rows > 0) {
    launch(block_a_row(rows), row_loss.data());
    check(cudaGetLastError(), operation);
    factor /= static_cast<double>(rows);
  }
  sum_kernel<<<1, block_size, 0, c.stream>>>(rows, factor, row_loss.data(), loss);
  check(cudaGetLastError(), operation);
}

}  // namespace

template <class T>
void Losses::cross_entropy(Index rows, Index classes, const T* z, const std::int32_t* target,
                           double smoothing, T* loss, T* lse, T* top) {
  mean_of_rows(rows, 1, "cross_entropy", loss, [&](unsigned blocks, double* row_loss) {
    cross_entropy_kernel<<<blocks, block_size, 0, current().stream>>>(classes, z, target, smoothing,
                                                                      row_loss, lse, top);
  });
}
template <class T>
void Losses::cross_entropy_backward(Index rows, Index classes, const T* z,
                                    const std::int32_t* target, double smoothing, const T* lse,
                                    const T* upstream, bool accumulate, T* dz, const T* top) {
  const T flat = static_cast<T>(smoothing / static_cast<double>(classes)),
          smooth = static_cast<T>(smoothing), share = static_cast<T>(1 / static_cast<double>(rows));
  if (rows <= 0 || classes <= 0) return;
  cross_entropy_backward_kernel<<<block_a_row(rows), block_size, 0, current().stream>>>(
      classes, z, target, flat, smooth, share, lse, top, upstream, accumulate, dz);
  check(cudaGetLastError(), "cross_entropy_backward");
}

template <class T>
void Losses::distillation(Index rows, Index classes, const T* student, const T* teacher, double tau,
                          T* loss, T* lse_s, T* lse_t, T* top_s, T* top_t) {
  if (classes <= 0) {  // without a class there is no gradient that would read `top`
    for_each(1, "distillation", [=] __device__(Index) { *loss = T(0); });
    return for_each(rows, "distillation",
                    [=] __device__(Index r) { lse_s[r] = lse_t[r] = T(-INFINITY); });
  }
  mean_of_rows(rows, tau * tau, "distillation", loss, [&](unsigned blocks, double* row_loss) {
    distillation_kernel<<<blocks, block_size, 0, current().stream>>>(
        classes, student, teacher, tau, row_loss, lse_s, lse_t, top_s, top_t);
  });
}
template <class T>
void Losses::distillation_backward(Index rows, Index classes, const T* student, const T* teacher,
                                   double tau, const T* lse_s, const T* lse_t, const T* upstream,
                                   bool accumulate, T* dstudent, const T* top_s, const T* top_t) {
  if (rows <= 0 || classes <= 0) return;
  distillation_backward_kernel<<<block_a_row(rows), block_size, 0, current().stream>>>(
      classes, student, teacher, static_cast<T>(1 / tau), tau / static_cast<double>(rows), lse_s,
      lse_t, top_s, top_t, upstream, accumulate, dstudent);
  check(cudaGetLastError(), "distillation_backward");
}

template <class T>
void Losses::soft_cross_entropy(Index rows, Index classes, const T* z, const T* target, double tau,
                                T* loss, T* lse) {
  if (classes <= 0) {
    for_each(1, "soft_cross_entropy", [=] __device__(Index) { *loss = T(0); });
    return for_each(rows, "soft_cross_entropy", [=] __device__(Index r) { lse[r] = T(-INFINITY); });
  }
  mean_of_rows(rows, 1, "soft_cross_entropy", loss, [&](unsigned blocks, double* row_loss) {
    soft_cross_entropy_kernel<<<blocks, block_size, 0, current().stream>>>(classes, z, target, tau,
                                                                           row_loss, lse);
  });
}
template <class T>
void Losses::soft_cross_entropy_backward(Index rows, Index classes, const T* z, const T* target,
                                         double tau, const T* lse, const T* upstream,
                                         bool accumulate, T* dz) {
  if (rows <= 0 || classes <= 0) return;
  soft_cross_entropy_backward_kernel<<<block_a_row(rows), block_size, 0, current().stream>>>(
      classes, z, target, static_cast<T>(1 / tau), 1 / (static_cast<double>(rows) * tau), lse,
      upstream, accumulate, dz);
  check(cudaGetLastError(), "soft_cross_entropy_backward");
}

template <class T>
void Losses::sinkhorn(Index rows, Index cols, const T* scores, double eps, Index iterations, T* q) {
  constexpr const char* name = "sinkhorn";
  Context::State& context = current();
  if (rows <= 0 || cols <= 0) return;
  const Scratch<double> factors(context, rows + cols);
  double *u = factors.data(), *v = u + rows;  // logarithms
  check(
      cudaMemsetAsync(u, 0, static_cast<std::size_t>(rows + cols) * sizeof(double), context.stream),
      name);
  const auto s = [=] __device__(Index r, Index c) { return wide(scores[r * cols + c]) / eps; };
  const auto each_row = [&] {
    row_log_sums(
        rows, cols, name, [=] __device__(Index r, Index c) { return s(r, c) + v[c]; },
        [=] __device__(Index r, const LogSum<double>& x) { u[r] = -(x.top + x.log()); });
  };
  for (Index k = 0; k < iterations; ++k) {
    if (k > 0) each_row();
    column_log_sums(
        rows, cols, name, [=] __device__(Index r, Index c) { return s(r, c) + u[r]; },
        [=] __device__(Index c, const LogSum<double>& x) { v[c] = -(x.top + x.log()); });
  }
  each_row();
  for_each(rows * cols, name, [=] __device__(Index i) {
    const Index r = i / cols, c = i % cols;
    q[i] = static_cast<T>(exp(s(r, c) + u[r] + v[c]));
  });
}

template <class T>
void Losses::symmetric_cross_entropy(Index n, const T* s, const std::int32_t* keys,
                                     double smoothing, double row_weight, double column_weight,
                                     T* loss, T* ds) {
  constexpr const char* name = "symmetric_cross_entropy";
  Context::State& context = current();
  const Scratch<double> columns(context, 2 * n);
  double *top = columns.data(), *log = top + n;
  column_log_sums(
      n, n, name, [=] __device__(Index r, Index c) { return wide(s[r * n + c]); },
      [=] __device__(Index c, const LogSum<double>& x) {
        top[c] = x.top;
        log[c] = x.log();
      });
  mean_of_rows(n, static_cast<double>(n), name, loss, [&](unsigned blocks, double* row_loss) {
    symmetric_cross_entropy_kernel<<<blocks, block_size, 0, context.stream>>>(
        n, s, keys, smoothing, row_weight, column_weight, top, log, row_loss, ds);
  });
}

#define HYBRIDMED_INSTANTIATE(T)                                                                   \
  template void Losses::cross_entropy(Index, Index, const T*, const std::int32_t*, double, T*, T*, \
                                      T*);                                                         \
  template void Losses::cross_entropy_backward(Index, Index, const T*, const std::int32_t*,        \
                                               double, const T*, const T*, bool, T*, const T*);    \
  template void Losses::distillation(Index, Index, const T*, const T*, double, T*, T*, T*, T*,     \
                                     T*);                                                          \
  template void Losses::distillation_backward(Index, Index, const T*, const T*, double, const T*,  \
                                              const T*, const T*, bool, T*, const T*, const T*);   \
  template void Losses::soft_cross_entropy(Index, Index, const T*, const T*, double, T*, T*);      \
  template void Losses::soft_cross_entropy_backward(Index, Index, const T*, const T*, double,      \
                                                    const T*, const T*, bool, T*);                 \
  template void Losses::sinkhorn(Index, Index, const T*, double, Index, T*);                       \
  template void Losses::symmetric_cross_entropy(Index, const T*, const std::int32_t*, double,      \
                                                double, double, T*, T*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
