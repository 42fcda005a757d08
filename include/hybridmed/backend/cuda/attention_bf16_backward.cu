// Attention in bf16, backward: the two kernels of attention_backward.cu with products on tensor
// cores. Weights and their gradients are rounded to bf16 for the second product; the gradients of a
// bias are not.
#include "hybridmed/backend/cuda/attention_bf16.cuh"

namespace hybridmed::cuda::tiles {

namespace {

using T = bfloat16;

/// The sum over a row of dout (out - centre), in all four lanes of the row; dout lies in a tile.
__device__ float row_delta(const T* dout, const T* out, const float* centre, int d, int column) {
  float sum = 0;
  for (int c = column; c < d; c += 8)
    for (int e = c; e < min(c + 2, d); ++e) sum += widen(dout[e]) * (widen(out[e]) - centre[e]);
  return row_sum(sum);
}

template <int dim, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks)
    half_query_gradient_kernel(const AttentionArgs<T> a, const AttentionGradients<T> g,
                               const float* centres, RowStatistics<float> statistics, int tiles,
                               bool pieces) {
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<T, dim>, N = keys / 8;
  T *q = reinterpret_cast<T*>(memory), *dout = q + queries * ld, *k = dout + queries * ld,
    *v = k + keys * ld;
  const FragmentLane lane;
  const Task task(tiles, a.heads);
  const Segment qs(a.q_ranges, task.segment), ks(a.k_ranges, task.segment);
  const Addend<T> addend(a, task.segment, task.head);
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d, width = a.heads * d;
  const T *k_rows = a.k + ks.first * a.ldk + column, *v_rows = a.v + ks.first * a.ldv + column;
  const float *k_centre = centres + task.segment * width + column,
              *v_centre = k_centre + a.segments * width;
  for (int i0 = task.tile * queries; i0 < qs.count; i0 += tiles * queries) {
    const int rows = min(queries, qs.count - i0), seen = seen_by(a, i0 + rows - 1, ks.count);
    const bool working = lane.first_of_warp < rows;
    __syncthreads();  // the tile before is no longer read
    copy_rows<queries, dim, Tile::threads>(dout, g.dout + (qs.first + i0) * a.ldo + column, a.ldo,
                                           rows, d, pieces);
    copy_rows<keys, dim, Tile::threads>(v, v_rows, a.ldv, seen, d, pieces);
    __pipeline_commit();
    copy_rows<queries, dim, Tile::threads>(q, a.q + (qs.first + i0) * a.ldq + column, a.ldq, rows,
                                           d, pieces);
    copy_rows<keys, dim, Tile::threads>(k, k_rows, a.ldk, seen, d, pieces);
    __pipeline_commit();
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {}, delta[2] = {}, y[dim / 8][4] = {};
    unsigned any = 0;  // bit h: the lane's row h has a key
    __pipeline_wait_prior(1);
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int i = min(i0 + lane.row + 8 * h, qs.count - 1);
      const Index row = qs.first + i;
      delta[h] =
          row_delta(dout + (i - i0) * ld, a.out + row * a.ldo + column, v_centre, d, lane.column);
      if (ks.count > 0 && a.lse[row * a.heads + task.head] != -INFINITY) any |= 1u << h;
    }
    for (int j0 = 0; j0 < seen; j0 += keys) {
      __pipeline_wait_prior(1);
      subtract<keys, dim, Tile::threads>(v, v_centre, d);
      __syncthreads();
      float ds[N][4], s[N][4];
      if (working) multiply_rows<dim, ld>(dout + lane.first_of_warp * ld, v, d, ds);
      __pipeline_wait_prior(0);
      subtract<keys, dim, Tile::threads>(k, k_centre, d);
      __syncthreads();
      if (j0 + keys < seen)
        copy_rows<keys, dim, Tile::threads>(v, v_rows + (j0 + keys) * a.ldv, a.ldv,
                                            seen - j0 - keys, d, pieces);
      __pipeline_commit();
      if (working) {
        multiply_rows<dim, ld>(q + lane.first_of_warp * ld, k, d, s);
        std::uint32_t weights[N][2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int i = i0 + lane.row + 8 * h, first = j0 + lane.column,
                    limit = (i < qs.count ? seen_by(a, i, ks.count) : 0) - first;
          const auto extras = addend.row(i, first);
          float highest = top[h];
#pragma unroll
          for (int n = 0; n < N; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              float& x = s[n][2 * h + e];
              x = 8 * n + e < limit ? x * a.scale + extras(8 * n + e) : -INFINITY;
              highest = max(highest, x);
            }
          highest = row_max(highest);
          const float shift = highest == -INFINITY ? 0.0f : highest,
                      correction = __expf(top[h] - shift);
          top[h] = highest;
          sum[h] *= correction;
#pragma unroll
          for (int n = 0; n < dim / 8; ++n) {
            y[n][2 * h] *= correction;
            y[n][2 * h + 1] *= correction;
          }
#pragma unroll
          for (int n = 0; n < N; ++n) {
            float slope[2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const float p = any >> h & 1u ? __expf(s[n][2 * h + e] - shift) : 0.0f;
              sum[h] += p;
              slope[e] = 8 * n + e < limit ? p * (ds[n][2 * h + e] - delta[h]) : 0.0f;
            }
            weights[n][h] = narrow_pair(slope[0], slope[1]);
          }
        }
        accumulate_seen<dim, ld>(weights, k, min(keys, seen - j0), d, lane.first_of_warp,
                                 sight_of_queries(a.causal, i0, j0), y);
      }
      __syncthreads();
      if (j0 + keys < seen)
        copy_rows<keys, dim, Tile::threads>(k, k_rows + (j0 + keys) * a.ldk, a.ldk,
                                            seen - j0 - keys, d, pieces);
      __pipeline_commit();
    }
    __pipeline_wait_prior(0);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int i = i0 + lane.row + 8 * h;
      const float total = row_sum(sum[h]), inverse = any >> h & 1u ? 1 / total : 0.0f;
      if (i >= qs.count) continue;
      const Index row = qs.first + i;
      if (lane.column == 0) {
        const Index at = task.head * a.query_rows + row;
        statistics.top[at] = top[h];
        statistics.inverse[at] = inverse;
        statistics.delta[at] = delta[h];
      }
      write_half_row(y, h, inverse * a.scale, g.dq + row * a.ldq + column, d, lane.column, pieces);
    }
  }
}

/// As key_gradient_kernel; scores lie with keys along rows.
template <int dim, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks)
    half_key_gradient_kernel(const AttentionArgs<T> a, const AttentionGradients<T> g,
                             const float* centres, const RowStatistics<float> statistics,
                             Index groups, float* bias_parts, int tiles, bool pieces) {
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<T, dim>, N = queries / 8;
  T *k = reinterpret_cast<T*>(memory), *v = k + keys * ld, *q = v + keys * ld,
    *dout = q + queries * ld;
  const FragmentLane lane;
  const Task task(tiles, a.heads);  // its segment is a group
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d, width = a.heads * d;
  float* bias_part =
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
      const bool working = lane.first_of_warp < cols;
      const int begin = a.causal ? j0 / queries * queries : 0;  // no query before sees these keys
      __syncthreads();                                          // the tile before is no longer read
      copy_rows<keys, dim, Tile::threads>(k, a.k + (ks.first + j0) * a.ldk + column, a.ldk, cols, d,
                                          pieces);
      copy_rows<keys, dim, Tile::threads>(v, a.v + (ks.first + j0) * a.ldv + column, a.ldv, cols, d,
                                          pieces);
      copy_rows<queries, dim, Tile::threads>(dout, dout_rows + begin * a.ldo, a.ldo,
                                             qs.count - begin, d, pieces);
      copy_rows<queries, dim, Tile::threads>(q, q_rows + begin * a.ldq, a.ldq, qs.count - begin, d,
                                             pieces);
      __pipeline_commit();
      const float* centre = centres + segment * width + column;
      __pipeline_wait_prior(0);
      subtract<keys, dim, Tile::threads>(k, centre, d);
      subtract<keys, dim, Tile::threads>(v, centre + a.segments * width, d);
      float dk[dim / 8][4] = {}, dv[dim / 8][4] = {};
      for (int i0 = begin; i0 < qs.count; i0 += queries) {
        const int rows = min(queries, qs.count - i0);
        const auto sight = sight_of_keys(a.causal, i0, j0);
        std::uint32_t p_weights[N][2], ds_weights[N][2];
        __pipeline_wait_prior(0);
        __syncthreads();
        if (working) {
          float ds[N][4], s[N][4];
          multiply_rows<dim, ld>(v + lane.first_of_warp * ld, dout, d, ds);
          multiply_rows<dim, ld>(k + lane.first_of_warp * ld, q, d, s);
#pragma unroll
          for (int n = 0; n < N; ++n) {
            float p[4], slope[4];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              const int i = i0 + 8 * n + lane.column + e, j = j0 + lane.row,
                        limit = (i < qs.count ? seen_by(a, i, ks.count) : 0) - j;
              const Index at = first_statistic + min(i, qs.count - 1);
              const auto extras = addend.row(i, j);
              const float top = statistics.top[at], inverse = statistics.inverse[at],
                          delta = statistics.delta[at];
#pragma unroll
              for (int h = 0; h < 2; ++h) {
                const int x = 2 * h + e;
                p[x] = slope[x] = 0;
                if (8 * h >= limit) continue;
                if (inverse != 0) p[x] = __expf(s[n][x] * a.scale + extras(8 * h) - top) * inverse;
                slope[x] = p[x] * (ds[n][x] - delta);
                if (bias_part) bias_part[i * a.area + j + 8 * h] += slope[x];  // by no other thread
              }
            }
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              p_weights[n][h] = narrow_pair(p[2 * h], p[2 * h + 1]);
              ds_weights[n][h] = narrow_pair(slope[2 * h], slope[2 * h + 1]);
            }
          }
          accumulate_seen<dim, ld>(p_weights, dout, rows, d, lane.first_of_warp, sight, dv);
        }
        __syncthreads();
        const int next = i0 + queries;
        if (next < qs.count)
          copy_rows<queries, dim, Tile::threads>(dout, dout_rows + next * a.ldo, a.ldo,
                                                 qs.count - next, d, pieces);
        __pipeline_commit();
        if (working)
          accumulate_seen<dim, ld>(ds_weights, q, rows, d, lane.first_of_warp, sight, dk);
        __syncthreads();
        if (next < qs.count)
          copy_rows<queries, dim, Tile::threads>(q, q_rows + next * a.ldq, a.ldq, qs.count - next,
                                                 d, pieces);
        __pipeline_commit();
      }
      __pipeline_wait_prior(0);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int j = j0 + lane.row + 8 * h;
        if (j >= ks.count) continue;
        const Index row = ks.first + j;
        write_half_row(dv, h, 1.0f, g.dv + row * a.ldv + column, d, lane.column, pieces);
        write_half_row(dk, h, a.scale, g.dk + row * a.ldk + column, d, lane.column, pieces);
      }
    }
  }
}

}  // namespace

void query_gradient_bf16(Context::State& c, const AttentionArgs<T>& a,
                         const AttentionGradients<T>& g, const float* centres,
                         const RowStatistics<float>& statistics, bool pieces,
                         const char* operation) {
  with_half_tiles(a.head_dim, a.longest_queries, [&]<class Tiles>(std::type_identity<Tiles>) {
    constexpr int dim = Tiles::width;
    using Tile = typename Tiles::QueryGradient;
    const int tiles = tiles_for(a.longest_queries, Tile::queries);
    launch(c, operation, half_query_gradient_kernel<dim, Tile>, a.segments * a.heads * tiles,
           Tile::threads, Tile::bytes, a, g, centres, statistics, tiles, pieces);
  });
}

void key_gradient_bf16(Context::State& c, const AttentionArgs<T>& a, const AttentionGradients<T>& g,
                       const float* centres, const RowStatistics<float>& statistics, Index groups,
                       float* bias_parts, bool pieces, const char* operation) {
  with_half_tiles(a.head_dim, a.longest_keys, [&]<class Tiles>(std::type_identity<Tiles>) {
    constexpr int dim = Tiles::width;
    using Tile = typename Tiles::KeyGradient;
    const int tiles = tiles_for(a.longest_keys, Tile::keys);
    launch(c, operation, half_key_gradient_kernel<dim, Tile>, groups * a.heads * tiles,
           Tile::threads, Tile::bytes, a, g, centres, statistics, groups, bias_parts, tiles,
           pieces);
  });
}

}  // namespace hybridmed::cuda::tiles
