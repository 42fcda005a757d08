// The copies of weights in bf16 that an update keeps: never older than the value, whoever changes
// that and however, and of the bits that rounding at each use gives.
#include <doctest/doctest.h>

#include "../support.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/optim/adamw.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using Half = bfloat16;

/// A backend in host memory with the optional update of all parameters, which writes the copies.
struct Listed : CpuBackend {
  template <class M>
  struct AdamWList {
    std::vector<AdamWTensor<M>> tensors;
    void assign(std::span<const AdamWTensor<M>> all) { tensors.assign(all.begin(), all.end()); }
  };
  using CpuBackend::adamw;
  template <class M>
  static void gradient_norm(const AdamWList<M>& list, const M* loss, StepState* state) {
    for (const auto& t : list.tensors)
      if (t.gradient) squared_norm(t.n, t.gradient, &state->squared_norm);
    if (loss && !std::isfinite(*loss)) state->squared_norm = std::nan("");
  }
  template <class M>
  static void adamw(const AdamWList<M>& list, AdamWArgs a) {
    if (!std::isfinite(a.step->norm())) return;
    for (const auto& t : list.tensors) {
      a.decay = t.decay;
      adamw(t.n, a, t.gradient, t.m, t.v, t.value);
      if (t.rounded) CpuBackend::convert(t.n, t.value, t.rounded);
    }
  }
};
static_assert(BackendAdamWList<Listed, float> && !BackendAdamWList<CpuBackend, float>);

/// A layer in bf16.
template <class B>
struct Layer {
  Parameter<Half, B> weight{{3, 5}, init::zeros()}, bias{{3}, init::zeros()};
  explicit Layer(std::uint64_t seed = 1) {
    weight.value = tensor<float, B>(normal(15, seed), {3, 5});
    bias.value = tensor<float, B>(normal(3, seed + 1), {3});
  }
  template <class F>
  void visit(F&& f) {
    f("weight", weight);
    f("bias", bias);
  }
};

template <class B>
using V16 = Variable<Half, B>;

/// One forward and backward pass. Gives the output.
template <class B>
Values pass(Layer<B>& layer, std::uint64_t seed) {
  Tape tape;
  const RecordOn on(tape);
  const V16<B> x(tensor<Half, B>(normal(10, seed), {2, 5}));
  const auto b = use<Variable<float, B>>(layer.bias);
  const auto y = linear_as<Variable<float, B>>(x, use<V16<B>>(layer.weight), &b);
  backward({{y, y.tensor}});
  return values(y.tensor);
}
template <class B>
void step(Layer<B>& layer, optim::AdamW<float, B>& optimizer, std::uint64_t seed) {
  pass(layer, seed);
  optimizer.step(1e-2);
}

/// What products read of the weight, and whether that is a copy that was kept.
struct Read {
  Values numbers;
  bool kept;
};
Read read(const Parameter<Half, Listed>& p) {
  const Tensor<Half, Listed> used = use<Tensor<Half, Listed>>(p);
  return {values(used), p.rounded.tensor().defined() && used.read() == p.rounded.tensor().read()};
}
/// The weight rounded now, from a copy of it that nobody knows.
Values rounded(const Parameter<Half, Listed>& p) {
  Values v = values(p.value);
  for (double& x : v) x = Half(static_cast<float>(x));
  return v;
}

/// A layer after two steps, whose weight has a copy that counts.
struct Trained {
  Layer<Listed> layer;
  optim::AdamW<float, Listed> optimizer{layer, {}};
  Trained() {
    step(layer, optimizer, 10);
    step(layer, optimizer, 11);
    REQUIRE(read(layer.weight).kept);
    REQUIRE(read(layer.weight).numbers == rounded(layer.weight));
  }
  /// Are the numbers that products read those of the value, now and after the steps to come?
  void check() {
    const auto up_to_date = [&] { CHECK(read(layer.weight).numbers == rounded(layer.weight)); };
    up_to_date();
    optimizer.begin_step(1e-2);
    up_to_date();
    pass(layer, 12);
    optimizer.update();
    up_to_date();
    step(layer, optimizer, 13);
    up_to_date();
    CHECK(read(layer.weight).kept);
  }
};

}  // namespace

TEST_CASE("a weight's copy is made when a product has rounded it, and written by each update") {
  Layer<Listed> layer;
  optim::AdamW<float, Listed> optimizer(layer, {});
  CHECK_FALSE(read(layer.weight).kept);
  step(layer, optimizer, 1);
  for (std::uint64_t seed = 2; seed < 5; ++seed) {
    step(layer, optimizer, seed);
    const Half* before = layer.weight.rounded.tensor().read();
    CHECK(read(layer.weight).kept);
    CHECK(read(layer.weight).numbers == rounded(layer.weight));
    optimizer.begin_step(1e-2);  // has nothing to do
    CHECK(layer.weight.rounded.tensor().read() == before);
  }
  CHECK_FALSE(layer.bias.rounded.tensor().defined());  // added, not multiplied
  CHECK(optimizer.copies_moved() == 1);
}

TEST_CASE("steps with copies have the bits of steps that round at each use") {
  const auto run = []<class B>(B) {
    Layer<B> layer;
    optim::AdamW<float, B> optimizer(layer, {});
    Values all;
    for (std::uint64_t seed = 1; seed < 6; ++seed) {
      for (double y : pass(layer, seed)) all.push_back(y);
      optimizer.step(1e-2);
      for (double w : values(layer.weight.value)) all.push_back(w);
    }
    return all;
  };
  CHECK(run(Listed{}) == run(CpuBackend{}));
}

TEST_CASE("no copy is older than its weight, however that is changed") {
  const auto other = tensor<float, Listed>(normal(15, 99), {3, 5});
  SUBCASE("new memory") {
    Trained t;
    t.layer.weight.value = other.clone();
    t.check();
  }
  SUBCASE("in place") {
    Trained t;
    Listed::scale(15, 3.0f, t.layer.weight.value.data(), t.layer.weight.value.data());
    t.check();
  }
  SUBCASE("in place, by the host") {
    Trained t;
    t.layer.weight.value.data()[4] = 7;
    t.check();
  }
  SUBCASE("through a tensor that shares the memory") {
    Trained t;
    const Tensor<float, Listed> alias = t.layer.weight.value;
    REQUIRE(read(t.layer.weight).kept);
    alias.data()[2] = 7;
    t.check();
    alias.data()[3] = -7;
    t.check();
  }
  SUBCASE("through a view") {
    Trained t;
    t.layer.weight.value.row_slice(1, 2).view({5}).data()[0] = 7;
    t.check();
  }
  SUBCASE("memory put aside and put back, as an average of weights does") {
    Trained t;
    const Tensor<float, Listed> aside = t.layer.weight.value;
    t.layer.weight.value = other.clone();
    CHECK(read(t.layer.weight).numbers == rounded(t.layer.weight));
    t.optimizer.begin_step(1e-2);  // the copy is that of the other memory now
    CHECK(read(t.layer.weight).numbers == rounded(t.layer.weight));
    t.layer.weight.value = aside;
    t.check();
  }
  SUBCASE("two parameters in one memory") {
    Trained a, b;
    b.layer.weight.value = a.layer.weight.value;
    b.check();
    a.check();
    CHECK(read(b.layer.weight).numbers == rounded(b.layer.weight));
  }
  SUBCASE("another optimizer") {
    Trained t;
    optim::AdamW<float, Listed> second(t.layer, {});
    step(t.layer, second, 20);
    t.check();
  }
  SUBCASE("an update of another kind") {
    Trained t;
    const StepState now{0.1, 0.1, 0.1, 1, -1};
    const auto zeros = Tensor<float, Listed>::zeros({3, 5});
    Listed::adamw(15, AdamWArgs{.step = &now}, other.data(), zeros.clone().data(),
                  zeros.clone().data(), t.layer.weight.value.data());
    t.check();
  }
  SUBCASE("frozen, changed, trained again") {
    Trained t;
    t.layer.weight.trainable = false;
    step(t.layer, t.optimizer, 20);
    CHECK(read(t.layer.weight).numbers == rounded(t.layer.weight));
    t.layer.weight.value.data()[0] = 5;
    step(t.layer, t.optimizer, 21);
    CHECK(read(t.layer.weight).numbers == rounded(t.layer.weight));
    t.layer.weight.trainable = true;
    t.check();
  }
  SUBCASE("frozen before the optimizer was made") {
    Trained t;
    t.layer.weight.trainable = false;
    optim::AdamW<float, Listed> second(t.layer, {});
    t.layer.weight.value.data()[0] = 5;
    second.begin_step(1e-2);
    CHECK(read(t.layer.weight).kept);
    CHECK(read(t.layer.weight).numbers == rounded(t.layer.weight));
  }
  SUBCASE("a norm that is not finite, after a change within the step") {
    Trained t;
    t.optimizer.begin_step(1e-2);
    pass(t.layer, 20);
    t.layer.weight.value.data()[0] = 5;
    t.optimizer.update(Tensor<float, Listed>::full(Shape{}, std::nanf("")));
    t.optimizer.take_back();
    t.check();
  }
  SUBCASE("weights that are drawn again, and a model that is moved or copied") {
    Trained t;
    nn::initialise(t.layer, 5);
    t.check();
    Layer<Listed> copy = t.layer;
    CHECK_FALSE(read(copy.weight).kept);
    copy.weight.value.data()[0] = 9;
    CHECK(read(copy.weight).numbers == rounded(copy.weight));
    t.check();
    Layer<Listed> moved = std::move(copy);
    CHECK(read(moved.weight).numbers == rounded(moved.weight));
    t.layer = moved;
    t.check();
  }
}

TEST_CASE("a copy is made anew while a tape still reads the old one") {
  Trained t;
  const Tensor<Half, Listed> held = use<Tensor<Half, Listed>>(t.layer.weight);
  const Values before = values(held);
  t.layer.weight.value.data()[0] = 5;
  t.optimizer.begin_step(1e-2);
  CHECK(values(held) == before);
  CHECK(read(t.layer.weight).numbers == rounded(t.layer.weight));
  CHECK(t.optimizer.copies_moved() == 2);
}

TEST_CASE("a seal is broken by whoever asks for the memory") {
  const auto x = Tensor<float, CpuBackend>::full({2, 2}, 1);
  const std::uint64_t first = x.seal();
  CHECK(x.sealed(first));
  CHECK(x.to_host() == std::vector<float>{1, 1, 1, 1});
  CHECK(x.read()[0] == 1);
  const auto y = x.clone();
  CHECK(x.sealed(first));
  CHECK_FALSE(y.sealed(first));
  const std::uint64_t second = x.seal();
  CHECK(second != first);
  CHECK_FALSE(x.sealed(first));
  const auto part = x.row_slice(1, 2);
  CHECK(x.sealed(second));
  part.data();
  CHECK_FALSE(x.sealed(second));
  CHECK_FALSE((Tensor<float, CpuBackend>().sealed(0)));
}
