// Every differentiable operation against central differences in double, on the reference and on the
// CPU backend; and the rules of recording: what is recorded, what is not, and how contributions add
// up.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

// The headers of operations need a backend before them.
#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"

#include "hybridmed/autograd/attention.hpp"
#include "hybridmed/autograd/convolution.hpp"
#include "hybridmed/autograd/feed_forward.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/norm.hpp"
#include "hybridmed/autograd/rows.hpp"

using namespace hybridmed;
using hybridmed::test::error_of;

#define BACKENDS Reference, CpuBackend

namespace {

template <class B>
using X = Tensor<double, B>;
template <class B>
using Var = Variable<double, B>;
template <class B>
using Slot = GradientSlot<double, B>;

template <class B>
X<B> random(const Shape& shape, std::uint64_t stream, double size = 1, double shift = 0) {
  std::vector<double> v(static_cast<std::size_t>(shape.size()));
  const Philox p(11, stream);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = shift + size * p.normal(i);
  return X<B>::from_host(v, shape);
}
template <class B>
IndexTensor<B> indices(const std::vector<std::int32_t>& v) {
  return IndexTensor<B>::from_host(v, {static_cast<Index>(v.size())});
}
template <class B>
Segments<B> segments(const std::vector<Index>& lengths) {
  std::vector<std::int32_t> ranges;
  Index at = 0;
  for (Index n : lengths)
    ranges.push_back(static_cast<std::int32_t>(at)),
        ranges.push_back(static_cast<std::int32_t>(at += n));
  return Segments<B>(ranges, at);
}

template <class B>
std::vector<double> host(const Slot<B>& s, Index n) {
  return s.grad.defined() ? s.grad.to_host() : std::vector<double>(static_cast<std::size_t>(n));
}
/// max|a - b| / max(max|b|, floor): a difference quotient is exact to about 1e-10, so gradients
/// below 0.01 count as that.
double error(const std::vector<double>& a, const std::vector<double>& b, double floor = 1e-2) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0, largest = floor;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i]))
      return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(a[i] - b[i])), largest = std::max(largest, std::abs(b[i]));
  }
  return worst / largest;
}

/// Checks everything about one operation at one point. f takes a vector of Variables or of plain
/// Tensors.
/// - plain Tensors give the same result and record nothing, and so do Variables without slots or
/// under NoGrad;
/// - the gradient of <random weights, f> equals central differences for every input;
/// - any subset of the inputs may be frozen: the others get the same gradient, the frozen ones
/// none;
/// - a second pass adds the same gradient once more, and no memory stays behind.
template <class B, class F>
void check(const std::string& what, const std::vector<X<B>>& inputs, F&& f, double step = 1e-6,
           double bound = 1e-6) {
  INFO(what << " on " << B::name);
  const auto in_use = HostArena::instance().statistics().in_use;
  {
    const X<B> plain = f(inputs);
    const auto y0 = plain.to_host();
    const X<B> weight = random<B>(plain.shape(), 999);
    const auto loss = [&](const std::vector<X<B>>& x) {
      const X<B> y = f(x);
      double s = 0;
      for (Index i = 0; i < y.size(); ++i) s += y.data()[i] * weight.data()[i];
      return s;
    };
    std::vector<std::vector<double>> expected;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      auto moved = inputs;
      moved[i] = inputs[i].clone();
      std::vector<double> g;
      for (Index e = 0; e < inputs[i].size(); ++e) {
        double& x = moved[i].data()[e];
        const double x0 = x;
        x = x0 + step;
        const double up = x, above = loss(moved);
        x = x0 - step;
        const double down = x, below = loss(moved);
        x = x0;
        g.push_back((above - below) / (up - down));
      }
      expected.push_back(std::move(g));
    }

    Tape tape;
    const RecordOn on(tape);
    CHECK(f(inputs).to_host() == y0);
    CHECK(tape.size() == 0);
    const auto run = [&](unsigned wanted, int times) {
      std::vector<Slot<B>> slots(inputs.size());
      std::vector<Var<B>> x;
      for (std::size_t i = 0; i < inputs.size(); ++i)
        x.emplace_back(inputs[i], wanted >> i & 1u ? &slots[i] : nullptr);
      {
        const NoGrad off;
        CHECK(f(x).tensor.to_host() == y0);
      }
      CHECK(tape.size() == 0);
      for (int t = 0; t < times; ++t) {
        const Var<B> y = f(x);
        CHECK(y.tensor.to_host() == y0);
        CHECK(y.shape() == plain.shape());
        if (wanted == 0) {
          CHECK(tape.size() == 0);
          CHECK(y.slot == nullptr);
        } else if (y.slot) {
          y.slot->add(weight.clone());
          tape.backward();
          CHECK(tape.size() == 0);
        }
      }
      return slots;
    };
    const unsigned all = (1u << inputs.size()) - 1;
    const auto full = run(all, 1), twice = run(all, 2);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      INFO("input " << i);
      const auto g = host(full[i], inputs[i].size());
      CHECK(error(g, expected[i]) <= bound);
      auto doubled = g;
      for (double& d : doubled) d *= 2;
      CHECK(error(host(twice[i], inputs[i].size()), doubled) <= 1e-12);
    }
    for (unsigned wanted = 0; wanted < all; ++wanted) {
      INFO("wanted inputs " << wanted);
      const auto some = run(wanted, 1);
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (wanted >> i & 1u)
          CHECK(host(some[i], inputs[i].size()) == host(full[i], inputs[i].size()));
        else
          CHECK_FALSE(some[i].grad.defined());
      }
    }
  }
  CHECK(HostArena::instance().statistics().in_use == in_use);
}

const std::pair<Activation, const char*> activations[] = {{Activation::identity, "identity"},
                                                          {Activation::relu, "relu"},
                                                          {Activation::gelu, "gelu"},
                                                          {Activation::gelu_tanh, "gelu_tanh"}};

/// Random values at least 0.01 away from the kink of relu.
template <class B>
X<B> off_zero(const Shape& shape, std::uint64_t stream) {
  X<B> x = random<B>(shape, stream);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] += x.data()[i] < 0 ? -0.01 : 0.01;
  return x;
}

bool from(const std::string& message, const std::string& operation) {
  return message.rfind("[hybridmed.autograd] " + operation + ": ", 0) == 0;
}

}  // namespace

// ---------------------------------------------------------------- element by element, products

TEST_CASE_TEMPLATE("gradients of element-wise operations", B, BACKENDS) {
  for (const Shape& s : {Shape{3, 17}, Shape{1}, Shape{}, Shape{0, 5}, Shape{2, 3, 5}}) {
    const auto a = off_zero<B>(s, 1), b = random<B>(s, 2), mask = random<B>(s, 3);
    check<B>("add", {a, b}, [](const auto& x) { return add(x[0], x[1]); });
    check<B>("scale", {a}, [](const auto& x) { return scale(x[0], -1.7); });
    check<B>("multiply", {a}, [&](const auto& x) { return multiply(x[0], mask); });
    for (auto [kind, name] : activations)
      check<B>(std::string("activate ") + name, {a},
               [kind = kind](const auto& x) { return activate(x[0], kind); });
  }
}

TEST_CASE_TEMPLATE("gradients of linear", B, BACKENDS) {
  struct Case {
    Index rows, in, out;
  };
  for (const auto& c :
       {Case{1, 1, 1}, Case{3, 17, 5}, Case{17, 3, 1}, Case{0, 3, 5}, Case{5, 1, 17}}) {
    const std::string s = "linear " + std::to_string(c.rows) + " x " + std::to_string(c.in) +
                          " x " + std::to_string(c.out);
    const auto x0 = random<B>({c.rows, c.in}, 1), w = random<B>({c.out, c.in}, 2),
               b = random<B>({c.out}, 3);
    check<B>(s, {x0, w}, [](const auto& x) { return linear(x[0], x[1]); });
    check<B>(s + ", bias", {x0, w, b}, [](const auto& x) { return linear(x[0], x[1], &x[2]); });
  }
}

TEST_CASE_TEMPLATE("gradients of feed_forward", B, BACKENDS) {
  struct Case {
    Index rows, in, hidden, out;
  };
  for (const auto& c :
       {Case{1, 1, 1, 1}, Case{3, 5, 17, 5}, Case{4, 3, 5, 2}, Case{0, 3, 5, 3}, Case{5, 1, 3, 4}})
    for (auto [kind, name] : activations) {
      const std::string s = "feed_forward of " + std::to_string(c.rows) + " rows, " + name;
      const auto x0 = random<B>({c.rows, c.in}, 1), w1 = random<B>({c.hidden, c.in}, 2),
                 b1 = off_zero<B>({c.hidden}, 3), w2 = random<B>({c.out, c.hidden}, 4),
                 b2 = random<B>({c.out}, 5);
      check<B>(s, {x0, w1, b1, w2, b2}, [kind = kind](const auto& x) {
        return feed_forward(x[0], x[1], x[2], x[3], x[4], kind);
      });
    }
}

TEST_CASE_TEMPLATE("gradients of scaled_similarity", B, BACKENDS) {
  const auto scale0 = random<B>({}, 3);
  for (auto [n, m, d] : {std::tuple<Index, Index, Index>{1, 1, 1},
                         {3, 5, 17},
                         {7, 7, 3},
                         {0, 3, 5},
                         {3, 0, 5},
                         {0, 0, 5}})
    check<B>("scaled_similarity", {random<B>({n, d}, 1), random<B>({m, d}, 2), scale0},
             [](const auto& x) { return scaled_similarity(x[0], x[1], x[2]); });
}

// ---------------------------------------------------------------- rows

TEST_CASE_TEMPLATE("gradients of row selections", B, BACKENDS) {
  const auto x0 = random<B>({5, 3}, 1), none = random<B>({0, 3}, 2), other = random<B>({7, 3}, 3);
  for (const auto& list :
       {std::vector<std::int32_t>{0, 4, 4, -1, 2, 4, -3, 0}, {}, {-1, -1}, {3}}) {
    const auto index = indices<B>(list);
    check<B>("gather_rows", {x0}, [&](const auto& x) { return gather_rows(x[0], index); });
  }
  check<B>("gather_rows of nothing", {none},
           [index = indices<B>({-1, -1})](const auto& x) { return gather_rows(x[0], index); });
  for (auto [a, b] : {std::pair<Index, Index>{1, 3}, {0, 5}, {2, 2}, {0, 1}, {4, 5}, {5, 5}})
    check<B>("slice_rows", {x0}, [a = a, b = b](const auto& x) { return slice_rows(x[0], a, b); });
  check<B>("slice_rows of a slice", {x0},
           [](const auto& x) { return slice_rows(slice_rows(x[0], 1, 5), 1, 3); });
  check<B>("stack_rows", {x0, other}, [](const auto& x) { return stack_rows(x[0], x[1]); });
  check<B>("stack_rows on nothing", {none, other},
           [](const auto& x) { return stack_rows(slice_rows(x[0], 0, 0), x[1]); });
  check<B>("stack_rows, x on x", {x0}, [](const auto& x) { return stack_rows(x[0], x[0]); });
}

TEST_CASE_TEMPLATE("stack_rows with an empty part is the other part", B, BACKENDS) {
  Tape tape;
  const RecordOn on(tape);
  Slot<B> sa, sb;
  const Var<B> a(random<B>({3, 2}, 1), &sa), none(random<B>({0, 2}, 2), &sb);
  CHECK(stack_rows(a, none).slot == &sa);
  CHECK(stack_rows(none, a).slot == &sa);
  CHECK(stack_rows(none, none).rows() == 0);
  CHECK(tape.size() == 0);
}

TEST_CASE_TEMPLATE("gradients of row operations", B, BACKENDS) {
  for (Index rows : {0, 1, 5}) {
    const auto x0 = random<B>({rows, 17}, 1), v = random<B>({17}, 2);
    check<B>("add_row_vector", {x0, v}, [](const auto& x) { return add_row_vector(x[0], x[1]); });
    check<B>("normalize_rows", {x0}, [](const auto& x) { return normalize_rows(x[0]); });
    check<B>("reshape", {x0}, [=](const auto& x) { return reshape(x[0], {17, rows}); });
  }
  check<B>("reshape to five extents", {random<B>({6, 4}, 1)}, [](const auto& x) {
    return reshape(x[0], {1, 2, 3, 2, 2});
  });
  const RowMixing<double, B> mixing(3, 5,
                                    {0.5, 0.25, 0, 0, 0.25, 0, 0, 0, 0, 0, -1, 0, 2, 0,
                                     0.3});  // one output takes nothing, one input goes nowhere
  for (Index batch : {0, 1, 3})
    check<B>("mix_rows", {random<B>({batch * 5, 7}, 1)},
             [&](const auto& x) { return mix_rows(x[0], mixing); });
}

TEST_CASE_TEMPLATE("gradient of normalize_rows at a zero row", B, BACKENDS) {
  // Below length 1e-12 the divisor is a constant: the differences must stay below it as well.
  check<B>(
      "a zero row", {X<B>::zeros({1, 5})}, [](const auto& x) { return normalize_rows(x[0]); },
      1e-14);
  // Beside other rows it changes nothing for them, and nothing becomes NaN.
  X<B> x0 = random<B>({3, 5}, 1);
  for (Index c = 0; c < 5; ++c) x0.data()[5 + c] = 0;
  Tape tape;
  const RecordOn on(tape);
  Slot<B> s;
  const Var<B> y = normalize_rows(Var<B>(x0, &s));
  const auto w = random<B>({3, 5}, 2);
  y.slot->add(w);
  tape.backward();
  for (Index r : {0, 2}) {
    Slot<B> alone;
    normalize_rows(Var<B>(x0.row_slice(r, r + 1), &alone)).slot->add(w.row_slice(r, r + 1));
    tape.backward();
    CHECK(s.grad.row_slice(r, r + 1).to_host() == alone.grad.to_host());
  }
  for (Index c = 0; c < 5; ++c) {
    CHECK(y.tensor.data()[5 + c] == 0);
    CHECK(s.grad.data()[5 + c] == doctest::Approx(w.data()[5 + c] * 1e12));
  }
}

// ---------------------------------------------------------------- normalisation

TEST_CASE_TEMPLATE("gradients of layer_norm", B, BACKENDS) {
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {17, 3}, {0, 5}, {1, 65}}) {
    const auto gain = random<B>({cols}, 2, 0.3, 1), bias = random<B>({cols}, 3);
    check<B>("layer_norm", {random<B>({rows, cols}, 1, 2, 0.5), gain, bias},
             [](const auto& x) { return layer_norm(x[0], x[1], x[2], 1e-5); });
  }
  const auto gain = random<B>({5}, 2, 0.3, 1), bias = random<B>({5}, 3);
  // Equal elements: the standard deviation is sqrt(eps) alone; eps as in BERT would need a smaller
  // step than rounding allows.
  check<B>("layer_norm of a constant row", {X<B>::full({2, 5}, 0.7), gain, bias},
           [](const auto& x) { return layer_norm(x[0], x[1], x[2], 1e-4); });
}

TEST_CASE_TEMPLATE("gradients of batch_norm", B, BACKENDS) {
  for (auto [rows, cols] : {std::pair<Index, Index>{1, 1}, {3, 17}, {17, 3}, {0, 5}, {65, 1}}) {
    const Index n = cols;
    const auto x0 = random<B>({rows, n}, 1, 2, 0.5), gain = random<B>({n}, 2, 0.3, 1),
               bias = random<B>({n}, 3), mean = random<B>({n}, 4), rstd = random<B>({n}, 5, 0.1, 1);
    check<B>("batch_norm with fixed statistics", {x0, gain, bias},
             [&](const auto& x) { return batch_norm(x[0], x[1], x[2], mean, rstd, false); });
    if (rows == 0) continue;  // no statistics
    check<B>("batch_norm with its own statistics", {x0, gain, bias}, [&](const auto& x) {
      X<B> m({n}), v({n});
      B::column_moments(value(x[0]).rows(), n, value(x[0]).data(), m.data(), v.data());
      B::reciprocal_sqrt(n, v.data(), 1e-3, v.data());
      return batch_norm(x[0], x[1], x[2], m, v, true);
    });
  }
}

// ---------------------------------------------------------------- attention

TEST_CASE_TEMPLATE("gradients of self_attention", B, BACKENDS) {
  const Index heads = 2, dim = 3, width = heads * dim;
  for (const auto& lengths : {std::vector<Index>{1}, {5}, {3, 1, 0, 7}, {0}, {}, {67}})
    for (bool causal : {false, true}) {
      const auto s = segments<B>(lengths);
      check<B>(causal ? "self_attention, causal" : "self_attention",
               {random<B>({s.rows, 3 * width}, 1, s.rows > 60 ? 0.5 : 1)}, [&](const auto& x) {
                 AttentionOptions<std::decay_t<decltype(x[0])>> o;
                 o.heads = heads, o.causal = causal;
                 return self_attention(x[0], s, o);
               });
    }
}

TEST_CASE_TEMPLATE("gradients of self_attention with bias and mask", B, BACKENDS) {
  const Index heads = 2, dim = 3, area = 5, windows = 2;
  const auto run = [&](const char* what, const std::vector<Index>& lengths, bool causal,
                       bool with_bias, const X<B>& mask) {
    const auto s = segments<B>(lengths);
    std::vector<X<B>> inputs{random<B>({s.rows, 3 * heads * dim}, 1)};
    if (with_bias) inputs.push_back(random<B>({heads * area, area}, 2));
    check<B>(what, inputs, [&](const auto& x) {
      AttentionOptions<std::decay_t<decltype(x[0])>> o;
      o.heads = heads, o.causal = causal, o.mask = mask;
      if (with_bias) o.bias = &x[1];
      return self_attention(x[0], s, o);
    });
  };
  X<B> mask = X<B>::zeros({windows, area, area});
  for (Index i = 0; i < mask.size(); ++i)
    if (i % 3 == 1) mask.data()[i] = -100;
  for (Index j = 0; j < area; ++j) mask.data()[area + j] = -100;  // one row is masked as a whole
  X<B> shut = mask.clone();  // the same pairs shut out entirely, one key of each row left
  for (Index i = 0; i < shut.size(); ++i)
    if (shut.data()[i] != 0)
      shut.data()[i] = i % area == 0 ? 0 : -std::numeric_limits<double>::infinity();
  const std::vector<Index> full{5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, ragged{5, 3, 0, 1, 4};
  run("bias", full, false, true, {});
  run("bias, ragged", ragged, false, true, {});
  run("mask", full, false, false, mask);
  run("mask of minus infinity", full, false, true, shut);
  run("bias and mask", full, false, true, mask);
  run("bias and mask, ragged, causal", ragged, true, true, mask);
  run("bias and mask of no segments", {}, false, true, mask);
}

TEST_CASE_TEMPLATE("gradients of cross_attention", B, BACKENDS) {
  struct Case {
    const char* name;
    std::vector<Index> queries, keys;
  };
  for (const Case& c :
       {Case{"one", {1}, {1}}, Case{"ragged", {3, 1, 5}, {1, 7, 3}},
        Case{"an empty memory segment", {3, 2, 1}, {5, 0, 2}},
        Case{"only empty memory", {3, 2}, {0, 0}}, Case{"no queries in a segment", {0, 2}, {3, 5}},
        Case{"no segments", {}, {}}, Case{"blocks of queries", {67}, {3}}})
    for (Index heads : {1, 3}) {
      const auto qs = segments<B>(c.queries), ks = segments<B>(c.keys);
      check<B>(std::string("cross_attention: ") + c.name,
               {random<B>({qs.rows, 9}, 1), random<B>({ks.rows, 18}, 2)},
               [&](const auto& x) { return cross_attention(x[0], x[1], qs, ks, heads); });
    }
  // Memory rows outside every segment: nobody sees them.
  const Segments<B> qs(std::vector<std::int32_t>{0, 3, 3, 5}, 5),
      ks(std::vector<std::int32_t>{1, 3, 4, 6}, 7);
  check<B>("cross_attention with gaps", {random<B>({5, 9}, 1), random<B>({7, 18}, 2)},
           [&](const auto& x) { return cross_attention(x[0], x[1], qs, ks, 3); });
}

// ---------------------------------------------------------------- convolution

TEST_CASE_TEMPLATE("gradients of conv2d and max_pool", B, BACKENDS) {
  for (Index kernel : {1, 3, 7})
    for (Index stride : {1, 2})
      for (Index batch : {0, 1, 3}) {
        const ConvShape s{batch, 5, 7, 2, 3, kernel, stride, kernel / 2};
        check<B>("conv2d", {random<B>({batch * 35, 2}, 1), random<B>({3, 2, kernel, kernel}, 2)},
                 [&](const auto& x) { return conv2d(x[0], x[1], s); });
      }
  check<B>("conv2d, 9 images of one pixel", {random<B>({9, 1}, 1), random<B>({1, 1, 3, 3}, 2)},
           [](const auto& x) {
             return conv2d(x[0], x[1], ConvShape{9, 1, 1, 1, 1, 3, 1, 1});
           });
  for (const auto& s : {ConvShape{2, 7, 5, 3, 3, 3, 2, 1}, ConvShape{1, 4, 4, 1, 1, 2, 2, 0},
                        ConvShape{0, 7, 5, 3, 3, 3, 2, 1}, ConvShape{1, 1, 1, 2, 2, 3, 1, 1}})
    check<B>("max_pool", {random<B>({s.batch * s.height * s.width, s.in}, 1)},
             [&](const auto& x) { return max_pool(x[0], s); });
}

// ---------------------------------------------------------------- losses

TEST_CASE_TEMPLATE("gradients of the losses over classes", B, BACKENDS) {
  for (auto [r, c] : {std::pair<Index, Index>{0, 3}, {1, 1}, {1, 2}, {5, 7}, {3, 17}}) {
    const Index rows = r, classes = c;
    std::vector<std::int32_t> t;
    for (Index i = 0; i < rows; ++i) t.push_back(static_cast<std::int32_t>((i + 1) * 5 % classes));
    const auto target = indices<B>(t);
    const auto z = random<B>({rows, classes}, 1, 2), teacher = random<B>({rows, classes}, 2, 2);
    for (double smoothing : {0.0, 0.1})
      check<B>("cross_entropy", {z},
               [&](const auto& x) { return cross_entropy(x[0], target, smoothing); });
    for (double tau : {1.0, 2.5})
      check<B>("distillation", {z},
               [&](const auto& x) { return distillation(x[0], teacher, tau); });
    if (rows == 0) {
      CHECK(cross_entropy(z, target, 0.1).item() == 0);
      CHECK(distillation(z, teacher, 1).item() == 0);
    } else {
      CHECK(std::abs(distillation(teacher, teacher, 2.5).item()) < 1e-14);  // zero when they match
    }
  }
}

TEST_CASE_TEMPLATE("gradients of symmetric_cross_entropy", B, BACKENDS) {
  for (Index n : {0, 1, 3, 7})
    for (bool with_keys : {false, true})
      for (double smoothing : {0.0, 0.1}) {
        std::vector<std::int32_t> k;
        for (Index i = 0; i < n; ++i) k.push_back(static_cast<std::int32_t>(i % 3 == 2 ? 0 : i));
        const IndexTensor<B> keys = with_keys ? indices<B>(k) : IndexTensor<B>();
        const auto z = random<B>({n, n}, 1, 2);
        check<B>("symmetric_cross_entropy of " + std::to_string(n), {z}, [&](const auto& x) {
          return symmetric_cross_entropy(x[0], keys, smoothing, 0.3, 0.7);
        });
        if (n <= 1) CHECK(symmetric_cross_entropy(z, keys, smoothing, 0.5, 0.5).item() == 0);
      }
}

TEST_CASE_TEMPLATE("gradients of local_scores", B, BACKENDS) {
  struct Case {
    Index images, regions, dim;
    std::vector<Index> words;
  };
  for (const Case& c : {Case{1, 1, 1, {1}}, Case{2, 5, 3, {1, 1}}, Case{3, 7, 5, {1, 9, 3}},
                        Case{2, 3, 2, {3, 30, 1}}, Case{0, 3, 2, {3}}, Case{2, 3, 2, {}}})
    for (auto aggregation :
         {LocalAggregation::mean, LocalAggregation::sum, LocalAggregation::max}) {
      std::vector<std::int32_t> o{0};
      for (Index n : c.words) o.push_back(static_cast<std::int32_t>(o.back() + n));
      const auto offsets = indices<Reference>(o);
      LocalScore h;
      h.aggregation = aggregation;
      check<B>("local_scores",
               {random<B>({c.images * c.regions, c.dim}, 1), random<B>({o.back(), c.dim}, 2)},
               [&](const auto& x) { return local_scores(x[0], c.images, x[1], offsets, h); });
    }
}

// ---------------------------------------------------------------- several uses of one variable

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
  shared("local_scores", [o = indices<Reference>({0, 1, 2, 3, 4, 5})](const auto& x) {
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

// ---------------------------------------------------------------- recording

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

    Parameter<double, B> p(Shape{3, 3});
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

// ---------------------------------------------------------------- misuse

TEST_CASE_TEMPLATE("misuse is an Error of this area", B, BACKENDS) {
  const auto r = [](const Shape& s) { return random<B>(s, 1); };
  Slot<B> s;
  const Var<B> one(r({}), &s), many(r({3}), &s);
  CHECK(from(error_of([&] { backward(one); }), "backward"));  // no tape
  {
    Tape tape;
    const RecordOn on(tape);
    CHECK(from(error_of([&] { backward(many); }), "backward"));
    CHECK(from(error_of([&] { add(many, one); }), "add"));  // Variables are checked as Tensors are
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
               local_scores(r({5, 2}), 2, r({3, 2}), indices<Reference>({0, 3}), {});
             }),
             "local_scores"));  // 5 regions for 2 images
  CHECK(from(error_of([&] {
               local_scores(r({4, 2}), 2, r({3, 3}), indices<Reference>({0, 3}), {});
             }),
             "local_scores"));  // widths 2 and 3
  CHECK(from(error_of([&] {
               local_scores(r({4, 2}), 2, r({3, 2}), indices<Reference>({0, 1}), {});
             }),
             "local_scores"));  // 1 word of 3
}
