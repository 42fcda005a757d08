#pragma once
// Products of bf16 tiles in shared memory on tensor cores, with float sums: a warp takes 16 rows.
// The instruction is mma.m16n8k16: (16, 16) times (16, 8), of which lane 4 r + t holds the rows r
// and r + 8 and the columns 2 t and 2 t + 1, of every 8. Never included by a host compiler.
#include <cstdint>

#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

/// (16, 16) of a left factor, (16, 16) of a right one: two numbers a register.
struct Fragment {
  std::uint32_t v[4];
};

/// Where a lane stands among the rows of a tile whose warps have 16 rows each: it has `row` and
/// `row` + 8, and of every 8 columns `column` and `column` + 1.
struct FragmentLane {
  int first_of_warp, row, column;
  __device__ FragmentLane()
      : first_of_warp(static_cast<int>(threadIdx.x) / warp_size * 16),
        row(first_of_warp + static_cast<int>(threadIdx.x) % warp_size / 4),
        column(static_cast<int>(threadIdx.x) % 4 * 2) {}
};

/// Two numbers rounded to bf16, `low` at the lower address.
inline __device__ std::uint32_t narrow_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return bfloat16(low).bits | std::uint32_t{bfloat16(high).bits} << 16;
#endif
}
inline __device__ float low_of(std::uint32_t pair) { return __uint_as_float(pair << 16); }
inline __device__ float high_of(std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

/// c (16, 8) += a b, b being registers 2 i and 2 i + 1 of a right factor.
inline __device__ void multiply(float (&c)[4], const Fragment& a, const Fragment& b, int i) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.v[0]), "r"(a.v[1]), "r"(a.v[2]), "r"(a.v[3]), "r"(b.v[2 * i]), "r"(b.v[2 * i + 1]));
#endif
}

/// Four matrices (8, 8), each lane giving the address of one row of one of them.
template <bool transposed>
__device__ Fragment load_fragment(const bfloat16* row) {
  const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  Fragment f;
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f.v[0]), "=r"(f.v[1]), "=r"(f.v[2]), "=r"(f.v[3])
                 : "r"(at));
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f.v[0]), "=r"(f.v[1]), "=r"(f.v[2]), "=r"(f.v[3])
                 : "r"(at));
  return f;
}
/// Rows 0 to 15 and columns k to k + 15 of x, as a left factor.
template <int pitch>
__device__ Fragment left(const bfloat16* x, int k) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  return load_fragment<false>(x + lane % 16 * pitch + k + lane / 16 * 8);
}
/// The same numbers as a right factor whose columns are the rows of x, eight and eight.
template <int pitch>
__device__ Fragment right_of_columns(const bfloat16* x, int k) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  return load_fragment<false>(x + (lane / 16 * 8 + lane % 8) * pitch + k + lane / 8 % 2 * 8);
}
/// Rows 0 to 15 and columns n to n + 15 of x, as a right factor with these rows.
template <int pitch>
__device__ Fragment right_of_rows(const bfloat16* x, int n) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  return load_fragment<true>(x + lane % 16 * pitch + n + lane / 16 * 8);
}

/// s (16, 8 N) = x y^T over d of dim columns.
template <int dim, int pitch, int N>
__device__ void multiply_rows(const bfloat16* x, const bfloat16* y, int d, float (&s)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) s[n][e] = 0;
#pragma unroll
  for (int k = 0; k < dim; k += 16) {
    if (k >= d) break;
    const Fragment a = left<pitch>(x, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      const Fragment b = right_of_columns<pitch>(y + 8 * n * pitch, k);
      multiply(s[n], a, b, 0);
      multiply(s[n + 1], a, b, 1);
    }
  }
}

/// What the rows of a left factor may see of its columns, for causal attention: row r sees the
/// columns from r + shift on, or those up to it.
template <bool later>
struct Sight {
  int shift;
  __device__ bool sees(int r, int k) const { return later ? k >= r + shift : k <= r + shift; }
  /// Do all of the rows [r, r + 16) see all of the columns [k, k + 16); does any row see any?
  __device__ bool all(int r, int k) const { return later ? sees(r + 15, k) : sees(r, k + 15); }
  __device__ bool any(int r, int k) const { return later ? sees(r, k + 15) : sees(r + 15, k); }
};

/// Are d columns of 16 rows finite? The same answer for the whole warp.
template <int pitch>
__device__ bool finite_rows(const bfloat16* x, int d) {
  bool finite = true;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (int c = lane / 16 * 8; c < d; c += 16) {
    const auto p = *reinterpret_cast<const Pack<std::uint32_t, 4>*>(x + lane % 16 * pitch + c);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      finite = finite && (p.v[e] & 0x7f80u) != 0x7f80u && (p.v[e] & 0x7f800000u) != 0x7f800000u;
  }
  return __all_sync(0xffffffffu, finite);
}

/// y (16, dim) += weights x over the first `count` rows of x, 8 N at most. `weights`: for each 8
/// columns, those of the lane's two rows. `first`: the warp's first row. What a row does not see
/// has weight 0 and takes no part, whatever it holds: 0 * NaN is NaN.
template <int dim, int pitch, int N, bool later>
__device__ void accumulate_seen(const std::uint32_t (&weights)[N][2], const bfloat16* x, int count,
                                int d, int first, Sight<later> sight, float (&y)[dim / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int j = 0; j < N; j += 2) {
    const int k0 = 8 * j;
    if (k0 >= count) break;
    if (!sight.any(first, k0)) continue;
    const bfloat16* rows = x + k0 * pitch;
    const Fragment a{weights[j][0], weights[j][1], weights[j + 1][0], weights[j + 1][1]};
    if (sight.all(first, k0) || finite_rows<pitch>(rows, d)) {
#pragma unroll
      for (int n = 0; n < dim / 8; n += 2) {
        if (8 * n >= d) break;
        const Fragment b = right_of_rows<pitch>(rows, 8 * n);
        multiply(y[n], a, b, 0);
        multiply(y[n + 1], a, b, 1);
      }
      continue;
    }
#pragma unroll 1
    for (int k = 0; k < 16; ++k) {
      const int from = lane / 4 * 4 + k % 8 / 2, r = first + lane / 4;
      const std::uint32_t low = __shfl_sync(0xffffffffu, k < 8 ? a.v[0] : a.v[2], from),
                          high = __shfl_sync(0xffffffffu, k < 8 ? a.v[1] : a.v[3], from);
      const float w[2] = {k % 2 ? high_of(low) : low_of(low), k % 2 ? high_of(high) : low_of(high)};
#pragma unroll
      for (int n = 0; n < dim / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (sight.sees(r + e / 2 * 8, k0 + k))
            y[n][e] += w[e / 2] * widen(rows[k * pitch + 8 * n + lane % 4 * 2 + e % 2]);
    }
  }
}

/// Sum, maximum and `or` over the four lanes that share a row.
inline __device__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
inline __device__ float row_max(float x) {  // of the numbers; NaN only where all are
  x = max(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return max(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
inline __device__ unsigned row_any(unsigned bits) {
  bits |= __shfl_xor_sync(0xffffffffu, bits, 1);
  return bits | __shfl_xor_sync(0xffffffffu, bits, 2);
}

}  // namespace hybridmed::cuda
