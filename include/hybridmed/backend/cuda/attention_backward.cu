// Ragged attention, backward:
//
//   column_centres_kernel   what is taken from keys and values (see there)
//   query_gradient_kernel   a tile of queries -> dq, and each row's maximum, 1 / sum and delta
//   key_gradient_kernel     a tile of keys; walks over tiles of queries -> dk, dv, dbias
//
// Scores are computed twice, and in return no two blocks add to one place. They are normalised
// anew, as the reference does: a log-sum-exp, rounded, would make an offset that all scores of a
// row share cost digits of the gradient.
#include "hybridmed/backend/cuda/attention.cuh"
#include "hybridmed/backend/cuda/attention.hpp"
#include "hybridmed/backend/cuda/attention_bf16.cuh"

namespace hybridmed::cuda {

namespace {

using namespace tiles;

/// The gradient stays the same when one vector is taken from all keys of a segment, or from all
/// values: the rows of ds sum to zero. Without their means, near-equal keys or values lose no
/// digits to cancellation. centres (2, segments, width) gets the mean of each column of k and v
/// whose values lie nearer to it than it lies to zero, and else 0: there nothing cancels, and one
/// large value, which a row may not even see, would take the digits of all others. 32 columns a
/// block, 8 threads each.
template <class T>
__global__ void __launch_bounds__(block_size)
    column_centres_kernel(const AttentionArgs<T> a, Index width, int strips,
                          accumulator_of<T>* centres) {
  using A = accumulator_of<T>;
  constexpr int columns = warp_size, parts = block_size / columns;
  // In bf16 what is left must be a bf16 number, as the difference of two is that are less than a
  // factor of 2 apart.
  constexpr A nearness = std::is_same_v<T, bfloat16> ? A(0.49) : A(1);
  __shared__ A shared[parts][columns + 1];
  const int x = static_cast<int>(threadIdx.x) % columns,
            part = static_cast<int>(threadIdx.x) / columns;
  const Index of_values = blockIdx.x % 2, column = blockIdx.x / 2 % strips * columns + x,
              segment = blockIdx.x / 2 / strips;
  const Segment ks(a.k_ranges, segment);
  const Index ld = of_values ? a.ldv : a.ldk;
  const T* rows = (of_values ? a.v : a.k) + ks.first * ld + column;
  const bool in = column < width;
  A sum = A(0), spread = A(0);
  if (in)
    for (int j = part; j < ks.count; j += parts) sum += rows[j * ld];
  shared[part][x] = sum;
  __syncthreads();
  sum = A(0);
  for (int p = 0; p < parts; ++p) sum += shared[p][x];
  const A mean = sum / static_cast<A>(ks.count);
  if (in)
    for (int j = part; j < ks.count; j += parts) spread = max(spread, abs(rows[j * ld] - mean));
  __syncthreads();
  shared[part][x] = spread;
  __syncthreads();
  for (int p = 0; p < parts; ++p) spread = max(spread, shared[p][x]);
  if (in && part == 0)
    centres[(of_values * a.segments + segment) * width + column] =
        isfinite(mean) && spread < abs(mean) * nearness ? widen(narrow<T>(mean)) : A(0);
}

template <class T, int dim, class Tile>
__global__ void __launch_bounds__(threads, Tile::blocks)
    query_gradient_kernel(const AttentionArgs<T> a, const AttentionGradients<T> g,
                          const accumulator_of<T>* centres,
                          RowStatistics<accumulator_of<T>> statistics, int tiles, bool pieces) {
  using A = accumulator_of<T>;
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<A, dim>,
                weights_ld = Tile::weights_pitch;
  using OfQueries = Lane<queries>;
  constexpr int R = OfQueries::count, C = keys / lanes;
  A *q = reinterpret_cast<A*>(memory), *dout = q + queries * ld, *k = dout + queries * ld,
    *v = k + keys * ld, *weights = v + keys * ld;
  const OfQueries lane;
  const Task task(tiles, a.heads);
  const Segment qs(a.q_ranges, task.segment), ks(a.k_ranges, task.segment);
  const Addend<T> addend(a, task.segment, task.head);
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d, width = a.heads * d;
  const T *k_rows = a.k + ks.first * a.ldk + column, *v_rows = a.v + ks.first * a.ldv + column;
  const A *k_centre = centres + task.segment * width + column,
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
    A top[R], sum[R], delta[R], y[R][dim / lanes] = {};
    unsigned any = 0;  // bit r: row r has a key
#pragma unroll
    for (int r = 0; r < R; ++r) {
      top[r] = -INFINITY;
      sum[r] = A(0);
      const int i = i0 + lane.row(r);
      double part = 0;
      if (i < qs.count) {
        const Index row = qs.first + i;
        const T *dout_row = g.dout + row * a.ldo + column, *out_row = a.out + row * a.ldo + column;
        for (int c = lane.x; c < d; c += lanes)
          part += wide(dout_row[c]) * (wide(out_row[c]) - wide(v_centre[c]));
        if (ks.count > 0 && a.lse[row * a.heads + task.head] != A(-INFINITY)) any |= 1u << r;
      }
      delta[r] = static_cast<A>(half_warp_sum(part));
    }
    for (int j0 = 0; j0 < seen; j0 += keys) {
      __pipeline_wait_prior(1);
      subtract<keys, dim>(v, v_centre, d);
      __syncthreads();
      A ds[R][C], s[R][C];
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
          A highest = top[r];
#pragma unroll
          for (int c = 0; c < C; ++c) {
            const int j = j0 + lane.x + lanes * c;
            s[r][c] = j < limit ? s[r][c] * a.scale + addend(i, j) : A(-INFINITY);
            highest = max(highest, s[r][c]);
          }
          highest = half_warp_max(highest);
          const A shift = highest == A(-INFINITY) ? A(0) : highest,
                  correction = exp(top[r] - shift);
          top[r] = highest;
          sum[r] *= correction;
#pragma unroll
          for (int c = 0; c < dim / lanes; ++c) y[r][c] *= correction;
#pragma unroll
          for (int c = 0; c < C; ++c) {
            const A p = any >> r & 1u ? exp(s[r][c] - shift) : A(0);
            sum[r] += p;
            weights[lane.row(r) * weights_ld + lane.x + lanes * c] =
                j0 + lane.x + lanes * c < limit ? p * (ds[r][c] - delta[r]) : A(0);
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
      const A total = half_warp_sum(sum[r]), inverse = any >> r & 1u ? A(1) / total : A(0);
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
    key_gradient_kernel(const AttentionArgs<T> a, const AttentionGradients<T> g,
                        const accumulator_of<T>* centres,
                        const RowStatistics<accumulator_of<T>> statistics, Index groups,
                        accumulator_of<T>* bias_parts, int tiles, bool pieces) {
  using A = accumulator_of<T>;
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<A, dim>,
                weights_ld = Tile::weights_pitch;
  using OfQueries = Lane<queries>;
  using OfKeys = Lane<keys>;
  constexpr int R = OfQueries::count, C = keys / lanes;
  A *k = reinterpret_cast<A*>(memory), *v = k + keys * ld, *q = v + keys * ld,
    *dout = q + queries * ld, *p_weights = dout + queries * ld,
    *ds_weights = p_weights + keys * weights_ld;  // (keys, queries)
  const OfQueries lane;
  const OfKeys key_lane;
  const Task task(tiles, a.heads);  // its segment is a group
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d, width = a.heads * d;
  A* bias_part =
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
      const A* centre = centres + segment * width + column;
      __pipeline_wait_prior(0);
      subtract<keys, dim>(k, centre, d);
      subtract<keys, dim>(v, centre + a.segments * width, d);
      A dk[OfKeys::count][dim / lanes] = {}, dv[OfKeys::count][dim / lanes] = {};
      for (int i0 = begin; i0 < qs.count; i0 += queries) {
        const int rows = min(queries, qs.count - i0);
        const bool scoring = lane.first_of_warp < rows;
        __pipeline_wait_prior(1);
        __syncthreads();
        A ds[R][C], s[R][C];
        if (scoring) products<dim>(dout + lane.first * ld, v + lane.x * ld, d, ds);
        __pipeline_wait_prior(0);
        __syncthreads();
        if (scoring) {
          products<dim>(q + lane.first * ld, k + lane.x * ld, d, s);
#pragma unroll
          for (int r = 0; r < R; ++r) {
            const int i = i0 + lane.row(r), limit = i < qs.count ? seen_by(a, i, ks.count) : 0;
            const Index at = first_statistic + min(i, qs.count - 1);
            const A top = statistics.top[at], inverse = statistics.inverse[at],
                    delta = statistics.delta[at];
#pragma unroll
            for (int c = 0; c < C; ++c) {
              const int j = j0 + lane.x + lanes * c;
              A p = A(0), slope = A(0);
              if (j < limit) {
                if (inverse != A(0)) p = exp(s[r][c] * a.scale + addend(i, j) - top) * inverse;
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
        write_row<dim>(dv[r], A(1), g.dv + row * a.ldv + column, d, lane.x, pieces);
        write_row<dim>(dk[r], a.scale, g.dk + row * a.ldk + column, d, lane.x, pieces);
      }
    }
  }
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
void Attention::attention_backward(const AttentionArgs<T>& a, const AttentionGradients<T>& g) {
  using A = accumulator_of<T>;
  constexpr const char* name = "attention_backward";
  Context::State& c = current_for<T>(name);
  with_dim<least_dim<T>>(a.head_dim, name, [&]<int dim>(std::integral_constant<int, dim>) {
    if (a.segments <= 0 || a.heads <= 0) return;
    if (a.query_rows < 0)
      fail("cuda", name, "AttentionArgs::query_rows is not set",
           "it cannot be read from the ranges without waiting for the device");
    using ForQueries = typename Tiles<A, dim>::QueryGradient;
    using ForKeys = typename Tiles<A, dim>::KeyGradient;
    const bool on_tensor_cores = std::is_same_v<T, bfloat16> && a.head_dim <= widest_half;
    const Index d = a.head_dim, width = a.heads * d;
    const bool pieces = in_pieces(d, a.q, a.ldq) && in_pieces(d, a.k, a.ldk) &&
                        in_pieces(d, a.v, a.ldv) && in_pieces(d, g.dout, a.ldo) &&
                        in_pieces<T>(d, g.dq, a.ldq) && in_pieces<T>(d, g.dk, a.ldk) &&
                        in_pieces<T>(d, g.dv, a.ldv);

    const Scratch<A> centres(c, 2 * a.segments * width);
    const Index strips = (width + warp_size - 1) / warp_size;
    if (strips > 0)
      launch(c, name, column_centres_kernel<T>, 2 * a.segments * strips, block_size, 0, a, width,
             static_cast<int>(strips), centres.data());

    const Index per_head = a.heads * a.query_rows;
    const Scratch<A> rows(c, 3 * per_head);
    const RowStatistics<A> statistics{rows.data(), rows.data() + per_head,
                                      rows.data() + 2 * per_head};
    if constexpr (std::is_same_v<T, bfloat16>)
      if (on_tensor_cores) query_gradient_bf16(c, a, g, centres.data(), statistics, pieces, name);
    if (!on_tensor_cores) {
      const int tiles = tiles_for(a.longest_queries, ForQueries::queries);
      launch(c, name, query_gradient_kernel<T, dim, ForQueries>, a.segments * a.heads * tiles,
             threads, ForQueries::bytes, a, g, centres.data(), statistics, tiles, pieces);
    }

    // The bias gradient sums over segments: in groups, then group by group. There are as many as
    // fill a large device, but no more than 64 MiB of partial sums.
    const Index plane = a.heads * a.area * a.area;
    Index groups = a.segments;
    if (g.dbias) {
      constexpr Index wanted = 1024, most_bytes = Index{64} << 20;
      groups = std::min({groups, (wanted + a.heads - 1) / a.heads,
                         most_bytes / std::max<Index>(1, plane * Index{sizeof(A)})});
      groups = std::max<Index>(groups, 1);
    }
    const Scratch<A> bias_parts(c, g.dbias ? groups * plane : 0);
    A* const parts = g.dbias ? bias_parts.data() : nullptr;
    if (parts)
      check(
          cudaMemsetAsync(parts, 0, static_cast<std::size_t>(groups * plane) * sizeof(A), c.stream),
          name);
    if constexpr (std::is_same_v<T, bfloat16>)
      if (on_tensor_cores)
        key_gradient_bf16(c, a, g, centres.data(), statistics, groups, parts, pieces, name);
    if (!on_tensor_cores) {
      const int tiles = tiles_for(a.longest_keys, ForKeys::keys);
      launch(c, name, key_gradient_kernel<T, dim, ForKeys>, groups * a.heads * tiles, threads,
             ForKeys::bytes, a, g, centres.data(), statistics, groups, parts, tiles, pieces);
    }
    if (parts) add_groups(groups, plane, name, parts, g.dbias);
  });
}

#define HYBRIDMED_INSTANTIATE(T)                                       \
  template void Attention::attention_backward(const AttentionArgs<T>&, \
                                              const AttentionGradients<T>&);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
