// A transformer block from its policies: which attention, which activation, where the norm sits.
// Texts of different lengths are packed rows; segments say which rows belong together.
#include <cstdio>
#include <hybridmed/backend/cpu/backend.hpp>
#include <hybridmed/nn/initialise.hpp>
#include <hybridmed/nn/transformer.hpp>
using namespace hybridmed;
using T = double;
using B = CpuBackend;

// Pre-norm with GELU is the default; this one is post-norm with ReLU, as in the first Transformer.
using Block =
    nn::TransformerBlock<T, B, nn::SelfAttention<T, B>, nn::FeedForward<T, B, Activation::relu>,
                         nn::LayerNorm<T, B>, nn::PostNorm>;

int main() {
  const Index width = 16, heads = 4;
  Block block(width, /*hidden=*/4 * width, /*eps=*/1e-5, nn::SelfAttention<T, B>(width, heads));
  nn::initialise(block, /*seed=*/1);
  nn::for_each_parameter(block, [](const std::string& name, auto& p) {
    std::printf("%-16s %s\n", name.c_str(), p.value.shape().str().c_str());
  });

  // Two texts of 3 and 5 tokens: 8 rows. A causal token sees itself and what came before it in its
  // own text.
  const std::vector<std::int32_t> ranges{0, 3, 3, 8};
  const Segments<B> segments(ranges, 8);
  Tensor<T, B> x({8, width});
  B::fill_normal(x.size(), Philox(2), 1.0, x.data());

  const Tensor<T, B> y =
      block(x, segments, /*causal=*/true);  // a plain tensor: no tape, nothing saved
  std::printf("output           %s\n", y.shape().str().c_str());

  Tape tape;
  {
    RecordOn recording(tape);
    const Variable<T, B> v = block(Variable<T, B>(x), segments, true);  // the same code, recorded
    const Tensor<T, B> ones = Tensor<T, B>::full({1, v.rows() * v.cols()}, 1.0 / 128);
    backward(reshape(linear(reshape(v, {1, v.rows() * v.cols()}), Variable<T, B>(ones)),
                     Shape{}));  // the mean of the outputs
  }
  double norm = 0;
  nn::for_each_parameter(block, [&](const std::string&, auto& p) {
    if (p.slot.grad.defined()) B::squared_norm(p.slot.grad.size(), p.slot.grad.data(), &norm);
  });
  std::printf("gradient norm    %.4f\n", std::sqrt(norm));
}
