// One model, many threads: forward is const and truly so, the rule for threads holds, nothing
// hangs. Run under -fsanitize=thread by scripts/check-all.
#include <doctest/doctest.h>

#include <thread>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/model/hybridmed.hpp"
#include "hybridmed/nn/initialise.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using T = float;
using B = CpuBackend;
using X = Tensor<T, B>;

namespace {

template <class M>
std::vector<T> embed(const M& m, Index batch, std::uint64_t seed) {
  X image({batch, 3, 64, 64});
  B::fill_normal(image.size(), Philox(seed), 0.5, image.data());
  const auto f = m.image.template operator()<X>(image, nn::Mode::evaluation(), model::Levels::all);
  std::vector<T> all = f.global.to_host();
  for (const X& t : {m.aggregator(f.levels), m.memory(f.levels[3])}) {
    const auto v = t.to_host();
    all.insert(all.end(), v.begin(), v.end());
  }
  return all;
}

/// Runs f(k) in `count` threads at once.
template <class F>
void at_once(int count, F&& f) {
  std::vector<std::thread> team;
  for (int k = 0; k < count; ++k) team.emplace_back([&f, k] { f(k); });
  for (auto& t : team) t.join();
}

}  // namespace

TEST_CASE(
    "threads that share a const model get the bits of a thread alone, whatever their batch sizes "
    "and the team's") {
  for (const char* preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    auto made = model::make_hybridmed<T, B>(model::Config::preset(preset));
    nn::initialise(made, 1);
    const auto& m = made;
    std::vector<std::vector<T>> want;
    B::set_threads(1);
    for (int k = 0; k < 4; ++k) want.push_back(embed(m, 1 + k, static_cast<std::uint64_t>(k)));
    for (int team : {1, 2, 3}) {
      B::set_threads(team);
      CHECK(B::threads() == team);
      std::atomic<int> wrong{0};
      at_once(4, [&](int k) {
        for (int i = 0; i < 5; ++i) {
          const int request = (k + i) % 4;
          if (embed(m, 1 + request, static_cast<std::uint64_t>(request)) !=
              want[static_cast<std::size_t>(request)])
            ++wrong;
        }
      });
      CHECK_MESSAGE(wrong == 0, preset, " with a team of ", team);
    }
  }
  B::set_threads(executor::Team::processors());
}

TEST_CASE(
    "set_threads counts for every thread, may be called from several at once while others compute, "
    "and refuses nonsense") {
  B::set_threads(3);
  int seen = 0;
  std::thread([&] { seen = B::threads(); }).join();
  CHECK(seen == 3);
  std::atomic<long> done{0};
  at_once(4, [&](int k) {
    for (int i = 0; i < 50; ++i) {
      B::set_threads(1 + (k + i) % 3);
      B::executor_policy::for_each(8, [&](Index) { ++done; });
    }
  });
  CHECK(done == 4 * 50 * 8);
  for (int n : {0, -1, executor::Team::most() + 1, 1 << 30})
    CHECK(holds(error_of([&] { B::set_threads(n); }), "set_threads"));
  CHECK(B::threads() >= 1);
  B::set_threads(executor::Team::processors());
}

TEST_CASE_TEMPLATE("a tile that calls an operation runs it alone; exceptions reach each caller", E,
                   executor::StdThread, executor::Default) {
  E::set_threads(3);
  std::atomic<int> inner{0};
  E::for_each(4, [&](Index) { E::for_each(5, [&](Index) { ++inner; }); });
  CHECK(inner == 20);
  std::atomic<int> caught{0};
  at_once(3, [&](int) {
    for (int i = 0; i < 20; ++i) try {
        E::for_each(6, [](Index t) {
          if (t == 3) fail("test", "tile", "three");
        });
      } catch (const Error&) {
        ++caught;
      }
  });
  CHECK(caught == 60);
  E::set_threads(executor::Team::processors());
}
