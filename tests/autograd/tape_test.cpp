// The rules of recording: what is recorded, what is not, how contributions add up, what is refused.
#include "autograd/gradient_check.hpp"
#include "hybridmed/autograd/attention.hpp"
#include "hybridmed/autograd/convolution.hpp"
#include "hybridmed/autograd/feed_forward.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/norm.hpp"
#include "hybridmed/autograd/rows.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// (x y, x + y) as one operation; `runs` counts its backward passes, `arrived` says which outputs
/// had a gradient: 1, 2, or both.
struct Both {
  int runs = 0, arrived = 0;
  template <class V>
  std::pair<V, V> operator()(const V& x, const V& y) {
    using B = backend_of<V>;
    tensor_of<V> product(value(x).shape()), sum(value(x).shape());
    B::multiply(product.size(), value(x).data(), value(y).data(), product.data());
    B::add(sum.size(), value(x).data(), value(y).data(), sum.data());
    if constexpr (is_recorded<V>)
      if (recording(x, y)) {
        const auto back = [this, x, y](tensor_of<V> dp, tensor_of<V> ds) {
          ++runs;
          arrived = (dp.defined() ? 1 : 0) + (ds.defined() ? 2 : 0);
          const auto send = [&](const V& to, const V& other) {
            if (!to.slot) return;
            if (ds.defined()) to.slot->add(ds);
            if (!dp.defined()) return;
            tensor_of<V> d(dp.shape());
            B::multiply(d.size(), dp.data(), other.tensor.data(), d.data());
            to.slot->add(std::move(d));
          };
          send(x, y);
          send(y, x);
        };
        auto [p, q] = recorded_many(std::tuple(std::move(product), std::move(sum)), back);
        return {std::move(p), std::move(q)};
      }
    return {V(std::move(product)), V(std::move(sum))};
  }
};

}  // namespace

TEST_CASE_TEMPLATE("an operation with several outputs", B, BACKENDS) {
  const auto x0 = random<B>({3, 4}, 1), y0 = random<B>({3, 4}, 2);
  Both both;
  check<B>("both outputs", {x0, y0}, [&](const auto& x) {
    const auto [p, s] = both(x[0], x[1]);
    return multiply(add(p, s), s);
  });
  CHECK(both.arrived == 3);
  check<B>("the first alone", {x0, y0}, [&](const auto& x) { return both(x[0], x[1]).first; });
  CHECK(both.arrived == 1);
  check<B>("the second alone", {x0, y0},
           [&](const auto& x) { return scale(both(x[0], x[1]).second, 2); });
  CHECK(both.arrived == 2);

  Tape tape;
  const RecordOn on(tape);
  Slot<B> sx;
  const Var<B> x(x0, &sx);
  const int before = both.runs;
  const auto unused = both(x, Var<B>(y0));
  CHECK(tape.size() == 1);
  backward({{scale(x, 2), y0}});
  CHECK(both.runs == before);
  CHECK(!tape.holds(unused.first.recording));
  CHECK(!tape.holds(unused.second.recording));

  // Outputs of two scalars on one node.
  const auto [wide, narrow] =
      recorded_many(std::tuple(X<B>::full({2}, 1), Tensor<float, B>::full({3}, 1)),
                    [s = &sx](X<B> dw, Tensor<float, B> dn) {
                      CHECK(dw.to_host() == std::vector<double>{3, 3});
                      CHECK(dn.to_host() == std::vector<float>{4, 4, 4});
                      s->grad = {};
                    });
  backward({{wide, X<B>::full({2}, 3)}, {narrow, Tensor<float, B>::full({3}, 4)}});
  CHECK_FALSE(sx.grad.defined());

  // A node that throws, with what both of its outputs hold.
  const auto in_use = HostArena::instance().statistics().in_use;
  {
    const auto [p, q] = recorded_many(std::tuple(x0.clone(), y0.clone()),
                                      [](X<B>, X<B>) { throw std::runtime_error("no memory"); });
    const auto sum = add(p, q);
    CHECK_THROWS_AS(backward({{sum, x0}}), std::runtime_error);
  }
  CHECK(tape.size() == 0);
  CHECK(HostArena::instance().statistics().in_use == in_use);
}

TEST_CASE_TEMPLATE("several roots begin with gradients of their own", B, BACKENDS) {
  Tape tape;
  const RecordOn on(tape);
  const auto x0 = random<B>({3, 4}, 1), w0 = random<B>({5, 4}, 2), ga = random<B>({3, 5}, 3),
             gb = random<B>({3, 4}, 4);
  Slot<B> sx, sw;
  const Var<B> x(x0, &sx), w(w0, &sw);
  const auto a = [&](const auto& u, const auto& v) { return linear(u, v); };
  const auto b = [&](const auto& u) { return activate(u, Activation::gelu); };
  const auto numbers = ga.to_host();

  // The gradient of <ga, a> + <gb, b> by differences.
  const auto inner = [](const X<B>& u, const X<B>& v) {
    double s = 0;
    for (Index i = 0; i < u.size(); ++i) s += u.data()[i] * v.data()[i];
    return s;
  };
  backward({{a(x, w), ga}, {b(x), gb}});
  CHECK(tape.size() == 0);
  std::vector<double> expected;
  for (Index i = 0; i < x0.size(); ++i) {
    const auto at = [&](double by) {
      const auto moved = x0.clone();
      moved.data()[i] += by;
      return inner(a(moved, w0), ga) + inner(b(moved), gb);
    };
    expected.push_back((at(1e-6) - at(-1e-6)) / 2e-6);
  }
  CHECK(error(sx.grad.to_host(), expected) <= 1e-6);
  CHECK(ga.to_host() == numbers);  // the seed is the caller's

  // The same from a number of roots known at run time; a constant root takes none.
  const auto gx = sx.grad.to_host(), gw = sw.grad.to_host();
  sx.grad = sw.grad = {};
  std::vector<std::pair<Var<B>, X<B>>> roots;
  roots.emplace_back(a(x, w), ga);
  roots.emplace_back(b(x), gb);
  roots.emplace_back(Var<B>(x0), gb);
  backward(std::span<const std::pair<Var<B>, X<B>>>(roots));
  CHECK(sx.grad.to_host() == gx);
  CHECK(sw.grad.to_host() == gw);
  sx.grad = sw.grad = {};
  backward(std::span<const std::pair<Var<B>, X<B>>>());
  backward({});
  CHECK_FALSE(sx.grad.defined());

  // A root twice is the sum; a root inside the graph of another collects both; a leaf is a root.
  const auto h = b(x);
  backward({{h, gb}, {h, gb}, {scale(h, 3), gb}, {x, gb}});
  sw.grad = {};
  const auto got = sx.grad.to_host();
  sx.grad = {};
  const auto five = scale(b(x), 5);
  backward({{five, gb}, {x, gb}});
  CHECK(error(got, sx.grad.to_host()) <= 1e-14);
  sx.grad = {};

  // backward(loss) is the root with gradient 1.
  const auto target = indices<B>({1, 0, 2});
  backward(cross_entropy(a(x, w), target, 0.1));
  const auto once = sx.grad.to_host();
  sx.grad = sw.grad = {};
  const auto loss = cross_entropy(a(x, w), target, 0.1);
  backward({{loss, X<B>::full(Shape{}, 1)}});
  CHECK(sx.grad.to_host() == once);
  sx.grad = sw.grad = {};

  // Cached features: the loss sees constants, whose gradients the encoder is begun with later.
  Slot<B> sf;
  const X<B> features = [&] {
    const NoGrad off;
    return a(x, w).tensor;
  }();
  backward(cross_entropy(Var<B>(features, &sf), target, 0.1));
  CHECK_FALSE(sx.grad.defined());
  backward({{a(x, w), sf.grad}});
  CHECK(sx.grad.to_host() == once);
  sx.grad = sw.grad = {};

  // Nothing has happened where a root is refused.
  const auto y = a(x, w), z = b(x);
  CHECK(from(error_of([&] { backward({{y, ga}, {z, ga}}); }), "backward"));
  CHECK(from(error_of([&] { backward({{y, ga}, {z, X<B>()}}); }), "backward"));
  CHECK(from(error_of([&] { backward({{y, ga}, {Var<B>(), gb}}); }), "backward"));
  CHECK(tape.size() == 2);
  CHECK_FALSE(y.slot->grad.defined());
  {
    const NoGrad off;
    CHECK(holds(error_of([&] { backward({{y, ga}}); }), "no tape is recording"));
  }
  backward({{y, ga}, {z, gb}});
  CHECK(sx.grad.to_host() == gx);
  const auto fresh = a(x, w);
  CHECK(holds(error_of([&] { backward({{fresh, ga}, {z, gb}}); }), "compute the loss again"));
  CHECK_FALSE(fresh.slot->grad.defined());
}

TEST_CASE_TEMPLATE("a variable used several times collects every contribution", B, BACKENDS) {
  const auto x0 = random<B>({5, 5}, 1), w = random<B>({5, 5}, 2), v = random<B>({5, 5}, 3);
  check<B>("x + x", {x0}, [](const auto& x) { return add(x[0], x[0]); });
  check<B>("x x^T", {x0}, [](const auto& x) { return linear(x[0], x[0]); });
  check<B>("a residual block", {x0, w}, [](const auto& x) {
    return add(x[0], linear(activate(linear(x[0], x[1]), Activation::gelu), x[1]));
  });
  check<B>("activation of a shared gradient", {x0}, [](const auto& x) {
    const auto y = activate(x[0], Activation::gelu);
    return add(y, activate(y, Activation::gelu_tanh));
  });
  check<B>("a view and its source", {x0}, [](const auto& x) {
    return add(reshape(reshape(x[0], {25}), {5, 5}), x[0]);
  });

  // add() hands the same buffer to both of its inputs and runs first in the backward pass:
  // operations that then add to their slot in place must not write into the gradient of the other
  // input.
  const auto shared = [&](const char* what, auto&& operation) {
    check<B>(what, {x0, w, v}, [&](const auto& x) {
      const auto y = operation(x);
      return stack_rows(y, add(x[1], x[2]));
    });
  };
  shared("linear", [](const auto& x) { return linear(x[0], x[1]); });
  shared("gather_rows",
         [i = indices<B>({1, 1, -1, 4})](const auto& x) { return gather_rows(x[1], i); });
  shared("slice_rows", [](const auto& x) { return slice_rows(x[1], 1, 3); });
  shared("scale", [](const auto& x) { return scale(x[1], 3); });
  const auto as_row = [i = indices<B>({0, 0, 0, 0, 0})](const auto& loss) {
    return reshape(gather_rows(reshape(loss, {1, 1}), i), {1, 5});
  };
  shared("cross_entropy", [&, t = indices<B>({1, 0, 4, 3, 2})](const auto& x) {
    return as_row(cross_entropy(x[1], t, 0.1));
  });
  shared("distillation",
         [&, t = random<B>({5, 5}, 4)](const auto& x) { return as_row(distillation(x[1], t, 2)); });
  shared("local_scores", [o = indices<Host>({0, 1, 2, 3, 4, 5})](const auto& x) {
    return local_scores(x[0], 1, x[1], o, {});
  });
  shared("self_attention", [s = segments<B>({5})](const auto& x) {
    AttentionOptions<std::decay_t<decltype(x[0])>> o;
    o.bias = &x[1];
    return slice_rows(
        stack_rows(
            linear(self_attention(reshape(stack_rows(stack_rows(x[0], x[0]), x[0]), {5, 15}), s, o),
                   x[0]),
            x[0]),
        0, 5);
  });
  const auto gain = random<B>({5}, 5, 0.3, 1), bias = random<B>({5}, 6);
  check<B>("layer_norm with one vector for both", {x0, gain, bias}, [](const auto& x) {
    const auto y = layer_norm(x[0], x[1], x[1], 1e-5);
    return stack_rows(y, reshape(add(x[1], x[2]), {1, 5}));
  });
  check<B>("one bias twice", {x0, w, bias, gain}, [](const auto& x) {
    const auto y = add(linear(x[0], x[1], &x[2]), add_row_vector(x[0], x[2]));
    return stack_rows(y, reshape(add(x[2], x[3]), {1, 5}));
  });
  check<B>("batch_norm twice", {x0, gain, bias},
           [m = random<B>({5}, 7), r = random<B>({5}, 8)](const auto& x) {
             return batch_norm(batch_norm(x[0], x[1], x[2], m, r, false), x[1], x[2], m, r, false);
           });
  check<B>("one log_scale twice", {x0, w, X<B>::full({}, 0.3)}, [](const auto& x) {
    return scaled_similarity(scaled_similarity(x[0], x[1], x[2]), x[1], x[2]);
  });
}

TEST_CASE_TEMPLATE("backward fills the leaves and empties the tape", B, BACKENDS) {
  const auto target = indices<B>({1, 0, 2});
  Tape tape;
  Slot<B> sx, sw;
  const Var<B> x(random<B>({3, 4}, 1), &sx), w(random<B>({3, 4}, 2), &sw);
  {
    const RecordOn on(tape);
    CHECK(Tape::current() == &tape);
    const auto loss = cross_entropy(linear(x, w), target, 0);
    CHECK(tape.size() == 2);
    backward(loss);
    CHECK(tape.size() == 0);
    const auto once = sw.grad.to_host();
    backward(cross_entropy(linear(x, w), target, 0));
    for (std::size_t i = 0; i < once.size(); ++i)
      CHECK(sw.grad.data()[i] == doctest::Approx(2 * once[i]));

    // What the loss does not depend on gets nothing.
    Slot<B> other;
    const auto unused = scale(Var<B>(random<B>({2}, 3), &other), 2);
    backward(cross_entropy(linear(x, w), target, 0));
    CHECK_FALSE(other.grad.defined());

    // A loss over nothing is 0, and backward() of it only empties the tape.
    Slot<B> none;
    const auto empty =
        cross_entropy(scale(Var<B>(random<B>({0, 4}, 1), &none), 2), indices<B>({}), 0);
    CHECK(empty.tensor.item() == 0);
    backward(empty);
    CHECK(tape.size() == 0);
    CHECK_FALSE(none.grad.defined());
  }
  CHECK(Tape::current() == nullptr);
  linear(x, w);
  CHECK(tape.size() == 0);
}

TEST_CASE_TEMPLATE("scopes nest, clear forgets, constants stay constants", B, BACKENDS) {
  const auto in_use = HostArena::instance().statistics().in_use;
  {
    Tape outer, inner;
    Slot<B> s;
    const Var<B> x(random<B>({3, 3}, 1), &s), constant(random<B>({3, 3}, 2));
    const RecordOn on(outer);
    scale(x, 2);
    {
      const RecordOn deeper(inner);
      scale(x, 2);
      {
        const NoGrad off;
        CHECK(Tape::current() == nullptr);
        CHECK(scale(x, 2).slot == nullptr);
      }
      CHECK(Tape::current() == &inner);
    }
    CHECK(outer.size() == 1);
    CHECK(inner.size() == 1);
    outer.clear();
    CHECK(outer.size() == 0);

    CHECK(scale(constant, 2).slot == nullptr);
    CHECK(scale(detach(x), 2).slot == nullptr);
    CHECK(outer.size() == 0);

    Parameter<double, B> p({3, 3}, init::zeros());
    CHECK(use<Var<B>>(p).slot == &p.slot);
    p.trainable = false;
    CHECK(use<Var<B>>(p).slot == nullptr);
    CHECK(use<X<B>>(p).data() == p.value.data());
    {
      const NoGrad off;
      p.trainable = true;
      CHECK(use<Var<B>>(p).slot == nullptr);
    }

    // More nodes than one chunk of the tape holds; the same memory serves the next pass.
    std::size_t after_first = 0;
    for (int pass = 0; pass < 3; ++pass) {
      s.grad = {};
      Var<B> y = x;
      for (int i = 0; i < 3000; ++i) y = scale(y, i % 2 ? 2 : 0.5);
      CHECK(outer.size() == 3000);
      y.slot->add(X<B>::full({3, 3}, 1));
      outer.backward();
      CHECK(s.grad.to_host() == std::vector<double>(9, 1.0));
      y = {};
      const auto now = HostArena::instance().statistics().in_use;
      if (pass == 0) after_first = now;
      CHECK(now == after_first);
    }
  }
  CHECK(HostArena::instance().statistics().in_use ==
        in_use);  // a tape destroyed with nodes on it frees what they saved
}

TEST_CASE_TEMPLATE("misuse is an Error of this area", B, BACKENDS) {
  const auto r = [](const Shape& s) { return random<B>(s, 1); };
  Slot<B> s;
  const Var<B> one(r({}), &s), many(r({3}), &s);
  CHECK(from(error_of([&] { backward(one); }), "backward"));  // no tape
  {
    Tape tape;
    const RecordOn on(tape);
    CHECK(from(error_of([&] { backward(many); }), "backward"));
    CHECK(from(error_of([&] { add(one, many); }), "add"));  // Variables are checked as Tensors are
  }
  CHECK(from(error_of([&] { add(r({2, 3}), r({3, 2})); }), "add"));
  CHECK(from(error_of([&] { multiply(r({2, 3}), r({6})); }), "multiply"));
  CHECK(from(error_of([&] { linear(r({2, 3}), r({5, 4})); }), "linear"));
  CHECK(from(error_of([&] {
               feed_forward(r({2, 3}), r({5, 3}), r({5}), r({3, 4}), r({3}), Activation::gelu);
             }),
             "feed_forward"));
  CHECK(from(error_of([&] {
               feed_forward(r({2, 3}), r({5, 3}), r({4}), r({3, 5}), r({3}), Activation::gelu);
             }),
             "feed_forward"));
  const auto b = r({4});
  CHECK(from(error_of([&] { linear(r({2, 3}), r({5, 3}), &b); }), "linear"));
  CHECK(from(error_of([&] {
               scaled_similarity(r({2, 3}), r({2, 4}), r({}));
             }),
             "scaled_similarity"));
  CHECK(from(error_of([&] { stack_rows(r({2, 3}), r({2, 4})); }), "stack_rows"));
  CHECK(from(error_of([&] { add_row_vector(r({2, 3}), r({2})); }), "add_row_vector"));
  CHECK(from(error_of([&] { layer_norm(r({2, 3}), r({2}), r({3}), 1e-5); }), "layer_norm"));
  CHECK(from(error_of([&] { layer_norm(r({2, 3}), r({3}), r({4}), 1e-5); }), "layer_norm"));
  CHECK(from(error_of([&] {
               conv2d(r({9, 2}), r({3, 2, 3, 3}), ConvShape{1, 3, 4, 2, 3, 3, 1, 1});
             }),
             "conv2d"));
  CHECK(from(error_of([&] {
               conv2d(r({12, 2}), r({3, 2, 3, 4}), ConvShape{1, 3, 4, 2, 3, 3, 1, 1});
             }),
             "conv2d"));
  CHECK(from(error_of([&] { cross_entropy(r({3, 4}), indices<B>({0, 1}), 0); }), "cross_entropy"));
  CHECK(from(error_of([&] { distillation(r({3, 4}), r({3, 5}), 1); }), "distillation"));
  CHECK(from(error_of([&] {
               symmetric_cross_entropy(r({3, 4}), IndexTensor<B>(), 0, 1, 1);
             }),
             "symmetric_cross_entropy"));
  AttentionOptions<X<B>> o;
  o.heads = 2;
  CHECK(from(error_of([&] {
               self_attention(r({5, 9}), segments<B>({5}), o);
             }),
             "attention"));  // width 3, 2 heads
  CHECK(from(error_of([&] {
               cross_attention(r({5, 4}), r({5, 8}), segments<B>({5}), segments<B>({2, 3}), 2);
             }),
             "attention"));
  // Views are checked by the tensor itself.
  CHECK(error_of([&] {
          slice_rows(r({3, 2}), 1, 4);
        }).rfind("[hybridmed.core] Tensor::row_slice: ", 0) == 0);
  CHECK(error_of([&] {
          reshape(r({3, 2}), {5});
        }).rfind("[hybridmed.core] Tensor::view: ", 0) == 0);
}

// Every call here stays inside its buffers, so that a missing check fails the test and nothing
// else.
TEST_CASE_TEMPLATE("shapes that do not fit are rejected", B, BACKENDS) {
  const auto r = [](const Shape& s) { return random<B>(s, 1); };
  const RowMixing<double, B> mixing(1, 3, {1, 1, 1});
  CHECK(from(error_of([&] { mix_rows(r({5, 2}), mixing); }), "mix_rows"));  // 5 rows in items of 3
  CHECK(from(error_of([&] {
               self_attention(r({5, 7}), segments<B>({5}), AttentionOptions<X<B>>{});
             }),
             "self_attention"));  // 7 columns in 3 parts
  CHECK(from(error_of([&] {
               self_attention(r({5, 6}), segments<B>({4}), AttentionOptions<X<B>>{});
             }),
             "self_attention"));  // segments of 4 rows for 5
  CHECK(from(error_of([&] {
               cross_attention(r({5, 4}), r({5, 9}), segments<B>({5}), segments<B>({5}), 2);
             }),
             "cross_attention"));  // keys and values of 9 columns for width 4
  CHECK(from(error_of([&] {
               max_pool(r({17, 2}), ConvShape{1, 4, 4, 2, 2, 2, 2, 0});
             }),
             "max_pool"));  // 17 rows for 16 pixels
  CHECK(from(error_of([&] {
               batch_norm(r({3, 4}), r({5}), r({5}), r({5}), r({5}), false);
             }),
             "batch_norm"));
  CHECK(from(error_of([&] {
               scaled_similarity(r({2, 3}), r({2, 3}), r({2}));
             }),
             "scaled_similarity"));  // two scales
  CHECK(from(error_of([&] {
               symmetric_cross_entropy(r({3, 3}), indices<B>({1, 2, 3, 4}), 0, 1, 1);
             }),
             "symmetric_cross_entropy"));  // 4 keys for 3
  CHECK(from(error_of([&] {
               local_scores(r({5, 2}), 2, r({3, 2}), indices<Host>({0, 3}), {});
             }),
             "local_scores"));  // 5 regions for 2 images
  CHECK(from(error_of([&] {
               local_scores(r({4, 2}), 2, r({3, 3}), indices<Host>({0, 3}), {});
             }),
             "local_scores"));  // widths 2 and 3
  CHECK(from(error_of([&] {
               local_scores(r({4, 2}), 2, r({3, 2}), indices<Host>({0, 1}), {});
             }),
             "local_scores"));  // 1 word of 3
}
