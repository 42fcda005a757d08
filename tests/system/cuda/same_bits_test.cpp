// What the CUDA backend shares with the CPU backend to the bit, and that a step repeated there
// gives the same bits.
#include <doctest/doctest.h>

#include <cstring>

#include "hybridmed/backend/cuda/backend.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/nn/layers.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/step.hpp"
#include "small_step.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

template <class T>
struct Weight {
  Initial::Kind kind;
  std::vector<T> values;
};
template <class T, class B>
std::map<std::string, Weight<T>> initial(const char* system, const char* preset) {
  const auto s = system::make_system<T, B>(system, small(preset));
  nn::initialise(*s, 11);
  std::map<std::string, Weight<T>> out;
  nn::for_each_parameter(*s, [&](const std::string& name, auto& p) {
    out[name] = {p.initial.kind, p.value.to_host()};
  });
  return out;
}

template <class T, class B>
std::vector<T> mask(Index n, std::uint64_t step, std::uint64_t site, double p) {
  const nn::Mode mode = nn::Mode::training(Philox(5).fork(step));
  nn::Dropout dropout;
  dropout.probability = p;
  return dropout(Tensor<T, B>::full({n, 1}, T(1)), mode, site).to_host();
}

/// The bits of two steps of each stage: losses, norms, and the weights at the end.
template <class T>
std::vector<T> two_steps_of_each_stage(const char* preset) {
  const auto config = small(preset);
  const auto s = system::make_system<T, Cuda>("hybridmed", config);
  nn::initialise(*s, 7);
  std::vector<T> out;
  for (std::size_t k = 0; k < s->stages().size(); ++k) {
    s->begin_stage(k);
    s->begin_epoch(k, 1);
    const auto batch = three_samples<T, Cuda>(*s, config.image_size);
    optim::AdamW<T, Cuda> optimizer(*s, {});
    Tape tape;
    system::StageOf<T, Cuda> view(*s, k);
    for (std::uint64_t i = 0; i < 2; ++i) {
      const auto r = train::train_step(view, batch, optimizer, 1e-3, tape,
                                       nn::Mode::training(Philox(3).fork(i)));
      CHECK(r.finite);
      out.push_back(static_cast<T>(r.gradient_norm));
      for (const auto& l : r.losses) out.push_back(l.value.item());
    }
  }
  nn::for_each_parameter(*s, [&](const std::string&, auto& p) {
    for (const T x : p.value.to_host()) out.push_back(x);
  });
  return out;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE_TEMPLATE("dropout draws the CPU backend's masks", T, float, double) {
  for (const Index n : {Index{1}, Index{31}, Index{1024}, Index{70001}})
    for (const double p : {0.1, 0.5})
      for (const std::uint64_t step : {0u, 9u}) {
        CAPTURE(n);
        CHECK(same_bits(mask<T, Cuda>(n, step, 3, p), mask<T, CpuBackend>(n, step, 3, p)));
      }
}

TEST_CASE_TEMPLATE("a system begins with the CPU backend's weights", T, float, double) {
  const auto compare = [](const char* system, const char* preset) {
    const auto want = initial<T, CpuBackend>(system, preset),
               got = initial<T, Cuda>(system, preset);
    REQUIRE(got.size() == want.size());
    for (const auto& [name, w] : want) {
      CAPTURE(name);
      const auto& mine = got.at(name).values;
      if (w.kind != Initial::Kind::unit_rows) {
        CHECK(same_bits(mine, w.values));
        continue;
      }
      // The same numbers drawn; a row's length is a sum in another order.
      REQUIRE(mine.size() == w.values.size());
      for (std::size_t i = 0; i < mine.size(); ++i)
        CHECK(std::abs(mine[i] - w.values[i]) <= 4 * std::numeric_limits<T>::epsilon());
    }
  };
  for (const char* preset : {"tiny", "tiny-swin", "tiny-resnet"}) compare("hybridmed", preset);
  compare("mgca", "tiny");
}

TEST_CASE_TEMPLATE("two runs of the same steps give the same bits", T, float, double) {
  for (const char* preset : {"tiny", "tiny-swin", "tiny-resnet"}) {
    CAPTURE(preset);
    CHECK(same_bits(two_steps_of_each_stage<T>(preset), two_steps_of_each_stage<T>(preset)));
  }
}
