// Recomputation: the activations of one block at a time, and threads that share a model.
#include <atomic>
#include <thread>
#include <type_traits>

#include "autograd/recompute.hpp"
#include "hybridmed/backend/cpu/backend.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("a stack of blocks holds the activations of one block at a time") {
  using T = float;
  using B = Cpu<cpu::EigenGemm, executor::Serial>;  // the arena's numbers repeat exactly
  auto& arena = HostArena::instance();
  std::vector<nn::TransformerBlock<T, B>> blocks;
  const Index width = 32, rows = 512;
  for (int i = 0; i < 12; ++i)
    blocks.emplace_back(width, 4 * width, 1e-5, nn::SelfAttention<T, B>(width, 4));
  for (auto& b : blocks) nn::initialise(b, 1);
  const Segments<B> segments = EqualSegments<B>(64).times(rows / 64);
  Tensor<T, B> x({rows, width});
  B::fill_normal(x.size(), Philox(3), 1, x.data());
  Tape tape;
  const auto peak = [&](bool again) {
    const auto before = arena.statistics().in_use;
    arena.reset_peak();
    const RecordOn on(tape);
    Variable<T, B> h(x);
    for (const auto& b : blocks) {
      const auto f = [&b, &segments](const Variable<T, B>& v) { return b(v, segments, false); };
      h = again ? recompute(f, h) : f(h);
    }
    backward({{h, x}});
    for (auto& b : blocks)
      nn::for_each_parameter(b, [](const std::string&, auto& p) { p.slot.grad = {}; });
    return static_cast<double>(arena.statistics().peak - before);
  };
  peak(false);
  const double plain = peak(false);
  peak(true);
  const double again = peak(true);
  MESSAGE("peak of 12 blocks: ", plain / 1e6, " MB, under recompute ", again / 1e6, " MB");
  CHECK(again < plain / 3);
  // From the second step on the arena does not grow: the nested tape's memory is kept.
  const auto held = arena.statistics();
  peak(true);
  CHECK(arena.statistics().high_mark == held.high_mark);
  CHECK(arena.statistics().in_use == held.in_use);
}

TEST_CASE("threads share a frozen model under recompute, each with a tape of its own") {
  using T = float;
  using B = CpuBackend;
  Residual<T, B> residual;
  Blocks<T, B> blocks;
  nn::initialise(residual, 1);
  nn::initialise(blocks, 2);
  nn::for_each_parameter(residual, [](const std::string&, auto& p) { p.trainable = false; });
  nn::for_each_parameter(blocks, [](const std::string&, auto& p) { p.trainable = false; });
  const auto saliency = [](const auto& m, Use use, std::uint64_t seed) {
    using M = std::decay_t<decltype(m)>;
    Tape tape;
    std::vector<std::vector<T>> all;
    for (int pass = 0; pass < 3; ++pass) {
      const RecordOn on(tape);
      Tensor<T, B> x(M::input());
      B::fill_normal(x.size(), Philox(seed), 1, x.data());
      GradientSlot<T, B> dx;
      auto mode = nn::Mode::inspection();
      mode.dropout = true;
      mode.random = Philox(seed);
      const Variable<T, B> y = m(Variable<T, B>(x, &dx), mode, use);
      backward({{y, Tensor<T, B>::full(y.shape(), 1)}});
      all.push_back(dx.grad.to_host());
    }
    return all;
  };
  std::vector<std::vector<std::vector<T>>> want;
  for (std::uint64_t k = 0; k < 4; ++k) {
    want.push_back(saliency(residual, Use::plain, k));
    want.push_back(saliency(blocks, Use::plain, k));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> team;
  for (std::uint64_t k = 0; k < 4; ++k)
    team.emplace_back([&, k] {
      for (int i = 0; i < 4; ++i) {
        if (saliency(residual, Use::again, k) != want[2 * k]) ++wrong;
        if (saliency(blocks, Use::nested, k) != want[2 * k + 1]) ++wrong;
      }
    });
  for (auto& t : team) t.join();
  CHECK(wrong == 0);
}
