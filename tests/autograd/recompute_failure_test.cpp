// Recomputation: what is left behind where memory ends or something throws.
#include <stdexcept>

#include "autograd/gradient_check.hpp"
#include "autograd/recompute.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// Memory that ends at the n-th tensor from now.
struct Scarce : Reference {
  static inline long left = -1;
  static void* allocate(std::size_t bytes) {
    if (left >= 0 && left-- == 0) throw OutOfMemory("core", "allocate", "out of memory: a test");
    return Reference::allocate(bytes);
  }
};

template <class M>
bool has_gradient(M& m) {
  bool any = false;
  nn::for_each_parameter(m,
                         [&](const std::string&, auto& p) { any = any || p.slot.grad.defined(); });
  return any;
}

/// Every tensor of a step fails to be made once: the tape is empty, no parameter keeps a gradient,
/// no memory stays, and the next step has the right bits.
template <class M>
void fails_everywhere(Use use) {
  using B = Scarce;
  M made;
  nn::initialise(made, 1);
  Tape tape;
  M fresh = made;
  const auto want = steps<B>(fresh, use, tape);
  M m = made;
  long failures = 0;
  for (bool done = false; !done; ++failures) {
    m = made;
    const auto in_use = HostArena::instance().statistics().in_use;
    // Through the scope, or caught inside of it.
    const bool inside = failures % 2 == 0;
    using X = typename M::Input;
    Tensor<X, B> x = Tensor<X, B>::full(M::input(), X(0.5f));
    x.data()[0] = X(2.0f);
    try {
      const RecordOn on(tape);
      Scarce::left = failures;
      const auto y = m(Variable<X, B>(x), nn::Mode::training(), use);
      const auto dy = Tensor<X, B>::full(y.shape(), X(1.0f));
      try {
        backward({{y, dy}});
        done = true;
      } catch (const OutOfMemory&) {
        CHECK(tape.size() == 0);
        CHECK_FALSE(has_gradient(m));
        if (!inside) throw;
      }
    } catch (const OutOfMemory&) {
    }
    Scarce::left = -1;
    CHECK(Tape::current() == nullptr);
    CHECK_FALSE(Tape::again());
    CHECK(tape.size() == 0);
    CHECK(has_gradient(m) == done);
    if (!done) {
      x = {};
      CHECK(HostArena::instance().statistics().in_use <= in_use);
      if (failures % 16 == 0) {
        m = made;
        CHECK(steps<B>(m, use, tape) == want);
      }
    }
  }
  CHECK(failures > 50);
}

}  // namespace

TEST_CASE("whatever tensor fails to be made, tape and gradients are left clean") {
  fails_everywhere<Residual<double, Scarce>>(Use::again);
  fails_everywhere<Blocks<double, Scarce>>(Use::nested);
  fails_everywhere<Residual<bfloat16, Scarce>>(Use::nested);
  fails_everywhere<Blocks<bfloat16, Scarce>>(Use::plain);
  fails_everywhere<Blocks<bfloat16, Scarce>>(Use::again);
}

TEST_CASE("an exception of the function, the first time or the second, leaves all clean") {
  using B = CpuBackend;
  nn::Linear<double, B> a(4, 4), b(4, 4);
  nn::initialise(a, 1);
  nn::initialise(b, 2);
  const auto x = random<B>({3, 4}, 1);
  Tape tape;
  int calls = 0, bad = 0;
  const auto loss = [&](bool nested) {
    const auto f = [&](const Var<B>& h) {
      const Var<B> y = a(h);
      if (++calls == bad) throw std::runtime_error("the function throws");
      return a(y);
    };
    const Var<B> y = b(Var<B>(x));
    const Var<B> z = nested ? recompute([&b, f](const Var<B>& h) { return b(recompute(f, h)); }, y)
                            : recompute(f, y);
    return cross_entropy(a(z), indices<B>({0, 1, 2}), 0);
  };
  for (const bool nested : {false, true}) {
    const int last = nested ? 3 : 2;  // calls of f in one step
    for (bad = 1; bad <= last; ++bad)
      for (const bool inside : {false, true}) {
        calls = 0;
        const auto in_use = HostArena::instance().statistics().in_use;
        try {
          const RecordOn on(tape);
          try {
            backward(loss(nested));
          } catch (const std::runtime_error&) {
            if (bad > 1) {  // in the backward pass
              CHECK(tape.size() == 0);
              CHECK_FALSE(a.weight.slot.grad.defined());
              CHECK_FALSE(b.weight.slot.grad.defined());
            }
            CHECK(Tape::current() == &tape);
            if (!inside) throw;
            tape.clear();
          }
        } catch (const std::runtime_error&) {
          CHECK_FALSE(inside);
        }
        CHECK(calls == bad);
        CHECK(tape.size() == 0);
        CHECK_FALSE(Tape::again());
        CHECK(Tape::current() == nullptr);
        CHECK_FALSE(a.weight.slot.grad.defined());
        CHECK_FALSE(b.weight.slot.grad.defined());
        // The tape may have taken a chunk, and a nested tape, which it keeps.
        CHECK(HostArena::instance().statistics().in_use <= in_use + 3 * (1 << 16) + 4096);
      }
    calls = bad = 0;
    {
      const RecordOn on(tape);
      backward(loss(nested));
    }
    CHECK(calls == last);
    const auto first = a.weight.slot.grad.to_host();
    a.weight.slot.grad = b.weight.slot.grad = a.bias.slot.grad = b.bias.slot.grad = {};
    {
      const RecordOn on(tape);
      backward(loss(nested));
    }
    CHECK(a.weight.slot.grad.to_host() == first);
    a.weight.slot.grad = b.weight.slot.grad = a.bias.slot.grad = b.bias.slot.grad = {};
  }

  // A node outside that throws after the recomputed part has run takes its gradients back too.
  {
    const RecordOn on(tape);
    Slot<B> s;
    const Var<B> in(x, &s);
    const Var<B> fragile = recorded(X<B>(x), [](const X<B>&) { throw std::runtime_error("late"); });
    const Var<B> y = recompute([&](const Var<B>& h) { return a(h); }, add(in, fragile));
    const auto dy = X<B>::full({3, 4}, 1);
    CHECK_THROWS_AS(backward({{y, dy}}), std::runtime_error);
    CHECK(tape.size() == 0);
    CHECK_FALSE(a.weight.slot.grad.defined());
    CHECK_FALSE(a.bias.slot.grad.defined());
  }
}
