// Steps in bf16 read the weights' copies that the update before has written: the bits are those of
// steps that round each weight where it is used, plain and recorded, also where somebody has
// changed weights between two steps.
#include "train/cuda/training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using Half = bfloat16;
using System = system::System<Half, Cuda>;
using Stage = system::StageOf<Half, Cuda>;

enum class Weights { rounded_at_use, copied };

/// Are the copies that count those of their values?
std::size_t copies_of(System& s) {
  std::size_t count = 0;
  nn::for_each_parameter(s, [&](const std::string& name, Parameter<Half, Cuda>& p) {
    if (!p.rounded.is_of(p.value)) return;
    ++count;
    CAPTURE(name);
    Values want = values(p.value);
    for (double& x : want) x = Half(static_cast<float>(x));
    CHECK((values(p.rounded.tensor()) == want));
  });
  return count;
}

/// Numbers of every step, and the state after them.
std::pair<std::vector<Values>, Values> trained(const char* name, std::size_t stage, Weights kind,
                                               std::size_t most_recordings) {
  const auto s = make<Half, Cuda>(name, "tiny");
  s->begin_stage(stage);
  s->begin_epoch(stage, 0);
  optim::AdamW<float, Cuda> optimizer(*s, {});
  Tape tape;
  Stage view(*s, stage);
  train::ReplayedSteps<Stage, float, Cuda> steps(most_recordings);
  std::vector<Values> numbers;
  const auto touch = [&](auto f) {
    nn::for_each_parameter(*s, [&](const std::string&, Parameter<Half, Cuda>& p) { f(p.value); });
  };
  int step = 0;
  for (std::int32_t number : {1, 2, 3, -1, 4, -2, 5}) {
    if (++step == 5)  // in place, between two runs of a recording
      touch([](const Tensor<float, Cuda>& w) { Cuda::scale(w.size(), 1.5f, w.data(), w.data()); });
    optimizer.begin_step(1e-3);
    if (kind == Weights::rounded_at_use) touch([](const Tensor<float, Cuda>& w) { w.data(); });
    const auto issued = steps.issue(view, batch_for<Half, Cuda>(*s, std::abs(number), number < 0),
                                    optimizer, tape, nn::Mode::training());
    numbers.push_back(numbers_of(issued));
    const std::size_t copies = copies_of(*s);
    CHECK((copies > 10) == (kind == Weights::copied && step > 1));
  }
  CHECK(steps.failure() == "");
  CHECK(steps.recorded() == (most_recordings > 0 ? 2 : 0));
  return {numbers, state_of(*s)};
}

void same_bits(const char* name, std::size_t stage) {
  CAPTURE(name);
  const auto want = trained(name, stage, Weights::rounded_at_use, 0);
  for (std::size_t most : {0, 8}) {
    CAPTURE(most);
    const auto got = trained(name, stage, Weights::copied, most);
    CHECK((got.first == want.first));
    CHECK((got.second == want.second));
  }
}

}  // namespace

TEST_CASE("copies of weights in bf16 change no bit of a training") {
  same_bits("hybridmed", 1);
  same_bits("clip", 0);
}
