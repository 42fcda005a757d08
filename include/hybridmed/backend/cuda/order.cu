// Few rows find their places by comparing all; more are sorted, 8 bits at a time, each pass stable:
// (count) how often each tile of rows has each digit, (offsets) where a tile's share of a digit
// begins, (place) move. The largest target is not known here, so there are passes for all 31 bits;
// one whose digit is the same everywhere moves nothing.
#include "hybridmed/backend/cuda/order.cuh"

namespace hybridmed::cuda {

namespace {

constexpr int digit_bits = 8, digits = 1 << digit_bits,
              items = 16;  // of one thread
constexpr unsigned tile = block_size * items;
constexpr Index few = 2048;
static_assert(digits == block_size, "a thread looks after one digit");

/// The sum of x over the threads before this one; `total`: over all. `shared` holds one element per
/// warp.
__device__ std::uint32_t sum_before(std::uint32_t x, std::uint32_t* shared, std::uint32_t& total) {
  const unsigned lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  std::uint32_t up_to = x;
  for (unsigned d = 1; d < warp_size; d *= 2) {
    const std::uint32_t before = __shfl_up_sync(0xffffffffu, up_to, d);
    if (lane >= d) up_to += before;
  }
  __syncthreads();  // the last use of `shared` is over
  if (lane == warp_size - 1) shared[warp] = up_to;
  __syncthreads();
  std::uint32_t base = 0;
  total = 0;
  for (unsigned w = 0; w < block_warps; ++w) {
    if (w < warp) base += shared[w];
    total += shared[w];
  }
  return base + up_to - x;
}

/// For up to `few` rows: the place of a row is the number of rows that come before it.
__global__ void __launch_bounds__(block_size)
    compare_kernel(int rows, const std::int32_t* index, std::int32_t* targets,
                   std::int32_t* sources, std::int32_t* state) {
  __shared__ std::uint32_t keys[block_size];
  const int r = static_cast<int>(blockIdx.x * block_size + threadIdx.x),
            thread = static_cast<int>(threadIdx.x);
  // Unsigned, so that what is no target comes last.
  const std::uint32_t mine = r < rows ? static_cast<std::uint32_t>(index[r]) : 0;
  int place = 0;
  for (int first = 0; first < rows; first += block_size) {
    __syncthreads();
    if (first + thread < rows) keys[thread] = static_cast<std::uint32_t>(index[first + thread]);
    __syncthreads();
    const int n = min(block_size, rows - first);
    for (int k = 0; k < n; ++k)
      place += keys[k] < mine || (keys[k] == mine && first + k < r) ? 1 : 0;
  }
  if (r < rows) {
    targets[place] = static_cast<std::int32_t>(mine);
    sources[place] = r;
  }
  if (r == 0) {
    state[0] = rows;
    state[TargetOrder::last] = 0;
  }
}

/// One pass of the sort. Before the first one the order is that of the rows.
struct Pass {
  int number;
  std::int32_t rows;
  Index tiles;
  const std::int32_t* index;        // (rows)
  std::int32_t *targets, *sources;  // (2, rows)
  std::uint32_t* offsets;           // (digits, tiles)
  std::uint32_t* totals;            // (digits)
  std::int32_t* state;              // as in TargetOrder

  __device__ int from() const { return state[1 + number]; }
  __device__ unsigned count() const { return static_cast<unsigned>(number == 0 ? rows : state[0]); }
  __device__ const std::int32_t* keys() const {
    return number == 0 ? index : targets + from() * Index{rows};
  }
  __device__ int digit(std::int32_t key) const {  // -1: no target
    return key < 0 ? -1 : key >> (digit_bits * number) & (digits - 1);
  }
};

/// Where item k of a thread lies: a warp has warp_size * items neighbours, a row of them at a time.
__device__ unsigned item_at(int k) {
  return blockIdx.x * tile + threadIdx.x / warp_size * (warp_size * items) +
         static_cast<unsigned>(k) * warp_size + threadIdx.x % warp_size;
}

/// Adds a warp's keys, one a lane, to its counts; the rank of a lane's key among the equal ones of
/// the warp so far.
__device__ std::uint32_t count_keys(int digit, std::uint32_t* counts) {
  const unsigned peers = __match_any_sync(0xffffffffu, digit),
                 before = peers & ((1u << threadIdx.x % warp_size) - 1);
  const std::uint32_t rank =
      digit < 0 ? 0 : counts[digit] + static_cast<std::uint32_t>(__popc(before));
  __syncwarp();
  if (digit >= 0 && before == 0) counts[digit] += static_cast<std::uint32_t>(__popc(peers));
  __syncwarp();
  return rank;
}

__global__ void __launch_bounds__(block_size) count_kernel(Pass pass) {
  __shared__ std::uint32_t counts[block_warps][digits];
  for (int w = 0; w < block_warps; ++w) counts[w][threadIdx.x] = 0;
  __syncthreads();
  const std::int32_t* keys = pass.keys();
  const unsigned n = pass.count();
  std::int32_t key[items];
#pragma unroll
  for (int k = 0; k < items; ++k) {  // all are on their way before the first is counted
    const unsigned i = item_at(k);
    key[k] = i < n ? keys[i] : -1;
  }
#pragma unroll
  for (int k = 0; k < items; ++k) count_keys(pass.digit(key[k]), counts[threadIdx.x / warp_size]);
  __syncthreads();
  std::uint32_t sum = 0;
  for (int w = 0; w < block_warps; ++w) sum += counts[w][threadIdx.x];
  pass.offsets[threadIdx.x * pass.tiles + blockIdx.x] = sum;
}

/// One block a digit: each tile's count becomes the sum of those before.
__global__ void __launch_bounds__(block_size) offsets_kernel(Pass pass) {
  __shared__ std::uint32_t shared[block_warps];
  std::uint32_t* row = pass.offsets + blockIdx.x * pass.tiles;
  std::uint32_t base = 0;
  for (Index first = 0; first < pass.tiles; first += block_size) {
    const Index t = first + threadIdx.x;
    std::uint32_t total;
    const std::uint32_t before = sum_before(t < pass.tiles ? row[t] : 0, shared, total);
    if (t < pass.tiles) row[t] = base + before;
    base += total;
  }
  if (threadIdx.x == 0) pass.totals[blockIdx.x] = base;
}

__global__ void __launch_bounds__(block_size) place_kernel(Pass pass) {
  __shared__ std::uint32_t counts[block_warps][digits], shared[block_warps];
  const unsigned warp = threadIdx.x / warp_size;
  const int from = pass.number == 0 ? 1 : pass.from();
  const std::uint32_t mine = pass.totals[threadIdx.x];
  std::uint32_t n = 0;
  const std::uint32_t base = sum_before(mine, shared, n);
  const bool still = __syncthreads_or(pass.number > 0 && mine == n);
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    if (pass.number == 0) pass.state[0] = static_cast<std::int32_t>(n);
    pass.state[2 + pass.number] = still ? from : 1 - from;
  }
  if (still) return;

  for (int w = 0; w < block_warps; ++w) counts[w][threadIdx.x] = 0;
  __syncthreads();
  const std::int32_t* keys = pass.keys();
  const std::int32_t* sources = pass.sources + from * Index{pass.rows};
  std::int32_t *to_targets = pass.targets + (1 - from) * Index{pass.rows},
               *to_sources = pass.sources + (1 - from) * Index{pass.rows};
  const unsigned end = pass.number == 0 ? static_cast<unsigned>(pass.rows) : n;
  std::int32_t key[items];
  std::uint32_t rank[items];
#pragma unroll
  for (int k = 0; k < items; ++k) {
    const unsigned i = item_at(k);
    key[k] = i < end ? keys[i] : -1;
  }
#pragma unroll
  for (int k = 0; k < items; ++k) rank[k] = count_keys(pass.digit(key[k]), counts[warp]);
  __syncthreads();
  std::uint32_t place = base + pass.offsets[threadIdx.x * pass.tiles + blockIdx.x];
  for (int w = 0; w < block_warps; ++w) {  // counts of a warp become its first places
    const std::uint32_t here = counts[w][threadIdx.x];
    counts[w][threadIdx.x] = place;
    place += here;
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < items; ++k) {
    if (key[k] < 0) continue;
    const unsigned i = item_at(k), to = counts[warp][pass.digit(key[k])] + rank[k];
    to_targets[to] = key[k];
    to_sources[to] = pass.number == 0 ? static_cast<std::int32_t>(i) : sources[i];
  }
}

Index tiles_of(Index rows) { return (rows + tile - 1) / tile; }
/// Numbers in memory: targets, sources, state; where rows are sorted also a second buffer, counts.
Index numbers(Index rows, const char* operation) {
  if (rows > INT32_MAX) fail("cuda", operation, "more than " + std::to_string(INT32_MAX) + " rows");
  return TargetOrder::last + 1 +
         (rows <= few ? 2 * rows : 4 * rows + digits * (tiles_of(rows) + 1));
}

}  // namespace

InTargetOrder::InTargetOrder(Context::State& context, Index rows, const std::int32_t* index,
                             const char* operation)
    : memory_(context, numbers(rows, operation)) {
  const Index buffers = rows <= few ? 1 : 2;
  std::int32_t *state = memory_.data(), *targets = state + TargetOrder::last + 1,
               *sources = targets + buffers * rows;
  order_ = {targets, sources, state, rows};
  if (rows <= few) {
    compare_kernel<<<blocks_for(rows, block_size), block_size, 0, context.stream>>>(
        static_cast<int>(rows), index, targets, sources, state);
    check(cudaGetLastError(), operation);
    return;
  }
  const Index tiles = tiles_of(rows);
  const auto blocks = static_cast<unsigned>(tiles);
  auto* counts = reinterpret_cast<std::uint32_t*>(sources + buffers * rows);
  Pass pass{0,      static_cast<std::int32_t>(rows), tiles, index, targets, sources,
            counts, counts + digits * tiles,         state};
  for (; pass.number < TargetOrder::passes; ++pass.number) {
    count_kernel<<<blocks, block_size, 0, context.stream>>>(pass);
    check(cudaGetLastError(), operation);
    offsets_kernel<<<digits, block_size, 0, context.stream>>>(pass);
    check(cudaGetLastError(), operation);
    place_kernel<<<blocks, block_size, 0, context.stream>>>(pass);
    check(cudaGetLastError(), operation);
  }
}

}  // namespace hybridmed::cuda
