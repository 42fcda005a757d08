// Bad situations on a device: each ends in an exception that says what happened, or in a warning;
// nothing leaks, and the process goes on.
#include "errors.hpp"
#include "train/cuda/training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using T = double;
using Steps = train::ReplayedSteps<system::StageOf<T, Cuda>, T, Cuda>;

/// A system with its optimizer, in a context of its own.
struct Run {
  cuda::Context context;
  cuda::Use use{context};
  std::unique_ptr<system::System<T, Cuda>> system = make<T, Cuda>("clip", "tiny-resnet");
  std::optional<optim::AdamW<T, Cuda>> optimizer;
  Tape tape;
  Steps steps;
  std::optional<system::StageOf<T, Cuda>> view;

  explicit Run(std::size_t most = 8) : steps(most) {
    system->begin_stage(0);
    optimizer.emplace(*system, optim::AdamWOptions{});
    view.emplace(*system, 0);
  }
  Values step(std::int32_t number) {
    const cuda::Use here(context);
    return step(batch_for<T, Cuda>(*system, number));
  }
  Values step(const model::Batch<T, Cuda>& batch) {
    optimizer->begin_step(1e-3);
    return numbers_of(steps.issue(*view, batch, *optimizer, tape, nn::Mode::inspection()));
  }
  std::size_t in_use() const { return cuda::memory_statistics().in_use; }
};

}  // namespace

TEST_CASE("no device: the error says what is needed, and a device that is there later serves") {
  faults.no_device = true;
  CHECK(cuda::device_count() == 0);
  const std::string error = error_of([] { const cuda::Context none; });
  faults.no_device = false;
  CHECK(holds(error, "[hybridmed.cuda] context: cudaErrorNoDevice: "));
  CHECK(holds(error,
              "; hint: the CUDA backend needs an NVIDIA GPU and its driver; CpuBackend "
              "needs neither"));
  const cuda::Context context;
  const cuda::Use use(context);
  CHECK(values(Tensor<float, Cuda>::full({3}, 2.0f)) == Values{2, 2, 2});
}

TEST_CASE(
    "a launch that fails ends the step: no half gradient, no memory lost, the next one runs") {
  Run clean(0), run(0);
  const std::vector<Values> want{clean.step(1), clean.step(2), clean.step(3)};
  CHECK(run.step(1) == want[0]);
  const auto before = run.in_use();
  faults.restart_counters();
  {
    const cuda::Use use(clean.context);
    clean.step(4);
  }
  const long launches = faults.kernels;
  CHECK(launches > 50);
  for (long after : {0l, 7l, launches / 3, launches / 2, launches - 5}) {
    CAPTURE(after);
    const auto steps = run.optimizer->steps();
    const auto batch = batch_for<T, Cuda>(*run.system, 2);
    run.optimizer->begin_step(1e-3);
    faults.launches_until_failure = after;
    const std::string error = error_of([&] {
      run.steps.issue(*run.view, batch, *run.optimizer, run.tape, nn::Mode::inspection());
    });
    faults.launches_until_failure = -1;
    CHECK(holds(error, ": cudaErrorInvalidConfiguration: "));
    CHECK(holds(error, ", on device 0 ("));
    CHECK(run.optimizer->steps() == steps);
    nn::for_each_parameter(
        *run.system, [](const std::string&, const auto& p) { CHECK_FALSE(p.slot.grad.defined()); });
  }
  CHECK(run.in_use() == before);
  // The failures came before the update.
  CHECK(run.step(2) == want[1]);
  CHECK(run.step(3) == want[2]);
}

TEST_CASE("too little memory in a step: the error says so, and a step that fits runs") {
  Run clean(0), run(0);
  const Values first = clean.step(1), second = clean.step(2);
  CHECK(run.step(1) == first);
  const auto before = run.in_use();
  const auto large = [&] {
    auto b = batch_for<T, Cuda>(*run.system, 2, true);
    return b;
  }();
  // The cache is given back before a request fails for good, so that nothing kept serves the step.
  faults.memory_until_failure = 0;
  const std::string at_once = error_of([] { const Tensor<T, Cuda> t({Index{1} << 22}); });
  CHECK(
      holds(at_once, "[hybridmed.cuda] allocate: the device is out of memory for 33554432 bytes"));
  CHECK(cuda::memory_statistics().reserved <= run.in_use() + run.in_use() / 2);
  for (long after : {1l, 20l, 60l}) {
    faults.memory_until_failure = after;
    std::string error;
    try {
      run.step(large);
    } catch (const OutOfMemory& e) {
      error = e.what();
    }
    CHECK(holds(error, "[hybridmed.cuda] allocate: the device is out of memory for "));
  }
  faults.memory_until_failure = -1;
  CHECK(run.in_use() <= before + (1 << 20));
  CHECK(run.step(2) == second);
}

TEST_CASE("a loss that is no number changes nothing, plain and recorded") {
  Run run;
  for (std::int32_t i : {1, 2, 3}) run.step(i);
  CHECK(run.steps.recorded() == 1);
  const Values before = state_of(*run.system);
  auto bad = batch_for<T, Cuda>(*run.system, 4);
  const T nan = std::numeric_limits<T>::quiet_NaN();
  Cuda::copy_from_host(&nan, bad.image.data() + 5, sizeof nan);
  run.optimizer->begin_step(1e-3);
  const auto r =
      run.steps.issue(*run.view, bad, *run.optimizer, run.tape, nn::Mode::inspection()).read();
  CHECK_FALSE(r.finite);
  run.optimizer->take_back();
  const bool same = state_of(*run.system) == before;
  CHECK(same);
  Run clean(0);
  for (std::int32_t i : {1, 2, 3}) clean.step(i);
  CHECK(run.step(5) == clean.step(5));
}

TEST_CASE("a capture that fails: the steps run launch by launch, with the same numbers") {
  Run clean(0);
  std::vector<Values> want;
  for (std::int32_t i : {1, 2, 3}) want.push_back(clean.step(i));
  for (bool capture : {true, false}) {
    CAPTURE(capture);
    Run run;
    const auto before = run.in_use();
    (capture ? faults.no_capture : faults.no_graph) = true;
    CHECK(run.step(1) == want[0]);
    CHECK(run.step(2) == want[1]);
    CHECK(holds(run.steps.failure(), "[hybridmed.cuda] record: cudaError"));
    CHECK(run.step(3) == want[2]);
    faults.no_capture = faults.no_graph = false;
    CHECK(run.steps.recorded() == 0);
    CHECK(run.optimizer->steps() == 3);
    run.optimizer.reset();
    CHECK(run.in_use() <= before);
  }
}

TEST_CASE("a launch that fails while a step is recorded leaves the stream as it was") {
  Run clean(0), run;
  const Values first = clean.step(1), second = clean.step(2), third = clean.step(3);
  CHECK(run.step(1) == first);
  faults.launches_until_failure = 30;
  CHECK(run.step(2) == second);
  CHECK(faults.launches_until_failure == -1);
  CHECK(holds(run.steps.failure(), "cudaErrorInvalidConfiguration"));
  CHECK(run.step(3) == third);
}

TEST_CASE("what is recorded reads nothing on the host, and records nothing itself") {
  const cuda::Context context;
  const cuda::Use use(context);
  const auto x = Tensor<float, Cuda>::full({100}, 2.0f);
  CHECK(holds(error_of([&] { Cuda::record([&] { x.to_host(); }); }),
              "[hybridmed.cuda] copy_to_host: the host reads nothing while a step is recorded"));
  CHECK(holds(error_of([&] { Cuda::record([&] { Cuda::record([] {}); }); }),
              "[hybridmed.cuda] record: the context records already"));
  CHECK(holds(error_of([] { Cuda::replay({}); }), "replay: nothing was recorded"));
  CHECK(holds(error_of([&] { Cuda::record([] { fail("test", "between", "launches"); }); }),
              "[hybridmed.test] between: launches"));
  // Uploads within are kept; memory from before that is dropped within stays for the replays.
  std::optional<Tensor<float, Cuda>> dropped = Tensor<float, Cuda>::full({100}, 3.0f);
  Tensor<float, Cuda> y;
  const auto recording = Cuda::record([&] {
    const auto up = Tensor<float, Cuda>::from_host(std::vector<float>(100, 1.0f), {100});
    y = Tensor<float, Cuda>({100});
    Cuda::add(100, up.data(), dropped->data(), y.data());
    dropped.reset();
    Cuda::add(100, y.data(), x.data(), y.data());
  });
  const auto other = Tensor<float, Cuda>::full({100}, -5.0f);
  for (int i = 0; i < 3; ++i) {
    Cuda::fill(100, static_cast<float>(i), x.data());
    Cuda::replay(recording);
    CHECK(values(y) == Values(100, 4.0 + i));
  }
  const cuda::Context second;
  const cuda::Use elsewhere(second);
  CHECK(holds(error_of([&] { Cuda::replay(recording); }), "replay: another context is current"));
}
