// No host inside the step: between the arrival of a batch and the end of the update nothing is
// copied to the backend or from it, for every system and image encoder. Counted by a backend.
#include <doctest/doctest.h>

#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/step.hpp"
#include "small_step.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

struct Counted : Reference {
  static inline int up = 0, down = 0;

  static void copy_from_host(const void* from, void* to, std::size_t bytes) {
    ++up;
    Reference::copy_from_host(from, to, bytes);
  }
  static void copy_to_host(const void* from, void* to, std::size_t bytes) {
    ++down;
    Reference::copy_to_host(from, to, bytes);
  }
};
using B = Counted;

struct OneWeight {
  Parameter<double, Reference> w{{1, 1}, init::constant(2)};
  template <class F>
  void visit(F&& f) {
    f("w", w);
  }
};

/// Three samples whose pictures are made in the backend.
template <class T>
model::Batch<T, B> batch_for(const system::System<T, B>& s, Index side) {
  Tensor<T, B> image({3, 3, side, side});
  B::fill_normal(image.size(), Philox(3), 0.5, image.data());
  return {image, three_texts(s)};
}

}  // namespace

TEST_CASE_TEMPLATE("a batch's indices reach the backend in one copy", T, double, bfloat16) {
  const auto s = system::make_system<T, B>("hybridmed", small("tiny"));
  Counted::up = 0;
  batch_for(*s, 32);
  CHECK(Counted::up == 1);
}

TEST_CASE_TEMPLATE(
    "a step copies nothing, whatever the system and the encoder; its numbers are read later", T,
    double, bfloat16) {
  for (const char* preset : {"tiny", "tiny-swin", "tiny-resnet"})
    for (const char* name : {"hybridmed", "clip", "siglip", "convirt", "gloria", "mgca", "coca"}) {
      CAPTURE(preset);
      CAPTURE(name);
      const auto config = small(preset);
      const auto s = system::make_system<T, B>(name, config);
      nn::initialise(*s, 1);
      for (std::size_t k = 0; k < s->stages().size(); ++k) {
        s->begin_stage(k);
        s->begin_epoch(k, 1);
        const auto batch = batch_for(*s, config.image_size);
        optim::AdamW<master_of<T>, B> optimizer(*s, {});
        Tape tape;
        system::StageOf<T, B> view(*s, k);
        const auto step = [&] {
          Counted::up = Counted::down = 0;
          optimizer.begin_step(1e-3);
          CHECK(Counted::up == 1);  // rate, bias corrections and sums, with the batch
          Counted::up = 0;
          const auto issued = train::issue_step(view, batch, optimizer, tape, nn::Mode::training());
          CHECK(Counted::up == 0);
          CHECK(Counted::down == 0);
          return issued;
        };
        const auto first = step(), second = step();
        const auto a = first.read(), b = second.read();
        CHECK(Counted::down > 0);
        CHECK((a.finite && b.finite));
        CHECK(a.total != b.total);
      }
    }
}

TEST_CASE_TEMPLATE("a step whose loss is no number changes nothing, and says so when it is read", T,
                   double, bfloat16) {
  const auto s = system::make_system<T, B>("clip", small("tiny-resnet"));
  nn::initialise(*s, 1);
  s->begin_stage(0);
  auto batch = batch_for(*s, 32);
  optim::AdamW<master_of<T>, B> optimizer(*s, {});
  Tape tape;
  system::StageOf<T, B> view(*s, 0);
  std::map<std::string, std::vector<master_of<T>>> before;
  nn::for_each_parameter(*s, [&](const std::string& n, auto& p) { before[n] = p.value.to_host(); });
  batch.image.data()[5] = T(std::numeric_limits<float>::quiet_NaN());
  optimizer.begin_step(1e-3);
  const auto bad = train::issue_step(view, batch, optimizer, tape, nn::Mode::inspection());
  CHECK_FALSE(bad.read().finite);
  nn::for_each_parameter(*s, [&](const std::string& n, auto& p) {
    CAPTURE(n);
    CHECK(before[n] == p.value.to_host());
    CHECK_FALSE(p.slot.grad.defined());
  });
  batch.image.data()[5] = T(0.5f);
  const auto good = train::train_step(view, batch, optimizer, 1e-3, tape, nn::Mode::training());
  CHECK(good.finite);
}

TEST_CASE("a loss that overflows while its gradient does not stops the update too") {
  using T = double;
  using R = Reference;
  OneWeight m;
  optim::AdamW<T, R> optimizer(m, {});
  m.w.slot.grad = Tensor<T, R>::full({1, 1}, 1);
  optimizer.begin_step(0.1);
  optimizer.update(Tensor<T, R>::full(Shape{}, std::numeric_limits<T>::infinity()));
  CHECK_FALSE(std::isfinite(optimizer.norm().read()));
  CHECK(m.w.value.item() == 2);
}
