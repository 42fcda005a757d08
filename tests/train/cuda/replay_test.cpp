// A training step that was recorded gives the bits of one that is issued launch by launch, is one
// graph launch, and asks the driver for nothing.
#include "hybridmed/autograd/losses.hpp"
#include "train/cuda/training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendReplay<Cuda, float> && BackendReplay<Cuda, double>);
static_assert(!BackendReplay<Reference, double> && !BackendReplay<CpuBackend, float>);
template <class T, class B>
using Steps = train::ReplayedSteps<system::StageOf<T, B>, T, B>;
static_assert(Steps<float, Cuda>::replays && !Steps<double, Reference>::replays);

/// Numbers of every step, and the state after them. Batches with a negative number are longer.
template <class T>
std::pair<std::vector<Values>, Values> trained(const char* name, const char* preset,
                                               std::size_t most, std::size_t expected) {
  const auto s = make<T, Cuda>(name, preset);
  std::vector<Values> numbers;
  for (std::size_t k = 0; k < s->stages().size(); ++k) {
    s->begin_stage(k);
    s->begin_epoch(k, 0);
    optim::AdamW<T, Cuda> optimizer(*s, {});
    Tape tape;
    system::StageOf<T, Cuda> view(*s, k);
    Steps<T, Cuda> steps(most);
    std::optional<train::IssuedStep<T, Cuda>> last;
    for (std::int32_t number : {1, 2, -1, 3, 4, -2, 1}) {
      optimizer.begin_step(1e-3);
      auto issued = steps.issue(view, batch_for<T, Cuda>(*s, std::abs(number), number < 0),
                                optimizer, tape, nn::Mode::training());
      if (last) numbers.push_back(numbers_of(*last));  // a step late
      last = std::move(issued);
    }
    numbers.push_back(numbers_of(*last));
    CHECK(steps.failure() == "");
    CHECK(steps.recorded() == expected);
    CHECK(optimizer.steps() == 7);
  }
  return {numbers, state_of(*s)};
}

template <class T>
void same_bits(const std::string& name, const std::string& preset) {
  CAPTURE(name);
  CAPTURE(preset);
  const auto plain = trained<T>(name.c_str(), preset.c_str(), 0, 0),
             recorded = trained<T>(name.c_str(), preset.c_str(), 8, 2);
  CHECK(recorded.first == plain.first);
  const bool same = recorded.second == plain.second;
  CHECK(same);
}

}  // namespace

TEST_CASE("recorded steps give the bits of plain ones, a step late too") {
  same_bits<double>("hybridmed", "tiny");
  same_bits<float>("hybridmed", "tiny-resnet");
  same_bits<double>("mgca", "tiny");
}

TEST_CASE("a recorded step is one graph launch, without a kernel beside it or a driver call") {
  const auto s = make<float, Cuda>("hybridmed", "tiny");
  s->begin_stage(0);
  optim::AdamW<float, Cuda> optimizer(*s, {});
  Tape tape;
  system::StageOf<float, Cuda> view(*s, 0);
  Steps<float, Cuda> steps;
  const auto batch = batch_for<float, Cuda>(*s, 1);
  std::size_t calls = 0, before = 0;
  for (int i = 0; i < 6; ++i) {
    optimizer.begin_step(1e-3);
    faults.restart_counters();
    const auto issued = steps.issue(view, batch, optimizer, tape, nn::Mode::training());
    CHECK(faults.graphs == (i > 0));
    if (i > 1) {
      CHECK(faults.kernels == 0);
      CHECK(faults.copies_up == 0);
    }
    if (i > 2) CHECK(cuda::memory_statistics().driver_calls == calls);
    issued.numbers();
    calls = cuda::memory_statistics().driver_calls;
    if (i == 0) before = cuda::memory_statistics().in_use;
  }
  steps.forget();
  CHECK(cuda::memory_statistics().in_use <= before);
}

TEST_CASE("plain steps ask the driver for nothing from the third on") {
  const auto s = make<float, Cuda>("clip", "tiny-resnet");
  s->begin_stage(0);
  optim::AdamW<float, Cuda> optimizer(*s, {});
  Tape tape;
  system::StageOf<float, Cuda> view(*s, 0);
  std::size_t calls = 0;
  for (std::int32_t i = 0; i < 6; ++i) {
    const auto batch = batch_for<float, Cuda>(*s, i);
    train::train_step(view, batch, optimizer, 1e-3, tape, nn::Mode::training());
    if (i > 1) CHECK(cuda::memory_statistics().driver_calls == calls);
    calls = cuda::memory_statistics().driver_calls;
  }
}

TEST_CASE("the least recently used recording goes, and no memory with it") {
  const auto s = make<float, Cuda>("clip", "tiny");
  s->begin_stage(0);
  optim::AdamW<float, Cuda> optimizer(*s, {});
  Tape tape;
  system::StageOf<float, Cuda> view(*s, 0);
  std::size_t before = 0;
  {
    Steps<float, Cuda> steps(1);
    for (int i = 0; i < 12; ++i) {
      const auto batch = batch_for<float, Cuda>(*s, i, i % 4 > 1);
      optimizer.begin_step(1e-3);
      CHECK(std::isfinite(
          steps.issue(view, batch, optimizer, tape, nn::Mode::training()).read().total));
      CHECK(steps.recorded() <= 1);
      if (i == 0) before = cuda::memory_statistics().in_use;
    }
    CHECK(steps.failure() == "");
  }
  CHECK(cuda::memory_statistics().in_use <= before);
}

namespace {

/// Two layers with dropout and BatchNorm, and their classes.
template <class B>
struct Network {
  using T = double;
  struct Batch {
    Tensor<T, B> x;
    IndexTensor<B> target;
    template <class F>
    void each_input(F&& f) const {
      f(x);
      f(target);
    }
    template <class F>
    void each_extent(F&& f) const {
      f(x.rows());
    }
    Batch elsewhere() const { return {Tensor<T, B>(x.shape()), IndexTensor<B>(target.shape())}; }
  };
  using Losses = objective::Losses<T, B>;
  nn::Linear<T, B> one{6, 16}, two{16, 4};
  nn::BatchNorm<T, B> norm{16};
  nn::Dropout dropout{0.3};
  bool moves_weight = false;

  template <class F>
  void visit(F&& f) {
    f("one", one);
    f("norm", norm);
    f("two", two);
  }
  template <Value V>
  V total(const Batch& b, const nn::Mode& mode, Losses& losses) const {
    losses.clear();
    const V h = activate(norm(one(V(b.x)), mode), Activation::gelu);
    const V loss = cross_entropy(two(dropout(dropout(h, mode, 1), mode, 2)), b.target, 0.1);
    losses.add("loss", value(loss));
    return loss;
  }
  void constrain() {
    if (moves_weight) two.weight.value = two.weight.value.clone();
  }
};

template <class B>
Values trained_network(std::size_t most, bool moves_weight = false) {
  Network<B> n;
  n.moves_weight = moves_weight;
  nn::initialise(n, 3);
  optim::AdamW<double, B> optimizer(n, {});
  Tape tape;
  train::ReplayedSteps<Network<B>, double, B> steps(most);
  Values out;
  for (std::uint64_t i = 0; i < 5; ++i) {
    const typename Network<B>::Batch batch{tensor<double, B>(normal(7 * 6, i), {7, 6}),
                                           indices<B>({0, 1, 2, 3, 0, 1, 2})};
    const Philox random = Philox(5).fork(i);
    optimizer.begin_step(1e-2 / static_cast<double>(i + 1), random);
    const auto r = steps.issue(n, batch, optimizer, tape, nn::Mode::training(random)).read();
    out.push_back(r.total);
    out.push_back(r.gradient_norm);
  }
  CHECK(steps.failure() ==
        (moves_weight && most > 0
             ? "[hybridmed.train] record: the step gives the parameter 'two.weight' other memory; "
               "hint: write into the memory that it has"
             : ""));
  const auto add = [&](const std::string&, const auto& x) {
    for (double v : values(x.value)) out.push_back(v);
  };
  nn::for_each_state(n, add, add);
  return out;
}

}  // namespace

TEST_CASE("rates, corrections and dropout of a recorded step are those of its number") {
  const Values plain = trained_network<Cuda>(0), recorded = trained_network<Cuda>(4),
               want = trained_network<Reference>(4);
  CHECK(recorded == plain);
  CHECK(difference(recorded, want) <= 1e-9);
}

TEST_CASE("a step that moves a parameter is not recorded, and loses nothing") {
  CHECK(trained_network<Cuda>(4, true) == trained_network<Cuda>(0));
}
