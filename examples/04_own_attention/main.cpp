// Your own attention policy: anything callable as attn(x, args...) that lists its parameters. This
// one has none: it replaces attention by average pooling over neighbours, as PoolFormer does (Yu et
// al., MetaFormer, CVPR 2022).
#include <cstdio>
#include <hybridmed/backend/cpu/backend.hpp>
#include <hybridmed/nn/initialise.hpp>
#include <hybridmed/nn/transformer.hpp>
using namespace hybridmed;
using T = double;
using B = CpuBackend;

/// pool(x) - x over 3 x 3 neighbours of a square map; the residual branch adds x again.
template <class T, class B>
struct Pooling {
  RowMixing<T, B> neighbours;

  explicit Pooling(Index side) {
    const auto n = static_cast<std::size_t>(side * side);
    std::vector<double> dense(n * n, 0.0);
    for (Index y = 0; y < side; ++y)
      for (Index x = 0; x < side; ++x) {
        const Index y0 = std::max<Index>(y - 1, 0), y1 = std::min(y + 1, side - 1),
                    x0 = std::max<Index>(x - 1, 0), x1 = std::min(x + 1, side - 1);
        for (Index v = y0; v <= y1; ++v)
          for (Index u = x0; u <= x1; ++u)
            dense[static_cast<std::size_t>((y * side + x) * side * side + v * side + u)] =
                1.0 / static_cast<double>((y1 - y0 + 1) * (x1 - x0 + 1));
      }
    neighbours = RowMixing<T, B>(side * side, side * side, dense);
  }
  template <class F>
  void visit(F&&) {}  // no parameters
  template <Value V>
  V operator()(const V& x) const {
    return add(mix_rows(x, neighbours), scale(x, -1));
  }
};

int main() {
  const Index side = 4, width = 8, batch = 2;
  nn::TransformerBlock<T, B, Pooling<T, B>> block(width, 2 * width, 1e-5, Pooling<T, B>(side));
  std::printf("parameters: %lld, none of them in the attention\n",
              static_cast<long long>(nn::count_parameters(block)));
  nn::initialise(block, /*seed=*/1);

  // A single bright token in the first image: its neighbours change, the second image does not.
  Tensor<T, B> x({batch * side * side, width});
  B::fill_normal(x.size(), Philox(2), 1.0, x.data());
  const Tensor<T, B> before = block(x);
  x.data()[5 * width] += 1;
  const Tensor<T, B> after = block(x);
  for (Index b = 0; b < batch; ++b) {
    std::printf("image %lld: ", static_cast<long long>(b));
    for (Index i = 0; i < side * side; ++i) {
      bool changed = false;
      for (Index c = 0; c < width; ++c) {
        const Index at = (b * side * side + i) * width + c;
        changed = changed || before.data()[at] != after.data()[at];
      }
      std::printf("%s%s", changed ? "x" : ".", i % side == side - 1 ? " " : "");
    }
    std::printf("\n");
  }
}
