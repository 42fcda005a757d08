// One model, any backend: a feed-forward block with a classifier, trained by the same code on the
// CPU and, where the machine has one, on the GPU.
#include <cstdio>
#include <hybridmed/autograd/losses.hpp>
#include <hybridmed/backend/cpu/backend.hpp>
#include <hybridmed/backend/cuda/backend.hpp>
#include <hybridmed/nn/transformer.hpp>
#include <hybridmed/optim/adamw.hpp>
using namespace hybridmed;

template <class T, class B>
struct Classifier {
  nn::LayerNorm<T, B> ln{12};
  nn::FeedForward<T, B, Activation::gelu_tanh> mlp{12, 48};
  nn::Linear<T, B> head{12, 3};

  template <class F>
  void visit(F&& f) {
    f("ln", ln);
    f("mlp", mlp);
    f("head", head);
  }
  template <Value V>
  V operator()(const V& x) const {
    return head(nn::PreNorm::residual(x, ln, [&](const V& h) { return mlp(h); }));
  }
};

template <class B>
void train() {
  using T = float;
  Classifier<T, B> model;
  std::uint64_t stream = 0;
  nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
    if (name.ends_with("bias")) return;
    if (name == "ln.weight")
      B::fill(p.value.size(), T(1), p.value.data());
    else
      B::fill_normal(p.value.size(), Philox(1, ++stream), 0.3, p.value.data());
  });
  Tensor<T, B> x({32, 12});
  B::fill_normal(x.size(), Philox(2), 1.0, x.data());
  std::vector<std::int32_t> label;
  for (int i = 0; i < 32; ++i) label.push_back(i % 3);
  const auto target = IndexTensor<B>::from_host(label, {32});

  optim::AdamW<T, B> optimizer(model, {});
  Tape tape;
  std::printf("%-5s", B::name);
  for (int step = 0; step < 5; ++step) {
    RecordOn recording(tape);
    const auto loss = cross_entropy(model(Variable<T, B>(x)), target, 0);
    backward(loss);
    optimizer.step(1e-2);
    std::printf("  %.2f", static_cast<double>(value(loss).item()));
  }
  std::printf("\n");
}

int main() {
  train<CpuBackend>();
  if (cuda::device_count() == 0) {
    std::printf("SKIPPED: no CUDA device\n");
    return 77;
  }
  train<Cuda>();
}
