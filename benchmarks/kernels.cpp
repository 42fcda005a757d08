// Micro-benchmarks of the CPU backend at the sizes of ViT-B/16. Each kernel is first compared with
// the reference backend on a small case; rates are also given as a share of the peak measured in
// this run (bandwidth-bound kernels: bytes/s).
#include <benchmark/benchmark.h>

#include <cstdio>

#include "hybridmed/autograd/attention.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/norm.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"
#include "hybridmed/model/flops.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/train/step.hpp"
#include "support.hpp"

using namespace hybridmed;
using bench::compare;
using bench::normal;
using B = CpuBackend;

namespace {

double peak = 0,
       copy_rate = 0;  // GFLOP/s of all threads; GB/s of a copy as large as what LayerNorm reads

void rate(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops / 1e9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share_of_peak"] =
      benchmark::Counter(flops / 1e9 / peak, benchmark::Counter::kIsIterationInvariantRate);
}

template <class Backend>
Segments<Backend> equal_segments(Index count, Index length) {
  std::vector<std::int32_t> r;
  for (Index i = 0; i < count; ++i) {
    r.push_back(static_cast<std::int32_t>(i * length));
    r.push_back(static_cast<std::int32_t>((i + 1) * length));
  }
  return Segments<Backend>(r, count * length);
}

/// Forward and backward of `f(x)` with x recorded; returns the gradient of x for dy = ones.
template <class Backend, class F>
std::vector<float> gradient(const Tensor<float, Backend>& x, F&& f) {
  GradientSlot<float, Backend> slot;
  Tape tape;
  RecordOn on(tape);
  const Variable<float, Backend> y = f(Variable<float, Backend>(x, &slot));
  y.slot->add(Tensor<float, Backend>::full(y.shape(), 1.0f));
  tape.backward();
  return slot.grad.to_host();
}

void gemm(benchmark::State& state) {
  const Index m = state.range(0), n = state.range(1), k = state.range(2);
  const auto a = normal<B>({m, k}, 1), b = normal<B>({n, k}, 2);
  Tensor<float, B> c({m, n});
  for (auto _ : state)
    B::gemm(false, true, m, n, k, 1.0f, a.data(), k, b.data(), k, 0.0f, c.data(), n);
  rate(state, 2.0 * static_cast<double>(m * n * k));
}

template <class Backend>
auto attention_case(Index batch, Index length, Index heads) {
  return [=, segments = equal_segments<Backend>(batch, length)](const Variable<float, Backend>& x) {
    return self_attention(x, segments,
                          AttentionOptions<Variable<float, Backend>>{heads, false, nullptr, {}});
  };
}
void attention(benchmark::State& state) {
  const Index batch = 8, heads = 12, length = 197, width = 768;
  const auto x = normal<B>({batch * length, 3 * width}, 3);
  const auto f = attention_case<B>(batch, length, heads);
  for (auto _ : state) {
    if (state.range(0))
      benchmark::DoNotOptimize(gradient<B>(x, f));
    else
      benchmark::DoNotOptimize(f(Variable<float, B>(x)));
  }
  rate(state, (state.range(0) ? 12.0 : 4.0) * static_cast<double>(batch * length * length * width));
}

void layer_norm_bench(benchmark::State& state) {
  const Index rows = 1576, cols = 768;
  const auto x = normal<B>({rows, cols}, 4), g = normal<B>({cols}, 5), b = normal<B>({cols}, 6);
  for (auto _ : state) {
    if (state.range(0))
      benchmark::DoNotOptimize(
          gradient<B>(x, [&](const auto& v) { return layer_norm(v, {g}, {b}, 1e-5); }));
    else
      benchmark::DoNotOptimize(layer_norm(x, g, b, 1e-5));
  }
  const double gigabytes = 4e-9 * static_cast<double>(rows * cols) * (state.range(0) ? 5 : 2);
  state.counters["GB/s"] =
      benchmark::Counter(gigabytes, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share_of_peak"] =
      benchmark::Counter(gigabytes / copy_rate, benchmark::Counter::kIsIterationInvariantRate);
}

void local_loss(benchmark::State& state) {
  const Index batch = state.range(0), words = state.range(1), regions = 196, d = 512;
  const auto p = normal<B>({batch * regions, d}, 7, 0.05),
             w = normal<B>({batch * words, d}, 8, 0.05);
  std::vector<std::int32_t> o;
  for (Index i = 0; i <= batch; ++i) o.push_back(static_cast<std::int32_t>(i * words));
  const auto offsets = Tensor<std::int32_t, Host>::from_host(o, {batch + 1});
  for (auto _ : state) {
    if (state.range(2))
      benchmark::DoNotOptimize(
          gradient<B>(p, [&](const auto& v) { return local_scores(v, batch, {w}, offsets, {}); }));
    else
      benchmark::DoNotOptimize(local_scores(p, batch, w, offsets, {}));
  }
  rate(state, (state.range(2) ? 12.0 : 4.0) *
                  static_cast<double>(batch * batch * words * regions *
                                      d));  // the textbook count of the reference
}

/// One stage-2 step on a batch of two full-length samples of a named configuration.
template <class Backend>
struct Step {
  using Model = model::HybridMed<float, Backend, model::AnyEncoder<float, Backend>>;
  using Objective = decltype(system::HybridMed::alignment(model::Config{}));
  model::Config config;
  Model m;
  system::Composed<Model, Objective> composed;
  model::Teacher<float, Backend> teacher;
  optim::AdamW<float, Backend> optimizer;
  Tape tape;
  std::vector<std::int32_t> findings, f_offsets{0}, impression, i_offsets{0};
  Tensor<float, Backend> image;

  Step(const char* preset, Index batch)
      : config(model::Config::preset(preset)),
        m(model::make_hybridmed<float, Backend>(config)),
        composed(m, system::HybridMed::alignment(config)),
        teacher(initialised(composed).snapshot()),
        optimizer(composed, {}),
        image(normal<Backend>({batch, 3, config.image_size, config.image_size}, 9)) {
    for (Index b = 0; b < batch; ++b) {
      add(findings, f_offsets, config.t_findings);
      add(impression, i_offsets, config.t_impression);
    }
  }
  double operator()() {
    model::Batch<float, Backend> batch{image,
                                       m.plan({findings, f_offsets}, {impression, i_offsets}, {})};
    batch.teacher_logits = teacher(batch.text);
    return train::train_step(composed, batch, optimizer, 1e-4, tape, nn::Mode::training()).total;
  }

 private:
  static Model& initialised(system::Composed<Model, Objective>& composed) {
    nn::initialise(composed, 3);
    return composed.model();
  }
  void add(std::vector<std::int32_t>& ids, std::vector<std::int32_t>& offsets, Index length) const {
    for (Index t = 0; t < length; ++t)
      ids.push_back(static_cast<std::int32_t>(
          t == 0            ? config.bos
          : t + 1 == length ? config.eos
                            : 3 + (7 * t + static_cast<Index>(ids.size())) % (config.vocab - 3)));
    offsets.push_back(static_cast<std::int32_t>(ids.size()));
  }
};

void training_step(benchmark::State& state) {
  const Index batch = state.range(0);
  Step<B> step("small", batch);
  for (auto _ : state) benchmark::DoNotOptimize(step());
  rate(state, model::count_flops(step.config, batch).step());
}

/// Every kernel against the reference backend on a small case.
void verify() {
  using R = Reference;
  {
    Tensor<float, B> c({37, 65});
    Tensor<float, R> r({37, 65});
    B::gemm(false, true, 37, 65, 129, 1.0f, normal<B>({37, 129}, 1).data(), 129,
            normal<B>({65, 129}, 2).data(), 129, 0.0f, c.data(), 65);
    R::gemm(false, true, 37, 65, 129, 1.0f, normal<R>({37, 129}, 1).data(), 129,
            normal<R>({65, 129}, 2).data(), 129, 0.0f, r.data(), 65);
    compare("gemm", c.to_host(), r.to_host());
  }
  compare("attention", gradient<B>(normal<B>({3 * 70, 96}, 3), attention_case<B>(3, 70, 2)),
          gradient<R>(normal<R>({3 * 70, 96}, 3), attention_case<R>(3, 70, 2)));
  compare(
      "layer_norm",
      layer_norm(normal<B>({9, 65}, 4), normal<B>({65}, 5), normal<B>({65}, 6), 1e-5).to_host(),
      layer_norm(normal<R>({9, 65}, 4), normal<R>({65}, 5), normal<R>({65}, 6), 1e-5).to_host());
  compare("layer_norm backward",
          gradient<B>(normal<B>({9, 65}, 4),
                      [&](const auto& v) {
                        return layer_norm(v, {normal<B>({65}, 5)}, {normal<B>({65}, 6)}, 1e-5);
                      }),
          gradient<R>(normal<R>({9, 65}, 4), [&](const auto& v) {
            return layer_norm(v, {normal<R>({65}, 5)}, {normal<R>({65}, 6)}, 1e-5);
          }));
  const auto offsets =
      Tensor<std::int32_t, Host>::from_host(std::vector<std::int32_t>{0, 5, 12}, {3});
  compare("local loss",
          gradient<B>(normal<B>({2 * 16, 24}, 7, 0.3),
                      [&](const auto& v) {
                        return local_scores(v, 2, {normal<B>({12, 24}, 8, 0.3)}, offsets, {});
                      }),
          gradient<R>(normal<R>({2 * 16, 24}, 7, 0.3), [&](const auto& v) {
            return local_scores(v, 2, {normal<R>({12, 24}, 8, 0.3)}, offsets, {});
          }));
  {
    Step<B> mine("tiny", 2);
    Step<R> theirs("tiny", 2);
    for (int i = 0; i < 2; ++i)
      compare("training step", {static_cast<float>(mine())}, {static_cast<float>(theirs())});
  }
}

}  // namespace

BENCHMARK(gemm)
    ->ArgNames({"m", "n", "k"})
    ->Args({1576, 3072, 768})
    ->Args({1576, 768, 3072})
    ->Args({252, 30522, 768})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(attention)
    ->ArgName("backward")
    ->Arg(0)
    ->Arg(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(layer_norm_bench)
    ->Name("layer_norm")
    ->ArgName("backward")
    ->Arg(0)
    ->Arg(1)
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(training_step)->ArgName("batch")->Arg(8)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(local_loss)
    ->ArgNames({"batch", "words", "backward"})
    ->Args({16, 60, 0})
    ->Args({16, 60, 1})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  verify();
  peak = bench::peak_gflops(B::threads());
  const auto x = normal<B>({1576, 768}, 1);
  Tensor<float, B> y({1576, 768});
  copy_rate = 8e-9 * static_cast<double>(x.size()) /
              bench::fastest([&] { B::copy(x.size(), x.data(), y.data()); });
  std::printf(
      "backend %s, products by %s, %d threads, peak %.1f GFLOP/s, copy %.1f GB/s (measured now); "
      "every kernel agreed with the reference\n",
      B::name, B::gemm_policy::name, B::threads(), peak, copy_rate);
  benchmark::RunSpecifiedBenchmarks();
}
