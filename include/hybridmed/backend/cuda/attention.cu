// Ragged attention, forward. A block takes a tile of queries of one segment and head, and walks
// over tiles of keys with a running maximum and sum: a score is computed once and never leaves the
// block.
#include "hybridmed/backend/cuda/attention.cuh"
#include "hybridmed/backend/cuda/attention.hpp"
#include "hybridmed/backend/cuda/attention_bf16.cuh"

namespace hybridmed::cuda {

namespace {

using namespace tiles;

template <class T, int dim, class Tile>
__global__ void __launch_bounds__(threads, Tile::blocks)
    attention_kernel(const AttentionArgs<T> a, int tiles, bool pieces) {
  using A = accumulator_of<T>;
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<A, dim>,
                weights_ld = Tile::weights_pitch;
  using OfQueries = Lane<queries>;
  constexpr int R = OfQueries::count, C = keys / lanes;
  A *q = reinterpret_cast<A*>(memory), *k = q + queries * ld, *v = k + keys * ld,
    *weights = v + keys * ld;
  const OfQueries lane;
  const Task task(tiles, a.heads);
  const Segment qs(a.q_ranges, task.segment), ks(a.k_ranges, task.segment);
  const Addend<T> addend(a, task.segment, task.head);
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d;
  const T *k_rows = a.k + ks.first * a.ldk + column, *v_rows = a.v + ks.first * a.ldv + column;
  for (int i0 = task.tile * queries; i0 < qs.count; i0 += tiles * queries) {
    const int rows = min(queries, qs.count - i0),
              seen = seen_by(a, i0 + rows - 1, ks.count);  // by the last row
    const bool working = lane.first_of_warp < rows;
    __syncthreads();  // the tile before is no longer read
    copy_rows<queries, dim>(q, a.q + (qs.first + i0) * a.ldq + column, a.ldq, rows, d, pieces);
    copy_rows<keys, dim>(k, k_rows, a.ldk, seen, d, pieces);
    __pipeline_commit();
    A top[R], sum[R], y[R][dim / lanes] = {};
    unsigned admitted = 0;  // bit r: a key of row r is not masked out
#pragma unroll
    for (int r = 0; r < R; ++r) {
      top[r] = -INFINITY;
      sum[r] = A(0);
    }
    for (int j0 = 0; j0 < seen; j0 += keys) {
      // Values come while scores are made, and the next keys while values are used.
      __pipeline_wait_prior(0);
      __syncthreads();
      copy_rows<keys, dim>(v, v_rows + j0 * a.ldv, a.ldv, seen - j0, d, pieces);
      __pipeline_commit();
      A s[R][C];
      if (working) products<dim>(q + lane.first * ld, k + lane.x * ld, d, s);
      __syncthreads();
      if (j0 + keys < seen)
        copy_rows<keys, dim>(k, k_rows + (j0 + keys) * a.ldk, a.ldk, seen - j0 - keys, d, pieces);
      __pipeline_commit();
      if (working) {
#pragma unroll
        for (int r = 0; r < R; ++r) {
          const int i = i0 + lane.row(r), limit = i < qs.count ? seen_by(a, i, ks.count) : 0;
          A highest = top[r];
#pragma unroll
          for (int c = 0; c < C; ++c) {
            const int j = j0 + lane.x + lanes * c;
            const bool in = j < limit;
            const A extra = in ? addend(i, j) : A(0);
            if (in && extra != A(-INFINITY)) admitted |= 1u << r;
            s[r][c] = in ? s[r][c] * a.scale + extra : A(-INFINITY);
            highest = max(highest, s[r][c]);
          }
          highest = half_warp_max(highest);
          const A shift = highest == A(-INFINITY) ? A(0) : highest,  // -inf - -inf is NaN
              correction = exp(top[r] - shift);
          top[r] = highest;
          sum[r] *= correction;
#pragma unroll
          for (int c = 0; c < dim / lanes; ++c) y[r][c] *= correction;
#pragma unroll
          for (int c = 0; c < C; ++c) {
            const A p = exp(s[r][c] - shift);
            sum[r] += p;
            weights[lane.row(r) * weights_ld + lane.x + lanes * c] = p;
          }
        }
      }
      __pipeline_wait_prior(1);
      __syncthreads();
      if (working)
        accumulate_keys<dim>(weights + lane.first * weights_ld, weights_ld, v, min(keys, seen - j0),
                             a.causal, i0 - j0, lane, y);
    }
    __pipeline_wait_prior(0);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int i = i0 + lane.row(r);
      const bool any = half_warp_any(admitted >> r & 1u);
      A total = half_warp_sum(sum[r]);
      if (i >= qs.count) continue;
      if (top[r] == A(-INFINITY)) total = NAN;  // no exponential, and yet not masked out
      const Index row = qs.first + i;
      if (lane.x == 0) a.lse[row * a.heads + task.head] = any ? top[r] + log(total) : -INFINITY;
      if (!any) {
#pragma unroll
        for (int c = 0; c < dim / lanes; ++c) y[r][c] = A(0);
      }
      write_row<dim>(y[r], any ? A(1) / total : A(1), a.out + row * a.ldo + column, d, lane.x,
                     pieces);
    }
  }
}

}  // namespace

template <class T>
void Attention::attention(const AttentionArgs<T>& a) {
  constexpr const char* name = "attention";
  Context::State& c = current_for<T>(name);
  with_dim<least_dim<T>>(a.head_dim, name, [&]<int dim>(std::integral_constant<int, dim>) {
    if (a.segments <= 0 || a.heads <= 0) return;
    if constexpr (std::is_same_v<T, bfloat16>)
      if (a.head_dim <= widest_half) return attention_bf16(c, a, name);
    using Tile = typename Tiles<accumulator_of<T>, dim>::Forward;
    const int tiles = tiles_for(a.longest_queries, Tile::queries);
    const Index d = a.head_dim;
    const bool pieces = in_pieces(d, a.q, a.ldq) && in_pieces(d, a.k, a.ldk) &&
                        in_pieces(d, a.v, a.ldv) && in_pieces<T>(d, a.out, a.ldo);
    launch(c, name, attention_kernel<T, dim, Tile>, a.segments * a.heads * tiles, threads,
           Tile::bytes, a, tiles, pieces);
  });
}

#define HYBRIDMED_INSTANTIATE(T) template void Attention::attention(const AttentionArgs<T>&);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
HYBRIDMED_INSTANTIATE(bfloat16)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
