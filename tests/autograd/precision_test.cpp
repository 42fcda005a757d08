// Three scalars in one operation: conversions, rounded weights with gradients in float, and every
// operation in bf16 against double.
#include "autograd/precision.hpp"
#include "errors.hpp"
#include "hybridmed/autograd/convolution.hpp"
#include "hybridmed/autograd/feed_forward.hpp"
#include "hybridmed/autograd/norm.hpp"
#include "hybridmed/autograd/recompute.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/nn/layers.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

#define HOST_BACKENDS Reference, CpuBackend

namespace {

using Half = bfloat16;
template <class B>
using V16 = Variable<Half, B>;
template <class B>
using V32 = Variable<float, B>;

static_assert(std::is_same_v<master_of<Half>, float> &&
              std::is_same_v<accumulator_of<Half>, float>);
static_assert(std::is_same_v<Weight<Variable<float, Reference>>, Variable<float, Reference>>);
static_assert(std::is_same_v<Weight<Tensor<Half, Reference>>, Tensor<Half, Reference>>);
static_assert(std::is_same_v<Weight<V16<Reference>>, RoundedWeight<Half, Reference>>);
static_assert(std::is_same_v<Wide<V16<Reference>>, V32<Reference>>);

}  // namespace

TEST_CASE_TEMPLATE("conversion to the scalar that a value has is the value itself", P,
                   On<float, Reference>, On<double, Reference>, On<float, CpuBackend>) {
  using T = typename P::T;
  using B = typename P::B;
  Tape tape;
  const RecordOn on(tape);
  GradientSlot<T, B> slot;
  const Variable<T, B> x(tensor<T, B>(normal(6, 1), {2, 3}), &slot);
  for (const auto& y : {widen(x), narrow<T>(x), cast<Variable<T, B>>(x)}) {
    CHECK(y.tensor.data() == x.tensor.data());
    CHECK(y.slot == &slot);
  }
  CHECK(narrow<T>(x.tensor).data() == x.tensor.data());
  CHECK(widen(x.tensor).data() == x.tensor.data());
  const Parameter<T, B> p = leaf<T, B>(normal(6, 2), {2, 3});
  const Variable<T, B> w = use<Variable<T, B>>(p);
  CHECK(w.tensor.data() == p.value.data());
  CHECK(w.slot == &p.slot);
  CHECK(use<Tensor<T, B>>(p).data() == p.value.data());
  CHECK(tape.size() == 0);
}

TEST_CASE_TEMPLATE("conversions between bf16 and float, and their gradients", B, HOST_BACKENDS) {
  const Values numbers{1, 1.001, -3.14159, 257, 1e-30, 0};
  Tape tape;
  const RecordOn on(tape);
  GradientSlot<float, B> wide_slot;
  GradientSlot<Half, B> slot;
  // Narrowed: the value is rounded, the gradient, which bf16 holds, arrives as it is.
  const V32<B> wide(tensor<float, B>(numbers, {2, 3}), &wide_slot);
  const V16<B> y = narrow<Half>(wide);
  CHECK(values(y.tensor) == rounded(numbers));
  CHECK(y.shape() == Shape{2, 3});
  CHECK(tape.size() == 1);
  backward({{y, tensor<Half, B>(halves(6, 1), {2, 3})}});
  CHECK(values(wide_slot.grad) == halves(6, 1));
  CHECK(wide_slot.grad.shape() == Shape{2, 3});
  // Widened: the value is exact, the gradient is rounded.
  const V16<B> x(tensor<Half, B>(numbers, {2, 3}), &slot);
  const V32<B> z = widen(x);
  CHECK(values(z.tensor) == rounded(numbers));
  backward({{z, tensor<float, B>(floats(6, 2), {2, 3})}});
  CHECK(values(slot.gradient()) == rounded(floats(6, 2)));
  // Constants, plain tensors and NoGrad: no node.
  CHECK(widen(V16<B>(x.tensor)).slot == nullptr);
  CHECK(narrow<Half>(V32<B>(wide.tensor)).slot == nullptr);
  CHECK(values(widen(x.tensor)) == rounded(numbers));
  CHECK(values(narrow<Half>(wide.tensor)) == rounded(numbers));
  {
    const NoGrad off;
    CHECK(widen(x).slot == nullptr);
    CHECK(narrow<Half>(wide).slot == nullptr);
  }
  CHECK(narrow<Half>(x).slot == &slot);  // has that scalar
  CHECK(widen(wide).slot == &wide_slot);
  CHECK(tape.size() == 0);
  // Nothing, and undefined tensors.
  CHECK(widen(V16<B>(Tensor<Half, B>({0, 3}), &slot)).shape() == Shape{0, 3});
  tape.clear();
  CHECK(holds(error_of([] { widen(V16<B>()); }), "conversion"));
  CHECK(holds(error_of([] { narrow<Half>(Tensor<float, B>()); }), "conversion"));
  CHECK(tape.size() == 0);
}

TEST_CASE_TEMPLATE("a weight is rounded where it is used, and is no node", B, HOST_BACKENDS) {
  Parameter<Half, B> p = leaf<float, B>({1.001, -3.14159, 257, 1, 0.3, -0.7}, {2, 3});
  {
    const auto constant = use<V16<B>>(p);  // without a tape
    CHECK(constant.slot == nullptr);
  }
  Tape tape;
  const RecordOn on(tape);
  const auto w = use<V16<B>>(p);
  CHECK(values(value(w)) == rounded(values(p.value)));
  CHECK(w.slot == &p.slot);
  CHECK(tape.size() == 0);
  CHECK(values(p.value)[0] == static_cast<float>(1.001));  // the master keeps its digits
  const auto wide = use<V32<B>>(p);
  CHECK(wide.tensor.data() == p.value.data());
  CHECK(wide.slot == &p.slot);
  p.trainable = false;
  CHECK(use<V16<B>>(p).slot == nullptr);
  CHECK(V16<B>(use<V16<B>>(p)).slot == nullptr);
  p.trainable = true;
  CHECK(V16<B>(w).slot != nullptr);
  CHECK(tape.size() == 1);
}

namespace {

/// The sum of the gradients of one use with gradient 1 and of 1000 uses with 2^-10: in bf16 the
/// small ones would be lost one by one. Every element of the parameter's gradient must be that.
template <class B, class F>
void collects(const std::string& what, const Shape& shape, F&& used, bool several_tapes = false) {
  INFO(what << " on " << std::string(B::name));
  Parameter<Half, B> p = leaf<float, B>(Values(static_cast<std::size_t>(shape.size()), 1.0), shape);
  Tape tape;
  const auto root = [&](double g) {
    auto y = used(p);
    using Y = decltype(y);
    return std::pair<Y, tensor_of<Y>>(y, tensor_of<Y>::full(y.shape(), scalar_of<Y>(float(g))));
  };
  using Pair = decltype(root(1));
  const RecordOn on(tape);
  std::vector<Pair> roots;
  for (int i = 0; i <= 1000; ++i) {
    roots.push_back(root(i == 0 ? 1 : 0x1p-10));
    if (!several_tapes) continue;
    backward(std::span<const Pair>(roots));
    roots.clear();
  }
  // Nodes run from the last: the one that counts 1 comes where most of the others have been.
  if (!roots.empty()) backward(std::span<const Pair>(roots));
  const Values want(static_cast<std::size_t>(shape.size()), 1 + 1000 * 0x1p-10);
  CHECK(gradient(p) == want);
  CHECK(p.slot.grad.shape().size() == shape.size());
}

}  // namespace

TEST_CASE_TEMPLATE("gradients of parameters are summed in float, never rounded", B, HOST_BACKENDS) {
  const auto ones = [](const Shape& s) { return Tensor<Half, B>::full(s, Half(1.0f)); };
  for (const bool several : {false, true}) {
    collects<B>(
        "linear", {2, 3},
        [&](const auto& p) {
          return linear(V16<B>(ones({1, 3})), use<V16<B>>(p));
        },
        several);
    collects<B>(
        "linear_as wide", {2, 3},
        [&](const auto& p) {
          return linear_as<V32<B>>(V16<B>(ones({1, 3})), use<V16<B>>(p));
        },
        several);
    collects<B>(
        "a bias", {2},
        [&](const auto& p) {
          const V32<B> b = use<V32<B>>(p);
          return linear(V16<B>(ones({1, 3})), RoundedWeight<Half, B>{ones({2, 3})}, &b);
        },
        several);
    collects<B>(
        "conv2d", {2, 3, 1, 1},
        [&](const auto& p) {
          return conv2d(V16<B>(ones({1, 3})), use<V16<B>>(p), ConvShape{1, 1, 1, 3, 2, 1, 1, 0});
        },
        several);
    collects<B>(
        "as an activation", {2, 3}, [](const auto& p) { return V16<B>(use<V16<B>>(p)); }, several);
    collects<B>(
        "as an activation, gathered", {1, 3},
        [](const auto& p) { return gather_rows(V16<B>(use<V16<B>>(p)), indices<B>({0})); },
        several);
    collects<B>(
        "an embedding", {1, 3},
        [](const auto& p) { return gather_rows(use<V32<B>>(p), indices<B>({0})); }, several);
    collects<B>(
        "a vector added to rows", {3},
        [&](const auto& p) {
          return add_row_vector(V16<B>(ones({1, 3})), use<V32<B>>(p));
        },
        several);
    collects<B>(
        "a weight in another shape", {2, 3},
        [&](const auto& p) {
          return linear(V16<B>(ones({1, 2})), reshape(use<V16<B>>(p), {3, 2}));
        },
        several);
    collects<B>(
        "feed_forward, its output layer", {2, 3},
        [&](const auto& p) {
          const V32<B> b1(Tensor<float, B>::full({3}, 1)), b2(Tensor<float, B>::full({2}, 0));
          return feed_forward(V16<B>(ones({1, 1})),
                              RoundedWeight<Half, B>{Tensor<Half, B>::zeros({3, 1})}, b1,
                              use<V16<B>>(p), b2, Activation::relu);
        },
        several);
  }
  // Within one operation: 10,000 rows of 1, and the bias of them.
  Parameter<Half, B> w = leaf<float, B>({1}, {1, 1}), b = leaf<float, B>({0}, {1});
  Tape tape;
  const RecordOn on(tape);
  const V32<B> bias = use<V32<B>>(b);
  const auto y = linear(V16<B>(ones({10000, 1})), use<V16<B>>(w), &bias);
  backward({{y, ones({10000, 1})}});
  CHECK(gradient(w) == Values{10000});
  CHECK(gradient(b) == Values{10000});
}

TEST_CASE_TEMPLATE("the gradient of a weight has the shape of its parameter", B, HOST_BACKENDS) {
  // Models take a convolution's weight as that of a product: the patches of an image.
  Parameter<Half, B> half = leaf<float, B>(normal(24, 1), {2, 3, 2, 2});
  Parameter<float, B> single = leaf<float, B>(normal(24, 1), {2, 3, 2, 2});
  Tape tape;
  const RecordOn on(tape);
  const auto y =
      linear(V16<B>(tensor<Half, B>(halves(24, 2), {2, 12})), reshape(use<V16<B>>(half), {2, 12}));
  backward({{y, y.tensor}});
  const auto z = linear(V32<B>(tensor<float, B>(halves(24, 2), {2, 12})),
                        reshape(use<V32<B>>(single), {2, 12}));
  backward({{z, z.tensor}});
  CHECK(single.slot.grad.shape() == single.value.shape());
  CHECK(half.slot.grad.shape() == half.value.shape());
}

TEST_CASE_TEMPLATE("bf16 against double: products", B, HOST_BACKENDS) {
  struct Case {
    Index rows, in, out;
  };
  for (const auto& c :
       {Case{1, 1, 1}, Case{3, 17, 5}, Case{65, 40, 33}, Case{0, 3, 5}, Case{200, 1, 17}}) {
    const std::vector<Given> given{Given::activation({c.rows, c.in}, 1),
                                   Given::weight({c.out, c.in}, 2), Given::vector({c.out}, 3)},
        no_bias(given.begin(), given.begin() + 2);
    INFO(c.rows << " x " << c.in << " x " << c.out);
    check_precision<B>("linear", no_bias, [](auto& in) { return linear(in.x(0), in.weight(1)); });
    check_precision<B>("linear, bias", given, []<Value V>(Inputs<V>& in) {
      const Wide<V> b = in.vector(2);
      return linear(in.x(0), in.weight(1), &b);
    });
    check_precision<B>("linear_as wide, bias", given, []<Value V>(Inputs<V>& in) {
      const Wide<V> b = in.vector(2);
      return linear_as<Wide<V>>(in.x(0), in.weight(1), &b);
    });
    for (Activation act :
         {Activation::identity, Activation::relu, Activation::gelu, Activation::gelu_tanh})
      check_precision<B>(
          "feed_forward",
          {Given::activation({c.rows, c.in}, 1), Given::weight({c.out, c.in}, 2),
           Given::vector({c.out}, 3), Given::weight({7, c.out}, 4), Given::vector({7}, 5)},
          [act]<Value V>(Inputs<V>& in) -> Wide<V> {
            return feed_forward(in.x(0), in.weight(1), in.vector(2), in.weight(3), in.vector(4),
                                act);
          });
  }
  check_precision<B>("linear, a weight in another shape",
                     {Given::activation({4, 12}, 1), Given::weight({2, 3, 2, 2}, 2)}, [](auto& in) {
                       return linear(in.x(0), reshape(in.weight(1), {2, 12}));
                     });
}

TEST_CASE_TEMPLATE("a product is rounded after its bias, not before", B, HOST_BACKENDS) {
  // 16.125^2 is 260.015625, and 260 in bf16: rounded before, what the bias leaves would be 0 and
  // the relu behind it shut.
  const std::vector<Given> given{{Given::Kind::activation, {1, 1}, {16.125}},
                                 {Given::Kind::weight, {1, 1}, {16.125}},
                                 {Given::Kind::vector, {1}, {-260}},
                                 {Given::Kind::weight, {1, 1}, {1}},
                                 {Given::Kind::vector, {1}, {0}}};
  const auto layer = run<Half, B>(given, []<Value V>(Inputs<V>& in) {
    const Wide<V> b = in.vector(2);
    return linear(in.x(0), in.weight(1), &b);
  });
  CHECK(layer.outputs[0] == Values{0.015625});
  const auto two = run<Half, B>(given, []<Value V>(Inputs<V>& in) -> Wide<V> {
    return feed_forward(in.x(0), in.weight(1), in.vector(2), in.weight(3), in.vector(4),
                        Activation::relu);
  });
  CHECK(two.outputs[0] == Values{0.015625});
  CHECK(two.gradients[2] != Values{0});
}

TEST_CASE_TEMPLATE("bf16 against double: normalisation", B, HOST_BACKENDS) {
  for (auto [r, n] : {std::pair<Index, Index>{1, 5}, {3, 17}, {65, 40}, {0, 5}}) {
    const Index rows = r, cols = n;
    INFO(rows << " x " << cols);
    const Given gain = Given::vector({cols}, 3, 1), bias = Given::vector({cols}, 4);
    check_precision<B>(
        "layer_norm", {Given::activation({rows, cols}, 1), gain, bias},
        [](auto& in) { return layer_norm(in.x(0), in.vector(1), in.vector(2), 1e-5); });
    check_precision<B>("layer_norm_as of a stream", {Given::sum({rows, cols}, 1), gain, bias},
                       []<Value V>(Inputs<V>& in) -> V {
                         return layer_norm_as<V>(in.wide(0), in.vector(1), in.vector(2), 1e-5);
                       });
    check_precision<B>(
        "add_norm_as", {Given::sum({rows, cols}, 1), Given::sum({rows, cols}, 2), gain, bias},
        []<Value V>(Inputs<V>& in) {
          return add_norm_as<V>(in.wide(0), in.wide(1), in.vector(2), in.vector(3), 1e-5);
        });
    for (bool moments : {false, true}) {
      if (moments && rows < 2) continue;
      check_precision<B>("batch_norm", {Given::activation({rows, cols}, 1), gain, bias},
                         [&]<Value V>(Inputs<V>& in) -> V {
                           using A = accumulator_of<scalar_of<V>>;
                           const V x = in.x(0);
                           Tensor<A, B> mean({cols}), var({cols}), rstd({cols});
                           if (moments)
                             B::column_moments(rows, cols, value(x).data(), mean.data(),
                                               var.data());
                           else
                             mean = var = Tensor<A, B>::full({cols}, A(0.5));
                           B::reciprocal_sqrt(cols, var.data(), A(1e-5), rstd.data());
                           return batch_norm(x, in.vector(1), in.vector(2), mean, rstd, moments);
                         });
    }
  }
}

namespace {

/// A backend without the fused kernel, and one whose kernel serves no shape.
struct Unfused : CpuBackend {
  template <class T>
  static void add_norm(Index, const T*) = delete;
};
static_assert(!BackendFusedAddNorm<Unfused, Half>);
struct Unserved : CpuBackend {
  template <class T, class Y>
  static bool add_norm(Index, Index, const T*, const T*, const T*, const T*, double, T*, Y*, T*,
                       T*) {
    return false;
  }
};
static_assert(BackendFusedAddNorm<Unserved, Half>);

}  // namespace

TEST_CASE("add_norm_as has the bits of add and layer_norm_as") {
  const std::vector<Given> given{Given::sum({33, 17}, 1), Given::sum({33, 17}, 2),
                                 Given::vector({17}, 3, 1), Given::vector({17}, 4)};
  const auto at_once = []<Value V>(Inputs<V>& in) {
    return add_norm_as<V>(in.wide(0), in.wide(1), in.vector(2), in.vector(3), 1e-5);
  };
  const auto apart = []<Value V>(Inputs<V>& in) {
    const Wide<V> sum = add(in.wide(0), in.wide(1));
    return std::pair<Wide<V>, V>(sum, layer_norm_as<V>(sum, in.vector(2), in.vector(3), 1e-5));
  };
  for (unsigned wanted = 0; wanted < 16; ++wanted) {
    const Results want = run<Half, CpuBackend>(given, apart, wanted);
    for (const Results& got :
         {run<Half, CpuBackend>(given, at_once, wanted), run<Half, Unfused>(given, at_once, wanted),
          run<Half, Unserved>(given, at_once, wanted)}) {
      CHECK(got.outputs == want.outputs);
      CHECK(got.gradients == want.gradients);
      CHECK(got.has == want.has);
    }
  }
}

TEST_CASE_TEMPLATE("bf16 against double: convolution and pooling", B, HOST_BACKENDS) {
  for (const ConvShape& s : {ConvShape{2, 7, 6, 3, 5, 3, 1, 1}, ConvShape{2, 7, 6, 3, 5, 3, 2, 1},
                             ConvShape{3, 4, 4, 8, 6, 1, 1, 0}, ConvShape{1, 9, 9, 3, 4, 7, 2, 3},
                             ConvShape{0, 7, 6, 3, 5, 3, 1, 1}}) {
    INFO("kernel " << s.kernel << " stride " << s.stride);
    check_precision<B>("conv2d",
                       {Given::activation({s.batch * s.height * s.width, s.in}, 1),
                        Given::weight({s.out, s.in, s.kernel, s.kernel}, 2, 0.2)},
                       [&](auto& in) { return conv2d(in.x(0), in.weight(1), s); });
  }
  for (const ConvShape& s : {ConvShape{2, 7, 6, 3, 3, 3, 2, 1}, ConvShape{2, 6, 6, 3, 3, 2, 2, 0},
                             ConvShape{1, 5, 5, 2, 2, 3, 1, 1}})
    check_precision<B>("max_pool", {Given::activation({s.batch * s.height * s.width, s.in}, 1)},
                       [&](auto& in) { return max_pool(in.x(0), s); });
}

TEST_CASE_TEMPLATE("bf16 against double: attention", B, HOST_BACKENDS) {
  const Index heads = 3, width = 15, area = 5;
  for (const auto& lengths : std::vector<std::vector<Index>>{{1}, {5, 3, 0, 1, 4}, {}, {70, 3}})
    for (Index gap : {0, 2}) {
      const auto s = packed<B>(lengths, gap);
      for (bool causal : {false, true})
        check_precision<B>(
            "self_attention", {Given::activation({s.rows, 3 * width}, 1)},
            [&]<Value V>(Inputs<V>& in) -> V {
              return self_attention(in.x(0), s, AttentionOptions<V>{heads, causal, nullptr, {}});
            });
      if (s.longest > area) continue;
      check_precision<B>(
          "self_attention, bias and mask",
          {Given::activation({s.rows, 3 * width}, 1), Given::vector({heads * area, area}, 2)},
          [&]<Value V>(Inputs<V>& in) -> V {
            using A = accumulator_of<scalar_of<V>>;
            Values mask(2 * area * area, 0.0);
            for (std::size_t i = 0; i < mask.size(); ++i)
              if (i % 3 == 1) mask[i] = -100;
            const Wide<V> bias = in.vector(1);
            return self_attention(
                in.x(0), s,
                AttentionOptions<V>{heads, false, &bias, tensor<A, B>(mask, {2, area, area})});
          });
    }
  for (Index gap : {0, 2}) {
    const auto qs = packed<B>({3, 2, 0, 4}, gap), ks = packed<B>({5, 0, 3, 7}, gap);
    check_precision<B>(
        "cross_attention",
        {Given::activation({qs.rows, width}, 1), Given::activation({ks.rows, 2 * width}, 2)},
        [&](auto& in) { return cross_attention(in.x(0), in.x(1), qs, ks, heads); });
  }
}

TEST_CASE_TEMPLATE("bf16 against double: rows", B, HOST_BACKENDS) {
  for (Index rows : {1, 5}) {
    const Given x = Given::activation({rows, 17}, 1), sum = Given::sum({rows, 17}, 2);
    std::vector<std::int32_t> list;
    for (std::int32_t i = 0; i < 30; ++i)
      list.push_back(i % 7 == 3 ? -1 : i * i % static_cast<std::int32_t>(rows));
    const auto index = indices<B>(list);
    check_precision<B>("gather_rows", {x}, [&](auto& in) { return gather_rows(in.x(0), index); });
    check_precision<B>("gather_rows of a sum", {sum},
                       [&](auto& in) { return gather_rows(in.wide(0), index); });
    check_precision<B>(
        "gather_rows of a weight as an activation", {Given::weight({rows, 17}, 1)},
        [&]<Value V>(Inputs<V>& in) -> V { return gather_rows(V(in.weight(0)), index); });
    check_precision<B>("gather_rows of an embedding", {Given::vector({rows, 17}, 1)},
                       [&](auto& in) { return gather_rows(in.vector(0), index); });
    check_precision<B>("add_row_vector", {x, Given::vector({17}, 3)},
                       [](auto& in) { return add_row_vector(in.x(0), in.vector(1)); });
    check_precision<B>("normalize_rows", {x}, [](auto& in) { return normalize_rows(in.x(0)); });
    check_precision<B>("stack_rows", {x, Given::activation({3, 17}, 4)},
                       [](auto& in) { return stack_rows(in.x(0), in.x(1)); });
    if (rows > 1)  // all rows are the value itself
      check_precision<B>("slice_rows", {x},
                         [&](auto& in) { return slice_rows(in.x(0), rows / 2, rows); });
    check_precision<B>("reshape", {x}, [&](auto& in) { return reshape(in.x(0), {17, rows}); });
  }
  const std::vector<double> dense{0.5, 0.25, 0, 0, 0.25, 0, 0, 0, 0, 0, -1, 0, 2, 0, 0.3};
  for (Index batch : {0, 1, 3})
    check_precision<B>("mix_rows", {Given::activation({batch * 5, 7}, 1)},
                       [&]<Value V>(Inputs<V>& in) -> V {
                         return mix_rows(in.x(0), RowMixing<scalar_of<V>, B>(3, 5, dense));
                       });
}

TEST_CASE_TEMPLATE("bf16 against double: element by element, and one value used twice", B,
                   HOST_BACKENDS) {
  const Given a = Given::activation({5, 7}, 1), b = Given::activation({5, 7}, 2),
              one = Given::activation({1}, 3);
  check_precision<B>("add", {a, b}, [](auto& in) { return add(in.x(0), in.x(1)); });
  check_precision<B>("add one", {a, one}, [](auto& in) { return add(in.x(0), in.x(1)); });
  check_precision<B>("multiply", {a, b}, [](auto& in) { return multiply(in.x(0), in.x(1)); });
  check_precision<B>("multiply by one", {a, one},
                     [](auto& in) { return multiply(in.x(0), in.x(1)); });
  check_precision<B>("scale", {a}, [](auto& in) { return scale(in.x(0), -0.7); });
  for (Activation act : {Activation::relu, Activation::gelu, Activation::gelu_tanh})
    check_precision<B>("activate", {a}, [act](auto& in) { return activate(in.x(0), act); });
  check_precision<B>("widen and narrow", {a}, []<Value V>(Inputs<V>& in) -> V {
    const V x = in.x(0);
    return narrow<scalar_of<V>>(scale(add(widen(x), widen(x)), 0.7));
  });
  check_precision<B>("a branch of a stream", {Given::sum({5, 7}, 1), Given::weight({7, 7}, 2)},
                     []<Value V>(Inputs<V>& in) {
                       const Wide<V> x = in.wide(0);
                       return add(x, linear_as<Wide<V>>(narrow<scalar_of<V>>(x), in.weight(1)));
                     });
  check_precision<B>("one weight, used as a factor and as an activation",
                     {Given::activation({7, 7}, 1), Given::weight({7, 7}, 2)},
                     []<Value V>(Inputs<V>& in) -> V {
                       const auto w = in.weight(1);
                       return add(linear(in.x(0), w), multiply(V(w), in.x(0)));
                     });
}

TEST_CASE_TEMPLATE("bf16: the gradients of many readers are added up in float, and rounded once", B,
                   HOST_BACKENDS) {
  Tape tape;
  const RecordOn on(tape);
  GradientSlot<Half, B> slot;
  const V16<B> x(tensor<Half, B>(Values(4, 1), {2, 2}), &slot);
  V32<B> y = widen(x);
  for (int k = 1; k < 600; ++k) y = add(y, widen(x));
  CHECK(values(y.tensor) == Values(4, 600));
  backward({{y, tensor<float, B>(Values(4, 1), {2, 2})}});
  CHECK(values(slot.gradient()) == Values(4, 600));  // bf16 sums stick at 256
  GradientSlot<Half, B> rows;
  const V16<B> z(tensor<Half, B>(Values(2, 1), {2, 1}), &rows);
  V32<B> total = widen(gather_rows(z, indices<B>(std::vector<std::int32_t>(300, 1))));
  total = add(total, widen(gather_rows(z, indices<B>(std::vector<std::int32_t>(300, 1)))));
  backward({{total, Tensor<float, B>::full({300, 1}, 1)}});
  CHECK(values(rows.gradient()) == Values{0, 600});
}

TEST_CASE_TEMPLATE("a layer in bf16 rounds what it is given, wide or not", B, HOST_BACKENDS) {
  const auto x = tensor<float, B>(floats(2 * 9 * 3, 1), {18, 3});
  nn::Convolution<Half, B> conv(3, 4, 3);
  nn::BatchNorm<Half, B> norm(3);
  nn::initialise(conv, 1);
  static_assert(std::is_same_v<decltype(conv(x, 2, 3)), Tensor<Half, B>>);
  static_assert(std::is_same_v<decltype(norm(x, nn::Mode{})), Tensor<Half, B>>);
  CHECK(values(conv(x, 2, 3)) == values(conv(narrow<Half>(x), 2, 3)));
  CHECK(values(norm(x, nn::Mode::inspection())) ==
        values(norm(narrow<Half>(x), nn::Mode::inspection())));
}

TEST_CASE_TEMPLATE("a layer in bf16 without parameters says so", B, HOST_BACKENDS) {
  const auto x = tensor<Half, B>(Values(6, 1), {2, 3});
  CHECK(holds(error_of([&] { nn::Linear<Half, B>()(x); }), "an input is an undefined tensor"));
  CHECK(holds(error_of([&] { nn::LayerNorm<Half, B>()(x); }), "an input is an undefined tensor"));
}

TEST_CASE_TEMPLATE("what is read inside and outside of recompute has one sum", P,
                   On<float, CpuBackend>, On<bfloat16, CpuBackend>, On<bfloat16, Reference>) {
  using T = typename P::T;
  using B = typename P::B;
  using V = Variable<T, B>;
  const Parameter<T, B> w = leaf<master_of<T>, B>(normal(16, 1), {4, 4});
  const auto f = [&w](const V& x) {
    const V y = scale(x, 1.7);
    return std::pair<V, V>(y, linear(y, use<V>(w)));
  };
  const auto gradients = [&](auto&& call) {
    GradientSlot<T, B> dx;
    Tape tape;
    const RecordOn on(tape);
    const auto [y, z] = call(V(tensor<T, B>(halves(200, 2), {50, 4}), &dx));
    const auto g = [](std::uint64_t seed) { return tensor<T, B>(halves(200, seed), {50, 4}); };
    backward({{scale(y, 0.3), g(3)}, {scale(y, 1.1), g(4)}, {y, g(5)}, {z, g(6)}});
    std::vector<Values> all{values(dx.gradient()), gradient(w)};
    w.slot.grad = {};
    return all;
  };
  const auto plain = gradients(f);
  CHECK(gradients([&](const V& x) { return recompute(f, x); }) == plain);
  CHECK(gradients([&](const V& x) {
          return recompute([&f](const V& h) { return recompute(f, h); }, x);
        }) == plain);
}
