// Micro-benchmarks of the CUDA backend at the sizes of ViT-B/16. Each kernel is first compared with
// the reference backend on a small case; products are given as a share of the fastest float32
// product of this run, the rest as a share of its fastest copy.
#include <benchmark/benchmark.h>

#include <cstdio>

#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/backend/cuda/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/nn/transformer.hpp"
#include "hybridmed/optim/adamw.hpp"
#include "support.hpp"

using namespace hybridmed;
using bench::compare;
using bench::normal;
using B = Cuda;

namespace {

constexpr Index rows = 8 * 197, width = 768, hidden = 4 * width;
constexpr int repeats = 20;  // launches between two waits, so that a wait costs next to nothing

double product_rate = 0, copy_rate = 0;  // GFLOP/s and GB/s

template <class F>
void measure(benchmark::State& state, F&& f) {
  f();
  cuda::synchronize();
  for (auto _ : state) {
    for (int i = 0; i < repeats; ++i) f();
    cuda::synchronize();
  }
}
void share(benchmark::State& state, const char* unit, double amount, double peak) {
  using benchmark::Counter;
  state.counters[unit] = Counter(repeats * amount / 1e9, Counter::kIsIterationInvariantRate);
  state.counters["share_of_peak"] =
      Counter(repeats * amount / 1e9 / peak, Counter::kIsIterationInvariantRate);
}
void products(benchmark::State& state, double flops) {
  share(state, "GFLOP/s", flops, product_rate);
}
void bytes(benchmark::State& state, double floats) { share(state, "GB/s", 4 * floats, copy_rate); }

void gemm(benchmark::State& state) {
  const Index m = state.range(0), n = state.range(1), k = state.range(2);
  const auto a = normal<B>({m, k}, 1), b = normal<B>({n, k}, 2);
  Tensor<float, B> c({m, n});
  measure(state, [&] {
    B::gemm(false, true, m, n, k, 1.0f, a.data(), k, b.data(), k, 0.0f, c.data(), n);
  });
  products(state, 2.0 * static_cast<double>(m * n * k));
}

void linear_gelu(benchmark::State& state) {
  const auto x = normal<B>({rows, width}, 1), w = normal<B>({hidden, width}, 2),
             b = normal<B>({hidden}, 3);
  Tensor<float, B> pre({rows, hidden}), y({rows, hidden});
  measure(state, [&] {
    if (!B::linear(LinearArgs<float>{rows, width, hidden, x.data(), w.data(), b.data(),
                                     Activation::gelu_tanh, pre.data(), y.data()}))
      state.SkipWithError("not served");
  });
  products(state, 2.0 * static_cast<double>(rows * hidden * width));
}

void layer_norm(benchmark::State& state) {
  const auto x = normal<B>({rows, width}, 4), g = normal<B>({width}, 5), b = normal<B>({width}, 6),
             dy = normal<B>({rows, width}, 7);
  Tensor<float, B> y({rows, width}), mean({rows}), rstd({rows}),
      dg = Tensor<float, B>::zeros({width}), db = Tensor<float, B>::zeros({width});
  B::layer_norm(rows, width, x.data(), g.data(), b.data(), 1e-5, y.data(), mean.data(),
                rstd.data());
  if (state.range(0)) {
    measure(state, [&] {
      B::layer_norm_backward(rows, width, x.data(), g.data(), mean.data(), rstd.data(), dy.data(),
                             y.data(), dg.data(), db.data());
    });
    bytes(state, 3.0 * static_cast<double>(rows * width));
  } else {
    measure(state, [&] {
      B::layer_norm(rows, width, x.data(), g.data(), b.data(), 1e-5, y.data(), mean.data(),
                    rstd.data());
    });
    bytes(state, 2.0 * static_cast<double>(rows * width));
  }
}

template <class Backend>
struct Classifier {
  Index in, classes;
  nn::LayerNorm<float, Backend> ln{in};
  nn::FeedForward<float, Backend, Activation::gelu_tanh> mlp{in, 4 * in};
  nn::Linear<float, Backend> head{in, classes};

  template <class F>
  void visit(F&& f) {
    f("ln", ln);
    f("mlp", mlp);
    f("head", head);
  }
};

/// A pre-norm feed-forward block with a classifier: forward, backward, AdamW.
template <class Backend>
struct Step {
  Classifier<Backend> model;
  Tensor<float, Backend> x;
  IndexTensor<Backend> target;
  optim::AdamW<float, Backend> optimizer{model, {}};
  Tape tape;

  Step(Index count, Index in, Index classes)
      : model{in, classes}, x(normal<Backend>({count, in}, 1)), target(labels(count, classes)) {
    std::uint64_t stream = 0;
    nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
      if (name == "ln.weight")
        Backend::fill(p.value.size(), 1.0f, p.value.data());
      else if (!name.ends_with("bias"))
        Backend::fill_normal(p.value.size(), Philox(1, ++stream), 0.05, p.value.data());
    });
  }
  Variable<float, Backend> operator()() {
    RecordOn recording(tape);
    const Variable<float, Backend> h = nn::PreNorm::residual(
        Variable<float, Backend>(x), model.ln, [&](const auto& v) { return model.mlp(v); });
    const auto loss = cross_entropy(model.head(h), target, 0);
    backward(loss);
    optimizer.step(1e-3);
    return loss;
  }

 private:
  static IndexTensor<Backend> labels(Index count, Index classes) {
    std::vector<std::int32_t> y;
    for (Index i = 0; i < count; ++i) y.push_back(static_cast<std::int32_t>(i % classes));
    return IndexTensor<Backend>::from_host(y, {count});
  }
};

void training_step(benchmark::State& state) {
  Step<B> step(rows, width, 1000);
  measure(state, [&] { step(); });
  products(state, 6.0 * static_cast<double>(rows * (2 * width * hidden + width * 1000)));
}

/// Every kernel against the reference backend on a small case.
template <class Backend>
std::vector<std::vector<float>> small_case() {
  const Index m = 300, n = 264, k = 128;  // several blocks in both directions
  const auto a = normal<Backend>({m, k}, 1), b = normal<Backend>({n, k}, 2),
             v = normal<Backend>({n}, 3);
  Tensor<float, Backend> c({m, n}), pre({m, n}), y({m, n}), mean({m}), rstd({m}), norm({m, n}),
      dx({m, n}), dg = Tensor<float, Backend>::zeros({n}), db = Tensor<float, Backend>::zeros({n});
  Backend::gemm(false, true, m, n, k, 1.0f, a.data(), k, b.data(), k, 0.0f, c.data(), n);
  if constexpr (BackendLinear<Backend, float>) {
    if (!Backend::linear(LinearArgs<float>{m, k, n, a.data(), b.data(), v.data(),
                                           Activation::gelu_tanh, pre.data(), y.data()})) {
      std::fprintf(stderr, "linear with GELU is not served\n");
      std::exit(1);
    }
  } else {
    Backend::add_vector(m, n, c.data(), v.data(), pre.data());
    Backend::activation(Activation::gelu_tanh, m * n, pre.data(), y.data());
  }
  Backend::layer_norm(m, n, c.data(), v.data(), v.data(), 1e-5, norm.data(), mean.data(),
                      rstd.data());
  Backend::layer_norm_backward(m, n, c.data(), v.data(), mean.data(), rstd.data(), y.data(),
                               dx.data(), dg.data(), db.data());
  Step<Backend> step(37, 24, 5);
  std::vector<float> losses;
  for (int i = 0; i < 3; ++i) losses.push_back(static_cast<float>(value(step()).item()));
  return {c.to_host(),    pre.to_host(), y.to_host(),  norm.to_host(), mean.to_host(),
          rstd.to_host(), dx.to_host(),  dg.to_host(), db.to_host(),   losses};
}
void verify() {
  const char* what[] = {"gemm",
                        "linear with GELU, before it",
                        "linear with GELU",
                        "layer_norm",
                        "layer_norm, mean",
                        "layer_norm, rstd",
                        "layer_norm backward",
                        "its gain",
                        "its bias",
                        "three training steps"};
  const auto got = small_case<B>(), want = small_case<Reference>();
  for (std::size_t i = 0; i < want.size(); ++i) compare(what[i], got[i], want[i]);
}

}  // namespace

BENCHMARK(gemm)
    ->ArgNames({"m", "n", "k"})
    ->Args({rows, hidden, width})
    ->Args({rows, width, hidden})
    ->Args({252, 30522, width})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(linear_gelu)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(layer_norm)
    ->ArgName("backward")
    ->Arg(0)
    ->Arg(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(training_step)->UseRealTime()->Unit(benchmark::kMillisecond);

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (cuda::device_count() == 0) {
    std::printf("SKIPPED: no CUDA device\n");
    return 77;
  }
  verify();
  {
    const Index n = 8192;
    const auto a = normal<B>({n, n}, 1);
    Tensor<float, B> c({n, n});
    product_rate =
        2e-9 * static_cast<double>(n * n * n) /
        bench::fastest(
            [&] {
              B::gemm(false, true, n, n, n, 1.0f, a.data(), n, a.data(), n, 0.0f, c.data(), n);
            },
            cuda::synchronize);
    copy_rate = 8e-9 * static_cast<double>(n * n) /
                bench::fastest([&] { B::copy(n * n, a.data(), c.data()); }, cuda::synchronize);
  }
  std::printf(
      "backend %s, fastest float32 product %.0f GFLOP/s, fastest copy %.0f GB/s (measured now; "
      "each time below is of %d calls); every kernel agreed with the reference\n",
      B::name, product_rate, copy_rate, repeats);
  benchmark::RunSpecifiedBenchmarks();
}
