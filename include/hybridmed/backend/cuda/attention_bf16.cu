// Attention in bf16, forward: attention.cu's walk over tiles of keys, with products on tensor
// cores.
#include "hybridmed/backend/cuda/attention_bf16.cuh"

namespace hybridmed::cuda::tiles {

namespace {

template <int dim, class Tile>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks)
    half_attention_kernel(const AttentionArgs<bfloat16> a, int tiles, bool pieces) {
  using T = bfloat16;
  constexpr int queries = Tile::queries, keys = Tile::keys, ld = pitch<T, dim>, N = keys / 8;
  T *q = reinterpret_cast<T*>(memory), *k = q + queries * ld, *v = k + keys * ld;
  const FragmentLane lane;
  const Task task(tiles, a.heads);
  const Segment qs(a.q_ranges, task.segment), ks(a.k_ranges, task.segment);
  const Addend<T> addend(a, task.segment, task.head);
  const int d = static_cast<int>(a.head_dim);
  const Index column = task.head * d;
  const T *k_rows = a.k + ks.first * a.ldk + column, *v_rows = a.v + ks.first * a.ldv + column;
  for (int i0 = task.tile * queries; i0 < qs.count; i0 += tiles * queries) {
    const int rows = min(queries, qs.count - i0), seen = seen_by(a, i0 + rows - 1, ks.count);
    const bool working = lane.first_of_warp < rows;
    __syncthreads();  // the tile before is no longer read
    copy_rows<queries, dim, Tile::threads>(q, a.q + (qs.first + i0) * a.ldq + column, a.ldq, rows,
                                           d, pieces);
    copy_rows<keys, dim, Tile::threads>(k, k_rows, a.ldk, seen, d, pieces);
    __pipeline_commit();
    // `weight`: the sum of weights as they are multiplied with values, so that they add up to 1
    // whatever their rounding.
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {}, weight[2] = {}, y[dim / 8][4] = {};
    unsigned admitted = 0;  // bit h: a key of the lane's row h is not masked out
    for (int j0 = 0; j0 < seen; j0 += keys) {
      // Values come while scores are made, and the next keys while values are used.
      __pipeline_wait_prior(0);
      __syncthreads();
      copy_rows<keys, dim, Tile::threads>(v, v_rows + j0 * a.ldv, a.ldv, seen - j0, d, pieces);
      __pipeline_commit();
      float s[N][4];
      if (working) multiply_rows<dim, ld>(q + lane.first_of_warp * ld, k, d, s);
      __syncthreads();
      if (j0 + keys < seen)
        copy_rows<keys, dim, Tile::threads>(k, k_rows + (j0 + keys) * a.ldk, a.ldk,
                                            seen - j0 - keys, d, pieces);
      __pipeline_commit();
      std::uint32_t weights[N][2];
      if (working) {
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
              const bool in = 8 * n + e < limit;
              const float extra = in ? extras(8 * n + e) : 0.0f;
              if (in && extra != -INFINITY) admitted |= 1u << h;
              float& x = s[n][2 * h + e];
              x = in ? x * a.scale + extra : -INFINITY;
              highest = max(highest, x);
            }
          highest = row_max(highest);
          const float shift = highest == -INFINITY ? 0.0f : highest,  // -inf - -inf is NaN
              correction = __expf(top[h] - shift);
          top[h] = highest;
          sum[h] *= correction;
          weight[h] *= correction;
#pragma unroll
          for (int n = 0; n < dim / 8; ++n) {
            y[n][2 * h] *= correction;
            y[n][2 * h + 1] *= correction;
          }
#pragma unroll
          for (int n = 0; n < N; ++n) {
            const float low = __expf(s[n][2 * h] - shift), high = __expf(s[n][2 * h + 1] - shift);
            sum[h] += low + high;
            weights[n][h] = narrow_pair(low, high);
            weight[h] += low_of(weights[n][h]) + high_of(weights[n][h]);
          }
        }
      }
      __pipeline_wait_prior(1);
      __syncthreads();
      if (working)
        accumulate_seen<dim, ld>(weights, v, min(keys, seen - j0), d, lane.first_of_warp,
                                 sight_of_queries(a.causal, i0, j0), y);
    }
    __pipeline_wait_prior(0);
    const unsigned any = row_any(admitted);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int i = i0 + lane.row + 8 * h;
      const bool keyed = any >> h & 1u;
      float total = row_sum(sum[h]), factor = 1 / row_sum(weight[h]);
      if (i >= qs.count) continue;
      if (top[h] == -INFINITY) total = factor = NAN;  // no exponential, and yet not masked out
      const Index row = qs.first + i;
      if (lane.column == 0)
        a.lse[row * a.heads + task.head] = keyed ? top[h] + log(total) : -INFINITY;
      if (!keyed) {
#pragma unroll
        for (int n = 0; n < dim / 8; ++n) y[n][2 * h] = y[n][2 * h + 1] = 0;
      }
      write_half_row(y, h, keyed ? factor : 1.0f, a.out + row * a.ldo + column, d, lane.column,
                     pieces);
    }
  }
}

}  // namespace

void attention_bf16(Context::State& c, const AttentionArgs<bfloat16>& a, const char* operation) {
  with_half_tiles(a.head_dim, a.longest_queries, [&]<class Tiles>(std::type_identity<Tiles>) {
    constexpr int dim = Tiles::width;
    using Tile = typename Tiles::Forward;
    const int tiles = tiles_for(a.longest_queries, Tile::queries);
    const Index d = a.head_dim;
    const bool pieces = in_pieces(d, a.q, a.ldq) && in_pieces(d, a.k, a.ldk) &&
                        in_pieces(d, a.v, a.ldv) && in_pieces<bfloat16>(d, a.out, a.ldo);
    launch(c, operation, half_attention_kernel<dim, Tile>, a.segments * a.heads * tiles,
           Tile::threads, Tile::bytes, a, tiles, pieces);
  });
}

}  // namespace hybridmed::cuda::tiles
