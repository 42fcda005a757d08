#include "hybridmed/backend/cuda/device.cuh"
#include "hybridmed/backend/cuda/update.hpp"
#include "hybridmed/backend/cuda/vector.cuh"

namespace hybridmed::cuda {

namespace {

/// Elements that a block takes at a time: enough that finding their tensor costs nothing, few
/// enough that small models fill the device.
constexpr Index chunk_size = 8192;

constexpr Index chunks_of(Index n) { return (n + chunk_size - 1) / chunk_size; }

/// A tensor of the table and where its chunks begin among those of all.
template <class T>
struct Listed {
  AdamWTensor<T> tensor;
  Index first_chunk;
};
template <class T>
struct Table {
  const Listed<T>* tensors;  // null: `only`
  int count;
  Index chunks;
  Listed<T> only{};
};

template <class T>
constexpr int width = 16 / static_cast<int>(sizeof(T));
template <class T>
using Wide = Pack<T, width<T>>;

/// The tensor that a chunk belongs to: the last one that begins there or before. Tensors without
/// elements have no chunk and begin where the next one does.
template <class T>
__device__ const Listed<T>& tensor_of(const Table<T>& table, Index chunk) {
  if (!table.tensors) return table.only;
  int low = 0, high = table.count - 1;
  while (low < high) {
    const int middle = low + (high - low + 1) / 2;
    if (table.tensors[middle].first_chunk <= chunk)
      low = middle;
    else
      high = middle - 1;
  }
  return table.tensors[low];
}

__device__ bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

/// `n` of a pack's elements, the others zero. Whether they come in one access changes no order.
template <class T>
__device__ Wide<T> load(const T* p, Index n, bool whole) {
  if (whole && n >= width<T>) return *reinterpret_cast<const Wide<T>*>(p);
  Wide<T> x;
  for (int j = 0; j < width<T>; ++j) x.v[j] = j < n ? p[j] : T(0);
  return x;
}
template <class T>
__device__ void store(T* p, const Wide<T>& x, Index n, bool whole) {
  if (whole && n >= width<T>) {
    *reinterpret_cast<Wide<T>*>(p) = x;
    return;
  }
  for (int j = 0; j < width<T>; ++j)
    if (j < n) p[j] = x.v[j];
}

template <class T>
__device__ void store_rounded(bfloat16* p, const Wide<T>& x, Index n) {
  Pack<bfloat16, width<T>> y;
  for (int j = 0; j < width<T>; ++j) y.v[j] = narrow<bfloat16>(static_cast<float>(x.v[j]));
  if (n >= width<T> && reinterpret_cast<std::uintptr_t>(p) % sizeof y == 0) {
    *reinterpret_cast<Pack<bfloat16, width<T>>*>(p) = y;
    return;
  }
  for (int j = 0; j < width<T>; ++j)
    if (j < n) p[j] = y.v[j];
}

/// part[block] = sum of the squares of the block's chunks; the same of the shrunk numbers follows
/// where squares may overflow.
template <class T>
__global__ void __launch_bounds__(block_size) gradient_norm_kernel(Table<T> table, double* part) {
  constexpr bool squares_overflow = sizeof(T) == sizeof(double);
  __shared__ double shared[block_warps];
  double s = 0, small = 0;
  for (Index chunk = blockIdx.x; chunk < table.chunks; chunk += gridDim.x) {
    const Listed<T>& at = tensor_of(table, chunk);
    if (!at.tensor.gradient) continue;
    const Index begin = (chunk - at.first_chunk) * chunk_size, n = at.tensor.n - begin;
    const T* g = at.tensor.gradient + begin;
    const bool whole = aligned(g);
    for (Index i = Index{threadIdx.x} * width<T>; i < min(n, chunk_size);
         i += block_size * width<T>) {
      const Wide<T> x = load(g + i, n - i, whole);
      for (int j = 0; j < width<T>; ++j) {
        s += wide(x.v[j]) * wide(x.v[j]);
        if constexpr (squares_overflow) {
          const double y = x.v[j] * StepState::shrink;
          small += y * y;
        }
      }
    }
  }
  s = block_sum(s, shared);
  if (threadIdx.x == 0) part[blockIdx.x] = s;
  if constexpr (squares_overflow) {
    small = block_sum(small, shared);
    if (threadIdx.x == 0) part[gridDim.x + blockIdx.x] = small;
  }
}

template <class T>
__global__ void __launch_bounds__(block_size)
    gradient_norm_sum_kernel(int parts, const double* part, const T* loss, StepState* state) {
  __shared__ double shared[block_warps];
  double s = 0, small = 0;
  for (int i = static_cast<int>(threadIdx.x); i < parts; i += block_size) {
    s += part[i];
    if constexpr (sizeof(T) == sizeof(double)) small += part[parts + i];
  }
  s = block_sum(s, shared);
  small = block_sum(small, shared);
  if (threadIdx.x != 0) return;
  const double nothing = loss ? 0 * wide(*loss) : 0;  // NaN where the loss is not finite
  state->squared_norm += s + nothing;
  if constexpr (sizeof(T) == sizeof(double)) state->squared_norm_small += small + nothing;
}

template <class T>
__global__ void __launch_bounds__(block_size) adamw_kernel(Table<T> table, AdamWArgs a) {
  const StepState& state = *a.step;
  const double norm = state.norm(), root = sqrt(state.correction2);
  if (!isfinite(norm)) return;
  const double clip = AdamWArgs::gradient_scale(a.clip, norm);
  const T b1 = static_cast<T>(a.beta1), b2 = static_cast<T>(a.beta2),
          c1 = static_cast<T>(1 - a.beta1), c2 = static_cast<T>(1 - a.beta2),
          step = static_cast<T>(state.learning_rate / state.correction1 * root),
          eps = static_cast<T>(a.eps * root);
  for (Index chunk = blockIdx.x; chunk < table.chunks; chunk += gridDim.x) {
    const Listed<T>& at = tensor_of(table, chunk);
    const Index begin = (chunk - at.first_chunk) * chunk_size, n = at.tensor.n - begin;
    const T* g = at.tensor.gradient ? at.tensor.gradient + begin : nullptr;
    T *m = at.tensor.m + begin, *v = at.tensor.v + begin, *p = at.tensor.value + begin;
    bfloat16* rounded = at.tensor.rounded ? at.tensor.rounded + begin : nullptr;
    const T keep = static_cast<T>(1 - state.learning_rate * at.tensor.decay);
    const bool whole = aligned(g) && aligned(m) && aligned(v) && aligned(p);
    for (Index i = Index{threadIdx.x} * width<T>; i < min(n, chunk_size);
         i += block_size * width<T>) {
      Wide<T> x = g ? load(g + i, n - i, whole) : Wide<T>{}, first = load(m + i, n - i, whole),
              second = load(v + i, n - i, whole), value = load(p + i, n - i, whole);
      for (int j = 0; j < width<T>; ++j) {
        const T gi = g ? static_cast<T>(wide(x.v[j]) * clip) : T(0);
        first.v[j] = b1 * first.v[j] + c1 * gi;
        second.v[j] = b2 * second.v[j] + c2 * gi * gi;
        value.v[j] = keep * value.v[j] - step * first.v[j] / (sqrt(second.v[j]) + eps);
      }
      store(m + i, first, n - i, whole);
      store(v + i, second, n - i, whole);
      store(p + i, value, n - i, whole);
      if (rounded) store_rounded(rounded + i, value, n - i);
    }
  }
}

template <class T>
Table<T> table_of(const Tensor<std::byte, Memory>& memory, std::size_t count, Index chunks) {
  return {reinterpret_cast<const Listed<T>*>(memory.data()), static_cast<int>(count), chunks};
}

template <class T>
void launch_adamw(const Table<T>& table, const AdamWArgs& a) {
  Context::State& c = current();
  if (table.chunks == 0) return;
  adamw_kernel<<<blocks_for(table.chunks, 1), block_size, 0, c.stream>>>(table, a);
  check(cudaGetLastError(), "adamw");
}

}  // namespace

template <class T>
void AdamWList<T>::assign(std::span<const AdamWTensor<T>> tensors) {
  // A step that is recorded has a table of its own, in its memory.
  const bool recording = current().blocks.recording();
  if (!recording && !recorded_ && table_.defined() &&
      std::equal(tensors.begin(), tensors.end(), tensors_.begin(), tensors_.end()))
    return;
  // A plain vector: a table of this length is made again only where addresses change.
  std::vector<Listed<T>> listed;
  listed.reserve(tensors.size());
  Index chunks = 0;
  for (const AdamWTensor<T>& t : tensors) {
    listed.push_back({t, chunks});
    chunks += chunks_of(t.n);
  }
  table_ = {};
  const auto bytes = listed.size() * sizeof(Listed<T>);
  Tensor<std::byte, Memory> table({static_cast<Index>(bytes)});
  Memory::copy_from_host(listed.data(), table.data(), bytes);
  tensors_.assign(tensors.begin(), tensors.end());
  table_ = std::move(table);
  chunks_ = chunks;
  recorded_ = recording;
}

template <class T>
void Update::gradient_norm(const AdamWList<T>& list, const T* loss, StepState* state) {
  constexpr const char* name = "gradient_norm";
  static_assert(Context::State::most_partial_sums >= 2);
  Context::State& c = current();
  const unsigned blocks = blocks_for(list.chunks_, 1, Context::State::most_partial_sums / 2);
  const std::lock_guard lock(c.issue);
  if (blocks > 0) {
    gradient_norm_kernel<<<blocks, block_size, 0, c.stream>>>(
        table_of<T>(list.table_, list.tensors_.size(), list.chunks_), c.partial_sums);
    check(cudaGetLastError(), name);
  }
  gradient_norm_sum_kernel<<<1, block_size, 0, c.stream>>>(static_cast<int>(blocks), c.partial_sums,
                                                           loss, state);
  check(cudaGetLastError(), name);
}

template <class T>
void Update::adamw(const AdamWList<T>& list, const AdamWArgs& a) {
  launch_adamw(table_of<T>(list.table_, list.tensors_.size(), list.chunks_), a);
}
template <class T>
void Update::adamw(Index n, const AdamWArgs& a, const T* g, T* m, T* v, T* p) {
  launch_adamw(Table<T>{nullptr, 1, chunks_of(n), {{n, g, m, v, p, nullptr, a.decay}, 0}}, a);
}

#define HYBRIDMED_INSTANTIATE(T)                                                  \
  template void AdamWList<T>::assign(std::span<const AdamWTensor<T>>);            \
  template void Update::gradient_norm(const AdamWList<T>&, const T*, StepState*); \
  template void Update::adamw(const AdamWList<T>&, const AdamWArgs&);             \
  template void Update::adamw(Index, const AdamWArgs&, const T*, T*, T*, T*);
HYBRIDMED_INSTANTIATE(float)
HYBRIDMED_INSTANTIATE(double)
#undef HYBRIDMED_INSTANTIATE

}  // namespace hybridmed::cuda
