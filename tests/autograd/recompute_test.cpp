// Recomputation: the bits of the plain pass, gradients by finite differences, state that moves
// once, memory, threads, and what is left behind where something throws.
#include "hybridmed/autograd/recompute.hpp"

#include <thread>

#include "autograd/gradient_check.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/model/resnet.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/nn/transformer.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

template <class T_, class B_>
struct On {
  using T = T_;
  using B = B_;
};
#define SCALARS_AND_BACKENDS \
  On<double, Reference>, On<float, Reference>, On<double, CpuBackend>, On<float, CpuBackend>

/// How a model calls its parts.
enum class Use { plain, again, nested };

template <class F, Value V>
V through(Use use, F f, const V& x) {
  if (use == Use::plain) return f(x);
  if (use == Use::again) return recompute(f, x);
  return recompute([f](const V& h) { return recompute(f, h); }, x);
}

/// Three transformer blocks with dropout; the last has post-norm.
template <class T, class B>
struct Blocks {
  using Pre = nn::TransformerBlock<T, B>;
  using Post = nn::TransformerBlock<T, B, nn::SelfAttention<T, B>, nn::FeedForward<T, B>,
                                    nn::LayerNorm<T, B>, nn::PostNorm>;
  Pre one, two;
  Post three;
  EqualSegments<B> sequence{6};

  Blocks()
      : one(8, 16, 1e-5, nn::SelfAttention<T, B>(8, 2)),
        two(8, 16, 1e-5, nn::SelfAttention<T, B>(8, 2)),
        three(8, 16, 1e-5, nn::SelfAttention<T, B>(8, 2)) {
    one.dropout.probability = two.dropout.probability = three.dropout.probability = 0.3;
  }
  static Shape input() { return {12, 8}; }
  template <class F>
  void visit(F&& f) {
    f("one", one);
    f("two", two);
    f("three", three);
  }
  template <Value V>
  V operator()(const V& x, const nn::Mode& mode, Use use) const {
    const Segments<B> segments = sequence.times(2);
    const auto call = [&](const auto& block, std::uint64_t site) {
      return [&block, mode, site, segments](const V& h) {
        return block.train(h, mode, site, segments, true);
      };
    };
    return through(use, call(three, 2), through(use, call(two, 1), through(use, call(one, 0), x)));
  }
};

/// Two residual blocks of a ResNet, the second with a projection.
template <class T, class B>
struct Residual {
  model::ResidualBlock<T, B> one{4, 4, 4, 1, false}, two{4, 4, 8, 2, true};

  static Shape input() { return {2 * 6 * 6, 4}; }
  template <class F>
  void visit(F&& f) {
    f("one", one);
    f("two", two);
  }
  template <Value V>
  V operator()(const V& x, const nn::Mode& mode, Use use) const {
    const auto call = [&](const auto& block) {
      return [&block, mode](const V& h) {
        Index side = 6;
        return block(h, 2, side, mode);
      };
    };
    return through(use, call(two), through(use, call(one), x));
  }
};

template <class T, class B>
using Numbers = std::vector<std::vector<T>>;

/// Output, gradients of the input and of every parameter, and state, after two steps.
template <class T, class B, class M>
Numbers<T, B> steps(M& m, Use use, Tape& tape, bool input_wanted = true) {
  Numbers<T, B> all;
  Tensor<T, B> x(M::input());
  B::fill_normal(x.size(), Philox(3), 1, x.data());
  for (std::uint64_t step = 0; step < 2; ++step) {
    GradientSlot<T, B> dx;
    const RecordOn on(tape);
    const Variable<T, B> in(x, input_wanted ? &dx : nullptr);
    const Variable<T, B> y = m(in, nn::Mode::training(Philox(7, step)), use);
    Tensor<T, B> dy(y.shape());
    B::fill_normal(dy.size(), Philox(5), 1, dy.data());
    all.push_back(y.tensor.to_host());
    backward({{y, dy}});
    CHECK(tape.size() == 0);
    CHECK(dx.grad.defined() == input_wanted);
    if (input_wanted) all.push_back(dx.grad.to_host());
  }
  nn::for_each_state(
      m,
      [&](const std::string&, Parameter<T, B>& p) {
        all.push_back(p.slot.grad.defined() ? p.slot.grad.to_host() : std::vector<T>());
        p.slot.grad = {};
      },
      [&](const std::string&, Buffer<T, B>& b) { all.push_back(b.value.to_host()); });
  return all;
}

template <class T, class B, class M>
void same_bits() {
  M made;
  nn::initialise(made, 1);
  for (const bool wanted : {true, false}) {
    M plain = made;
    Tape tape;
    const auto want = steps<T, B>(plain, Use::plain, tape, wanted);
    for (const Use use : {Use::again, Use::nested}) {
      M m = made;
      CHECK(steps<T, B>(m, use, tape, wanted) == want);
    }
  }
  // Some parameters frozen: none of theirs, the bits of the others.
  int n = 0;
  nn::for_each_parameter(made, [&](const std::string&, auto& p) { p.trainable = n++ % 3 == 0; });
  M plain = made, m = made;
  Tape tape;
  CHECK(steps<T, B>(m, Use::again, tape) == steps<T, B>(plain, Use::plain, tape));
  nn::for_each_parameter(m, [&](const std::string&, auto& p) { p.trainable = false; });
  nn::for_each_parameter(plain, [&](const std::string&, auto& p) { p.trainable = false; });
  CHECK(steps<T, B>(m, Use::nested, tape) == steps<T, B>(plain, Use::plain, tape));
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
  same_bits<T, B, Blocks<T, B>>();
  same_bits<T, B, Residual<T, B>>();
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
  const auto want = steps<double, B>(fresh, use, tape);
  M m = made;
  long failures = 0;
  for (bool done = false; !done; ++failures) {
    m = made;
    const auto in_use = HostArena::instance().statistics().in_use;
    // Through the scope, or caught inside of it.
    const bool inside = failures % 2 == 0;
    Tensor<double, B> x = Tensor<double, B>::full(M::input(), 0.5);
    x.data()[0] = 2;
    try {
      const RecordOn on(tape);
      Scarce::left = failures;
      const auto y = m(Variable<double, B>(x), nn::Mode::training(), use);
      const auto dy = Tensor<double, B>::full(y.shape(), 1);
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
        CHECK(steps<double, B>(m, use, tape) == want);
      }
    }
  }
  CHECK(failures > 50);
}

}  // namespace

TEST_CASE("whatever tensor fails to be made, tape and gradients are left clean") {
  fails_everywhere<Residual<double, Scarce>>(Use::again);
  fails_everywhere<Blocks<double, Scarce>>(Use::nested);
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
