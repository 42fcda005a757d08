// Recomputation: the bits of the plain pass, gradients by finite differences, state that moves
// once, misuse.
#include "autograd/recompute.hpp"

#include <array>
#include <functional>
#include <tuple>
#include <utility>

#include "autograd/gradient_check.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/rows.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

template <class T_, class B_>
struct On {
  using T = T_;
  using B = B_;
};
#define SCALARS_AND_BACKENDS                                                                    \
  On<double, Reference>, On<float, Reference>, On<bfloat16, Reference>, On<double, CpuBackend>, \
      On<float, CpuBackend>, On<bfloat16, CpuBackend>

template <class B, class M>
void same_bits() {
  M made;
  nn::initialise(made, 1);
  for (const bool wanted : {true, false}) {
    M plain = made;
    Tape tape;
    const auto want = steps<B>(plain, Use::plain, tape, wanted);
    for (const Use use : {Use::again, Use::nested}) {
      M m = made;
      CHECK(steps<B>(m, use, tape, wanted) == want);
    }
  }
  // Some parameters frozen: none of theirs, the bits of the others.
  int n = 0;
  nn::for_each_parameter(made, [&](const std::string&, auto& p) { p.trainable = n++ % 3 == 0; });
  M plain = made, m = made;
  Tape tape;
  CHECK(steps<B>(m, Use::again, tape) == steps<B>(plain, Use::plain, tape));
  nn::for_each_parameter(m, [&](const std::string&, auto& p) { p.trainable = false; });
  nn::for_each_parameter(plain, [&](const std::string&, auto& p) { p.trainable = false; });
  CHECK(steps<B>(m, Use::nested, tape) == steps<B>(plain, Use::plain, tape));
}

}  // namespace

TEST_CASE_TEMPLATE("gradients through recompute by finite differences", B, BACKENDS) {
  const auto x0 = random<B>({5, 4}, 1), w = random<B>({4, 4}, 2), v = random<B>({4, 4}, 3);
  check<B>("one input", {x0}, [](const auto& x) {
    return recompute([](const auto& h) { return activate(scale(h, 2), Activation::gelu); }, x[0]);
  });
  check<B>("two inputs, each used twice", {x0, w}, [](const auto& x) {
    const auto y = recompute(
        [](const auto& h, const auto& m) {
          return add(h, linear(activate(linear(h, m), Activation::gelu), m));
        },
        x[0], x[1]);
    return add(y, linear(x[0], x[1]));
  });
  check<B>("a captured variable", {x0, w}, [](const auto& x) {
    const auto m = scale(x[1], 2);
    return recompute([m](const auto& h) { return linear(h, m); }, x[0]);
  });
  check<B>("two outputs, one used twice", {x0, w, v}, [](const auto& x) {
    const auto [a, b] = recompute(
        [](const auto& h, const auto& m, const auto& n) {
          const auto y = linear(h, m);
          return std::pair(y, linear(y, n));
        },
        x[0], x[1], x[2]);
    return add(a, multiply(a, b));
  });
  check<B>("two outputs, one of them used", {x0, w}, [](const auto& x) {
    const auto both = recompute(
        [](const auto& h, const auto& m) {
          return std::array{activate(h, Activation::gelu), linear(h, m)};
        },
        x[0], x[1]);
    return both[1];
  });
  check<B>("one in the other", {x0, w}, [](const auto& x) {
    return recompute(
        [](const auto& h, const auto& m) {
          const auto y =
              recompute([m](const auto& g) { return activate(linear(g, m), Activation::gelu); }, h);
          return add(y, recompute([](const auto& g) { return multiply(g, g); }, y));
        },
        x[0], x[1]);
  });
}

TEST_CASE_TEMPLATE("blocks under recompute have the bits of the plain pass", X,
                   SCALARS_AND_BACKENDS) {
  using T = typename X::T;
  using B = typename X::B;
  same_bits<B, Blocks<T, B>>();
  same_bits<B, Residual<T, B>>();
}

TEST_CASE_TEMPLATE("what is trained decides what is recorded", B, BACKENDS) {
  Tape tape;
  const RecordOn on(tape);
  Slot<B> s;
  const Var<B> x(random<B>({3, 4}, 1), &s), constant(random<B>({3, 4}, 2));
  nn::Linear<double, B> layer(4, 4);
  int calls = 0;
  const auto f = [&](const Var<B>& h) {
    ++calls;
    return layer(h);
  };
  layer.weight.trainable = layer.bias.trainable = false;
  CHECK(recompute(f, constant).slot == nullptr);
  CHECK(tape.size() == 0);
  CHECK(recompute(f, x).slot != nullptr);
  CHECK(tape.size() == 1);
  tape.clear();
  layer.bias.trainable = true;
  const auto y = recompute(f, constant);
  CHECK(tape.size() == 1);
  backward({{y, X<B>::full({3, 4}, 1)}});
  CHECK(layer.bias.slot.grad.to_host() == std::vector<double>(4, 3.0));
  CHECK_FALSE(layer.weight.slot.grad.defined());
  layer.bias.slot.grad = {};
  CHECK(calls == 4);

  // Without a tape, on plain tensors, and where what comes out went in: f, and nothing else.
  {
    const NoGrad off;
    CHECK(recompute(f, x).slot == nullptr);
  }
  CHECK(recompute([&](const X<B>& h) { return layer(h); }, x.tensor).to_host() ==
        layer(x.tensor).to_host());
  CHECK(recompute([](const Var<B>& h) { return h; }, x).slot == x.slot);
  CHECK(tape.size() == 0);
  const auto [same, fixed, made] =
      recompute([&](const Var<B>& h) { return std::tuple(h, constant, scale(h, 2)); }, x);
  CHECK(same.slot == &s);
  CHECK(fixed.slot == nullptr);
  CHECK(tape.size() == 1);
  backward({{same, X<B>::full({3, 4}, 1)}, {made, X<B>::full({3, 4}, 3)}});
  CHECK(s.grad.to_host() == std::vector<double>(12, 7.0));
  s.grad = {};

  // A module is handed on by reference: its gradients are its own.
  backward({{recompute(std::cref(layer), x), X<B>::full({3, 4}, 1)}});
  CHECK(layer.bias.slot.grad.to_host() == std::vector<double>(4, 3.0));
}

TEST_CASE("state moves once, dropout draws the same numbers") {
  using B = CpuBackend;
  nn::BatchNorm<double, B> once(4), twice(4);
  const auto x = random<B>({6, 4}, 1, 2, 3);
  int calls = 0;
  Tape tape;
  Slot<B> s;
  const RecordOn on(tape);
  once(x, nn::Mode::training());
  const auto y = recompute(
      [&](const Var<B>& h) {
        ++calls;
        CHECK(Tape::again() == (calls == 2));
        const NoGrad off;  // what no gradient passes through does not move a second time either
        return add(h, twice(detach(h), nn::Mode::training()));
      },
      Var<B>(x, &s));
  CHECK(twice.running_mean.value.to_host() == once.running_mean.value.to_host());
  // Nothing in f is recorded, so that f is not kept.
  CHECK(tape.size() == 0);
  CHECK(y.slot == nullptr);
  const auto z =
      recompute([&](const Var<B>& h) { return twice(h, nn::Mode::training()); }, Var<B>(x, &s));
  once(x, nn::Mode::training());
  backward({{z, X<B>::full({6, 4}, 1)}});
  CHECK(twice.running_mean.value.to_host() == once.running_mean.value.to_host());
  CHECK(twice.running_var.value.to_host() == once.running_var.value.to_host());
  CHECK_FALSE(Tape::again());
  twice(x, nn::Mode::training());
  CHECK(twice.running_var.value.to_host() != once.running_var.value.to_host());
}

TEST_CASE("misuse of recompute is an error with a sentence") {
  using B = Reference;
  Tape tape;
  const RecordOn on(tape);
  Slot<B> s;
  const Var<B> x(random<B>({3, 4}, 1), &s);
  const auto id = [](const Var<B>& h) { return scale(h, 1); };
  CHECK(from(error_of([&] { recompute(id, Var<B>()); }), "recompute"));
  CHECK(holds(error_of([&] {
                recompute(
                    [](const Var<B>& h) {
                      const auto y = scale(h, 2);
                      backward({{y, X<B>::full({3, 4}, 1)}});
                      return y;
                    },
                    x);
              }),
              "runs no backward pass"));
  CHECK_FALSE(s.grad.defined());
  CHECK(tape.size() == 0);

  int calls = 0;  // another result each time
  const auto shrinking =
      recompute([&](const Var<B>& h) { return slice_rows(scale(h, 2), 0, 3 - calls++); }, x);
  const auto fading = [&](const Var<B>& h) {
    return calls++ == 0 ? scale(h, 2) : Var<B>(h.tensor);
  };
  const auto dy = X<B>::full({3, 4}, 1);
  CHECK(holds(error_of([&] {
                backward({{shrinking, dy}});
              }),
              "another output when it ran again: (2, 4) for (3, 4)"));
  CHECK(tape.size() == 0);
  calls = 0;
  const auto gone = recompute(fading, x);
  CHECK(holds(error_of([&] { backward({{gone, dy}}); }), "a constant"));

  // What leaves f beside its outputs belongs to no tape, whichever run it is from.
  Var<B> leaked;
  const auto y = recompute(
      [&](const Var<B>& h) {
        leaked = scale(h, 2);
        return scale(leaked, 2);
      },
      x);
  CHECK(holds(error_of([&] { backward({{leaked, dy}}); }), "under recompute"));
  backward({{y, dy}});
  CHECK(s.grad.to_host() == std::vector<double>(12, 4.0));
  CHECK(holds(error_of([&] { backward({{leaked, dy}}); }), "does not hold"));
}
