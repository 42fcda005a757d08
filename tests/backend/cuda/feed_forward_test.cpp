// The CUDA kernels that feed-forward blocks need against the reference backend, over odd sizes and
// empty sets.
#include "conformance.hpp"
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/optim/adamw.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

static_assert(BackendFeedForward<Cuda, float> && BackendFeedForward<Cuda, double>);
static_assert(BackendLinear<Cuda, float>);

}  // namespace

TEST_CASE_TEMPLATE("memory", T, float, double) {
  for (Index n : lengths) {
    const Values v = normal(n, 1);
    const auto t = tensor<T, Cuda>(v, {n});
    CHECK(difference(values(t), values(tensor<T, Reference>(v, {n}))) == 0);
    CHECK(difference(values(t.clone()), values(t)) == 0);
  }
  const auto before = cuda::memory_statistics();
  {
    Tensor<T, Cuda> big({1 << 20});
    CHECK(cuda::memory_statistics().in_use >= before.in_use + (sizeof(T) << 20));
  }
  CHECK(cuda::memory_statistics().in_use == before.in_use);
  CHECK(cuda::memory_statistics().reserved >= before.reserved);
}

TEST_CASE("a request beyond the device's memory is an error that says so, and the next one works") {
  std::string message;
  try {
    Tensor<float, Cuda> t({Index{1} << 48});
  } catch (const Error& e) {
    message = e.what();
  }
  CHECK(message.find(
            "[hybridmed.cuda] allocate: the device is out of memory for 1125899906842624 bytes") ==
        0);
  CHECK(values(Tensor<float, Cuda>::full({3}, 2)) == Values{2, 2, 2});
}

TEST_CASE_TEMPLATE("element by element", T, float, double) {
  for (Index n : lengths) {
    const std::string s = sizes({n});
    const Values a = normal(n, 1), b = normal(n, 2), p = positive(n, 3), one{0.7}, nan = garbage(n);
    const auto each = [&](const char* name, const std::vector<Values>& in, const Values& out,
                          auto f) { conform<T>(name + s, in, {}, {out}, f); };
    each("fill", {}, nan, [n](auto k, auto&, auto, auto& y) { k.fill(n, T(3), y[0].data()); });
    each("copy", {a}, nan,
         [n](auto k, auto& x, auto, auto& y) { k.copy(n, x[0].data(), y[0].data()); });
    each("add", {a, b}, nan,
         [n](auto k, auto& x, auto, auto& y) { k.add(n, x[0].data(), x[1].data(), y[0].data()); });
    each("multiply", {a, b}, nan, [n](auto k, auto& x, auto, auto& y) {
      k.multiply(n, x[0].data(), x[1].data(), y[0].data());
    });
    each("scale", {a}, nan,
         [n](auto k, auto& x, auto, auto& y) { k.scale(n, T(-1.5), x[0].data(), y[0].data()); });
    each("axpy", {a}, b,
         [n](auto k, auto& x, auto, auto& y) { k.axpy(n, T(-1.5), x[0].data(), y[0].data()); });
    each("scale_by", {a, one}, nan, [n](auto k, auto& x, auto, auto& y) {
      k.scale_by(n, x[1].data(), x[0].data(), y[0].data());
    });
    each("scale_by in place", {one}, a, [n](auto k, auto& x, auto, auto& y) {
      k.scale_by(n, x[0].data(), y[0].data(), y[0].data());
    });
    each("divide", {a, p}, nan, [n](auto k, auto& x, auto, auto& y) {
      k.divide(n, x[0].data(), x[1].data(), y[0].data());
    });
    each("logarithm", {p}, nan,
         [n](auto k, auto& x, auto, auto& y) { k.logarithm(n, x[0].data(), y[0].data()); });
    each("exponential", {a}, nan,
         [n](auto k, auto& x, auto, auto& y) { k.exponential(n, x[0].data(), y[0].data()); });
    each("clamp", {}, a,
         [n](auto k, auto&, auto, auto& y) { k.clamp(n, T(-0.5), T(0.25), y[0].data()); });
    each("reciprocal_sqrt", {p}, nan, [n](auto k, auto& x, auto, auto& y) {
      k.reciprocal_sqrt(n, x[0].data(), T(1e-5), y[0].data());
    });
    for (auto act :
         {Activation::identity, Activation::relu, Activation::gelu, Activation::gelu_tanh}) {
      each("activation", {a}, nan, [n, act](auto k, auto& x, auto, auto& y) {
        k.activation(act, n, x[0].data(), y[0].data());
      });
      each("activation_backward", {a}, b, [n, act](auto k, auto& x, auto, auto& y) {
        k.activation_backward(act, n, x[0].data(), y[0].data(), y[0].data());
      });
    }
    for (double size : {1.0, 30.0, 1e4}) {
      const Values logits = normal(n, 5, size);
      Values target = normal(n, 6);
      for (double& z : target) z = std::min(1.0, std::max(0.0, z + 0.5));
      each("sigmoid_cross_entropy", {logits, target}, nan, [n](auto k, auto& x, auto, auto& y) {
        k.sigmoid_cross_entropy(n, x[0].data(), x[1].data(), y[0].data());
      });
      each("sigmoid_cross_entropy_backward", {logits, target}, b,
           [n](auto k, auto& x, auto, auto& y) {
             k.sigmoid_cross_entropy_backward(n, x[0].data(), x[1].data(), y[0].data(),
                                              y[0].data());
           });
    }
    each("fill_normal", {}, nan,
         [n](auto k, auto&, auto, auto& y) { k.fill_normal(n, Philox(3, 4), 0.02, y[0].data()); });
    each("dropout_mask", {}, nan,
         [n](auto k, auto&, auto, auto& y) { k.dropout_mask(n, Philox(5, 6), 0.3, y[0].data()); });
    each("sum", {a}, one,
         [n](auto k, auto& x, auto, auto& y) { k.sum(n, 0.5, x[0].data(), y[0].data()); });
    each("dot", {a, b}, one, [n](auto k, auto& x, auto, auto& y) {
      k.dot(n, T(0.5), x[0].data(), x[1].data(), y[0].data());
    });
  }
}

TEST_CASE_TEMPLATE("what is not finite comes out of exp, log, quotients, sums and losses", T, float,
                   double) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const Values special{inf, -inf, nan, 0, -0.0, -1, 1, 1000, -1000};
  const Index n = static_cast<Index>(special.size());
  const auto bits = [&](auto b, double other) {
    using B = decltype(b);
    const auto x = tensor<T, B>(special, {n}), z = Tensor<T, B>::full({n}, static_cast<T>(other));
    Tensor<T, B> y({n});
    Values all;
    const auto keep = [&] {
      for (double v : values(y)) all.push_back(std::isfinite(v) ? 0 : v);
    };
    b.exponential(n, x.data(), y.data());
    keep();
    b.logarithm(n, x.data(), y.data());
    keep();
    b.divide(n, z.data(), x.data(), y.data());
    keep();
    b.sigmoid_cross_entropy(n, x.data(), z.data(), y.data());
    keep();
    b.sigmoid_cross_entropy_backward(n, x.data(), z.data(), x.data(), y.data());
    keep();
    for (Index i = 0; i < 3; ++i) {
      b.fill(n, T(0), y.data());
      b.sum(1, 0.5, x.data() + i, y.data());
      keep();
    }
    return all;
  };
  for (double other : {0.0, 1.0}) {
    const Values want = bits(Reference{}, other), got = bits(Cuda{}, other);
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      CHECK((got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]))));
    }
  }
}

TEST_CASE_TEMPLATE("arithmetic with gradients is the reference backend's", T, float, double) {
  const auto run = [](auto b) {
    using B = decltype(b);
    Tape tape;
    const RecordOn on(tape);
    const auto x = leaf<T, B>(normal(51, 1), {3, 17}), one = leaf<T, B>({0.3}, Shape{}),
               shift = leaf<T, B>({-0.2}, {1});
    const auto target = tensor<T, B>(Values(51, 0.25), {17, 3});
    using V = Variable<T, B>;
    const V logits = add(multiply(transpose(use<V>(x)), exp(use<V>(one))), use<V>(shift));
    const V loss =
        add(mean(sigmoid_cross_entropy(logits, target)), log(sum(multiply(logits, logits))));
    Values all = values(loss.tensor);
    backward(loss);
    for (const auto* p : {&x, &one, &shift})
      for (double g : gradient(*p)) all.push_back(g);
    return all;
  };
  CHECK(difference(run(Cuda{}), run(Reference{})) <= 10 * tolerance<T>);
}

TEST_CASE_TEMPLATE("squared_norm adds up, and the clipped update reads it where it lies", T, float,
                   double) {
  for (Index n : lengths)
    for (double start : {0.0, 4.0, std::numeric_limits<double>::infinity()}) {
      const Values g = normal(n, 1), p = normal(n, 2), m = normal(n, 3, 0.1), v = positive(n, 4);
      conform<T>("adamw" + sizes({n}), {g}, {}, {m, v, p}, [&](auto k, auto& x, auto, auto& y) {
        const StepState begun{1e-2, 0.3, 0.02, start, -1};
        const auto state = Tensor<StepState, decltype(k)>::from_host({&begun, 1}, {1});
        k.squared_norm(n, x[0].data(), &state.data()->squared_norm);
        AdamWArgs a;
        a.decay = 0.05;
        a.clip = 1;
        a.step = state.data();
        k.adamw(n, a, x[0].data(), y[0].data(), y[1].data(), y[2].data());
        k.adamw(n, a, static_cast<const T*>(nullptr), y[0].data(), y[1].data(), y[2].data());
        if constexpr (std::is_same_v<decltype(k), Cuda>) {
          double sum = 0;
          for (double gi : g)
            sum +=
                static_cast<double>(static_cast<T>(gi)) * static_cast<double>(static_cast<T>(gi));
          const double norm = state.item().squared_norm;
          CHECK((norm == start + sum || std::abs(norm - start - sum) <= 1e-12 * (start + sum)));
        }
      });
    }
}

TEST_CASE_TEMPLATE("products, with every transposition, leading dimension and beta", T, float,
                   double) {
  struct Case {
    Index m, n, k;
  };
  for (const auto& c : {Case{1, 1, 1}, Case{3, 17, 5}, Case{33, 2, 65}, Case{0, 3, 2},
                        Case{3, 0, 2}, Case{3, 4, 0}, Case{64, 48, 32}})
    for (bool ta : {false, true})
      for (bool tb : {false, true})
        for (double beta : {0.0, 1.0, -0.5}) {
          const Index lda = (ta ? c.m : c.k) + 1, ldb = (tb ? c.k : c.n) + 2, ldc = c.n + 3;
          const Values a = normal((ta ? c.k : c.m) * lda, 1), b = normal((tb ? c.n : c.k) * ldb, 2),
                       y = normal(c.m * ldc, 3);
          conform<T>("gemm" + sizes({c.m, c.n, c.k}), {a, b}, {}, {y},
                     [&](auto k, auto& x, auto, auto& o) {
                       k.gemm(ta, tb, c.m, c.n, c.k, T(0.75), x[0].data(), lda, x[1].data(), ldb,
                              static_cast<T>(beta), o[0].data(), ldc);
                     });
        }
}

TEST_CASE("fused bias and activation equal the separate kernels, and say where they do not serve") {
  struct Case {
    Index rows, in, out;
  };
  for (const auto& c :
       {Case{1, 1, 1}, Case{5, 16, 8}, Case{33, 7, 24}, Case{3, 5, 7}, Case{0, 4, 8}}) {
    const auto x = tensor<float, Cuda>(normal(c.rows * c.in, 1), {c.rows, c.in}),
               w = tensor<float, Cuda>(normal(c.out * c.in, 2), {c.out, c.in}),
               b = tensor<float, Cuda>(normal(c.out, 3), {c.out});
    Tensor<float, Cuda> want({c.rows, c.out}), pre({c.rows, c.out}), act({c.rows, c.out}),
        wanted_act({c.rows, c.out});
    Cuda::gemm(false, true, c.rows, c.out, c.in, 1.f, x.data(), c.in, w.data(), c.in, 0.f,
               want.data(), c.out);
    Cuda::add_vector(c.rows, c.out, want.data(), b.data(), want.data());
    Cuda::activation(Activation::gelu_tanh, want.size(), want.data(), wanted_act.data());
    LinearArgs<float> a{c.rows, c.in, c.out, x.data(), w.data(), b.data()};
    a.y = pre.data();
    CHECK(Cuda::linear(a) == (c.rows > 0));
    if (c.rows > 0) CHECK(difference(values(pre), values(want)) <= 2e-5);
    a.pre = pre.data();
    a.y = act.data();
    CHECK_FALSE(Cuda::linear(a));  // no activation to stand between the two
    a.activation = Activation::gelu;
    CHECK_FALSE(Cuda::linear(a));
    a.activation = Activation::gelu_tanh;
    const bool served = Cuda::linear(a);
    CHECK(served == (c.rows > 0 && c.out % 8 == 0));
    if (served) CHECK(difference(values(pre), values(want)) <= 2e-5);
    if (served) CHECK(difference(values(act), values(wanted_act)) <= 2e-5);
  }
}

TEST_CASE_TEMPLATE("rows", T, float, double) {
  struct Case {
    Index rows, cols;
  };
  for (const auto& c :
       {Case{0, 5}, Case{1, 1}, Case{3, 17}, Case{33, 31}, Case{2, 600}, Case{600, 3}}) {
    const Index r = c.rows, n = c.cols;
    const std::string s = sizes({r, n});
    const Values x0 = normal(r * n, 1, 2), v = normal(n, 2), nan = garbage(r * n);
    conform<T>("add_vector" + s, {x0, v}, {}, {nan}, [&](auto k, auto& x, auto, auto& y) {
      k.add_vector(r, n, x[0].data(), x[1].data(), y[0].data());
    });
    conform<T>("column_sum" + s, {x0}, {}, {v}, [&](auto k, auto& x, auto, auto& y) {
      k.column_sum(r, n, x[0].data(), y[0].data());
    });
    for (Index batch : {Index{1}, Index{3}})
      conform<T>("transpose" + s, {normal(batch * r * n, 6)}, {}, {garbage(batch * r * n)},
                 [&](auto k, auto& x, auto, auto& y) {
                   k.transpose(batch, r, n, x[0].data(), y[0].data());
                 });
  }
}

TEST_CASE_TEMPLATE("softmax with cross-entropy", T, float, double) {
  struct Case {
    Index rows, classes;
  };
  for (const auto& c : {Case{0, 5}, Case{1, 1}, Case{3, 17}, Case{33, 300}, Case{300, 2}})
    for (double smoothing : {0.0, 0.1})
      for (bool accumulate : {false, true}) {
        const Values z = normal(c.rows * c.classes, 1, 5), up{0.7};
        std::vector<std::int32_t> target;
        for (Index r = 0; r < c.rows; ++r)
          target.push_back(static_cast<std::int32_t>((7 * r + 1) % c.classes));
        conform<T>("cross_entropy" + sizes({c.rows, c.classes}), {z, up}, target,
                   {garbage(1), garbage(c.rows), accumulate ? z : garbage(c.rows * c.classes)},
                   [&](auto k, auto& x, auto t, auto& y) {
                     k.cross_entropy(c.rows, c.classes, x[0].data(), t, smoothing, y[0].data(),
                                     y[1].data());
                     k.template cross_entropy_backward<T>(c.rows, c.classes, x[0].data(), t,
                                                          smoothing, y[1].data(), x[1].data(),
                                                          accumulate, y[2].data());
                   });
      }
}

TEST_CASE_TEMPLATE(
    "softmax with cross-entropy: a common offset changes nothing, a target that is no class gives "
    "NaN",
    T, float, double) {
  const auto run = [](const Values& z, std::int32_t target) {
    Tensor<T, Cuda> loss(Shape{}), lse({1}), dz({1, 3});
    const auto logits = tensor<T, Cuda>(z, {1, 3}), one = Tensor<T, Cuda>::full(Shape{}, T(1));
    const auto t = indices<Cuda>({target});
    Cuda::cross_entropy(1, 3, logits.data(), t.data(), 0.0, loss.data(), lse.data());
    Cuda::template cross_entropy_backward<T>(1, 3, logits.data(), t.data(), 0.0, lse.data(),
                                             one.data(), false, dz.data());
    Values all = values(dz);
    all.push_back(static_cast<double>(loss.item()));
    return all;
  };
  for (double offset : {0.0, 1e4, 1e7})
    CHECK(difference(run({offset, offset + 1, offset + 2}, 2),
                     {0.09003057317038046, 0.24472847105479767, -0.3347590442251782,
                      0.4076059644443804}) <= 1e-6);
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(difference(run({1, 2, -inf}, 1),
                   {0.2689414213699951, -0.2689414213699951, 0, 0.31326168751822286}) <= 1e-6);
  CHECK(run({1, 2, -inf}, 2)[3] == inf);
  for (std::int32_t bad : {3, -1, 1 << 30})
    for (double x : run({1, 2, 3}, bad)) CHECK(std::isnan(x));
}

namespace {
template <class T>
struct Scaled {
  Parameter<T, Cuda> w{{4, 3}, init::zeros()};
  template <class F>
  void visit(F&& f) {
    f("w", w);
  }
};
}  // namespace

TEST_CASE_TEMPLATE("AdamW: a loss times a power of ten gives the same clipped step", T, float,
                   double) {
  const auto step = [](double factor) {
    Scaled<T> m;
    optim::AdamW<T, Cuda> o(m, {.weight_decay = 0, .clip = 1});
    for (int k = 0; k < 2; ++k) {
      Values g;
      for (int i = 0; i < 12; ++i) g.push_back(factor * (1 + 0.37 * i - 0.2 * k * i));
      m.w.slot.grad = tensor<T, Cuda>(g, {4, 3});
      o.step(1e-3);
    }
    return values(m.w.value);
  };
  const Values want = step(10);
  for (double factor :
       std::is_same_v<T, float> ? Values{1e10, 1e21, 1e36} : Values{1e21, 1e160, 1e300})
    CHECK(difference(step(factor), want) <= 1e-8);
  CHECK(difference(step(std::numeric_limits<double>::infinity()), Values(12, 0.0)) == 0);
}

TEST_CASE("indices repeat from item to item on the device") {
  const auto first = IndexTensor<Cuda>::from_host(std::vector<std::int32_t>{0, -1, 4}, {3});
  IndexTensor<Cuda> y({9});
  Cuda::repeat_indices(3, first.data(), 3, 5, y.data());
  CHECK(y.to_host() == std::vector<std::int32_t>{0, -1, 4, 5, -1, 9, 10, -1, 14});
}
