// Layers against the textbook: BatchNorm, Dropout, windowed attention, patches, Transformer blocks.
#include <doctest/doctest.h>

#include "../support.hpp"
#include "hybridmed/nn/patches.hpp"
#include "hybridmed/nn/transformer.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

using Matrix = Values;  // row-major

/// y = x W^T + b
Matrix dense(const Matrix& x, Index in, const Matrix& w, const Matrix& b) {
  const Index rows = static_cast<Index>(x.size()) / in, out = static_cast<Index>(w.size()) / in;
  Matrix y(static_cast<std::size_t>(rows * out));
  for (Index r = 0; r < rows; ++r)
    for (Index o = 0; o < out; ++o) {
      double s = b.empty() ? 0 : b[static_cast<std::size_t>(o)];
      for (Index i = 0; i < in; ++i)
        s += x[static_cast<std::size_t>(r * in + i)] * w[static_cast<std::size_t>(o * in + i)];
      y[static_cast<std::size_t>(r * out + o)] = s;
    }
  return y;
}
Matrix normed(const Matrix& x, Index cols, const Matrix& gain, const Matrix& bias, double eps) {
  Matrix y(x.size());
  for (std::size_t r = 0; r < x.size() / static_cast<std::size_t>(cols); ++r) {
    double mean = 0, var = 0;
    const std::size_t n = static_cast<std::size_t>(cols);
    for (std::size_t c = 0; c < n; ++c) mean += x[r * n + c] / static_cast<double>(n);
    for (std::size_t c = 0; c < n; ++c)
      var += (x[r * n + c] - mean) * (x[r * n + c] - mean) / static_cast<double>(n);
    for (std::size_t c = 0; c < n; ++c)
      y[r * n + c] = gain[c] * (x[r * n + c] - mean) / std::sqrt(var + eps) + bias[c];
  }
  return y;
}
Matrix plus(Matrix a, const Matrix& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}
/// Multi-head attention over all rows, score(i, j, head) added before the softmax. qkv (rows, 3
/// width).
template <class F>
Matrix attention(const Matrix& qkv, Index width, Index heads, F&& score) {
  const Index rows = static_cast<Index>(qkv.size()) / (3 * width), d = width / heads;
  const auto at = [&](Index r, Index part, Index c) {
    return qkv[static_cast<std::size_t>(r * 3 * width + part * width + c)];
  };
  Matrix y(static_cast<std::size_t>(rows * width));
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < rows; ++i) {
      Values p;
      double sum = 0;
      for (Index j = 0; j < rows; ++j) {
        double s = 0;
        for (Index c = 0; c < d; ++c) s += at(i, 0, h * d + c) * at(j, 1, h * d + c);
        p.push_back(std::exp(s / std::sqrt(static_cast<double>(d)) + score(i, j, h)));
        sum += p.back();
      }
      for (Index j = 0; j < rows; ++j)
        for (Index c = 0; c < d; ++c)
          y[static_cast<std::size_t>(i * width + h * d + c)] +=
              p[static_cast<std::size_t>(j)] / sum * at(j, 2, h * d + c);
    }
  return y;
}

/// Fills every parameter with noise around 0, so that no gain or bias can be forgotten.
template <class M>
void randomise(M& module, std::uint64_t seed, double stddev = .5) {
  nn::for_each_parameter(
      module, [&]<class T, class B>(const std::string&, MasterParameter<T, B>& p) {
        p.value = tensor<T, B>(normal(p.value.size(), ++seed, stddev), p.value.shape());
      });
}

struct Moments {
  Values mean, var;  // var: divided by rows
};
Moments moments(const Matrix& x, std::size_t cols) {
  const std::size_t rows = x.size() / cols;
  Moments m{Values(cols), Values(cols)};
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) m.mean[c] += x[r * cols + c] / static_cast<double>(rows);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c)
      m.var[c] +=
          (x[r * cols + c] - m.mean[c]) * (x[r * cols + c] - m.mean[c]) / static_cast<double>(rows);
  return m;
}
Matrix batch_normed(const Matrix& x, const Moments& m, const Values& gain, const Values& bias) {
  Matrix y(x.size());
  const std::size_t n = gain.size();
  for (std::size_t i = 0; i < x.size(); ++i)
    y[i] = gain[i % n] * (x[i] - m.mean[i % n]) / std::sqrt(m.var[i % n] + 1e-5) + bias[i % n];
  return y;
}

}  // namespace

namespace {

/// PreNorm by another name: the block adds and norms in two operations.
struct Apart : nn::PreNorm {};

/// Output, gradient of the input and of every parameter of a block with dropout.
template <class T, class B, class Order>
std::vector<std::vector<accumulator_of<T>>> block_bits() {
  using A = accumulator_of<T>;  // of the residual stream
  using Attention = nn::SelfAttention<T, B>;
  constexpr Index rows = 10, width = 24;
  nn::TransformerBlock<T, B, Attention, nn::FeedForward<T, B>, nn::LayerNorm<T, B>, Order> block(
      width, 48, 1e-5, Attention(width, 4));
  randomise(block, 5);
  block.dropout.probability = 0.3;
  const std::vector<std::int32_t> ranges{0, 3, 3, rows};
  const Segments<B> segments(ranges, rows);
  Parameter<A, B> x = leaf<A, B>(normal(rows * width, 6), {rows, width});
  Tape tape;
  const RecordOn on(tape);
  using V = Variable<A, B>;
  const V y = block.train(use<V>(x), nn::Mode::training(Philox(2)), 1, segments, true);
  const auto dy = tensor<A, B>(normal(rows * width, 7), {rows, width});
  backward({{y, dy}});
  std::vector<std::vector<A>> all{y.tensor.to_host(), x.slot.grad.to_host(),
                                  block(x.value, segments, true).to_host()};
  nn::for_each_parameter(
      block, [&](const std::string&, Parameter<T, B>& p) { all.push_back(p.slot.grad.to_host()); });
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("a pre-norm block that adds and norms at once has the bits of one that does not",
                   T, float, double, bfloat16) {
  CHECK(block_bits<T, Reference, nn::PreNorm>() == block_bits<T, Reference, Apart>());
  CHECK(block_bits<T, CpuBackend, nn::PreNorm>() == block_bits<T, CpuBackend, Apart>());
}

#define BACKENDS On<double, Reference>, On<double, CpuBackend>

TEST_CASE_TEMPLATE("BatchNorm in bf16 keeps its statistics in float", B, Reference, CpuBackend) {
  constexpr Index rows = 300, cols = 5;
  Values numbers = normal(rows * cols, 3);
  for (double& x : numbers) x = bfloat16(static_cast<float>(100 + x));  // far from 0
  nn::BatchNorm<double, B> exact(cols);
  nn::BatchNorm<bfloat16, B> half(cols);
  const auto x = tensor<double, B>(numbers, {rows, cols});
  const auto h = tensor<bfloat16, B>(numbers, {rows, cols});
  for (int step = 0; step < 50; ++step) {
    exact(x, nn::Mode::training());
    half(h, nn::Mode::training());
  }
  CHECK(difference(values(half.running_mean.value), values(exact.running_mean.value)) <= 1e-4);
  CHECK(difference(values(half.running_var.value), values(exact.running_var.value)) <= 1e-5);
  for (const auto& mode : {nn::Mode::training(), nn::Mode::inspection(), nn::Mode::evaluation()}) {
    const Values want = values(exact(x, mode)), got = values(half(h, mode));
    CHECK(difference(got, want) <= 0x1p-8 * largest(want));
  }
}

TEST_CASE_TEMPLATE("Dropout in bf16 drops what it drops in float, and rounds once", B, Reference,
                   CpuBackend) {
  Values numbers = normal(400, 3);
  for (double& x : numbers) x = bfloat16(static_cast<float>(x));
  const nn::Dropout dropout{0.3};
  const auto mode = nn::Mode::training(Philox(5));
  const Values single = values(dropout(tensor<float, B>(numbers, {20, 20}), mode, 7));
  Tape tape;
  const RecordOn on(tape);
  GradientSlot<bfloat16, B> slot;
  const Variable<bfloat16, B> x(tensor<bfloat16, B>(numbers, {20, 20}), &slot);
  const auto y = dropout(x, mode, 7);
  Values once = single;
  for (double& v : once) v = bfloat16(static_cast<float>(v));
  CHECK(values(y.tensor) == once);
  backward({{y, x.tensor}});
  CHECK(values(slot.gradient()) == once);
  CHECK(dropout(x, nn::Mode::evaluation(), 7).slot == &slot);
}

TEST_CASE_TEMPLATE("BatchNorm: statistics and modes", X, BACKENDS) {
  using B = typename X::B;
  using V = Tensor<double, B>;
  constexpr Index rows = 13, cols = 5;
  nn::BatchNorm<double, B> bn(cols);
  CHECK(values(bn.running_mean.value) == Values(5, 0.0));
  CHECK(values(bn.running_var.value) == Values(5, 1.0));
  const Values gain = normal(cols, 1), bias = normal(cols, 2);
  bn.weight.value = tensor<double, B>(gain, {cols});
  bn.bias.value = tensor<double, B>(bias, {cols});

  Moments running{Values(5, 0.0), Values(5, 1.0)};
  for (std::uint64_t step = 0; step < 3; ++step) {
    Values x = normal(rows * cols, 10 + step, 2);
    for (double& e : x) e += 3;
    const Moments now = moments(x, cols);
    const V y = bn(tensor<double, B>(x, {rows, cols}), nn::Mode::training());
    CHECK(difference(values(y), batch_normed(x, now, gain, bias)) <=
          1e-12);  // the biased variance normalises
    for (std::size_t c = 0; c < cols; ++c) {
      running.mean[c] = .9 * running.mean[c] + .1 * now.mean[c];
      running.var[c] = .9 * running.var[c] +
                       .1 * now.var[c] * rows / (rows - 1);  // the unbiased one is remembered
    }
    CHECK(difference(values(bn.running_mean.value), running.mean) <= 1e-13);
    CHECK(difference(values(bn.running_var.value), running.var) <= 1e-13);
  }

  const Values x = normal(rows * cols, 20, 4);
  const V in = tensor<double, B>(x, {rows, cols});
  CHECK(difference(values(bn(in, nn::Mode::evaluation())), batch_normed(x, running, gain, bias)) <=
        1e-12);
  CHECK(difference(values(bn(in, nn::Mode::inspection())),
                   batch_normed(x, moments(x, cols), gain, bias)) <= 1e-12);
  CHECK(difference(values(bn.running_mean.value), running.mean) <=
        1e-13);  // neither of them moves anything
  CHECK(difference(values(bn.running_var.value), running.var) <= 1e-13);
  CHECK_THROWS_AS(bn(tensor<double, B>(normal(cols, 3), {1, cols}), nn::Mode::training()), Error);
}

TEST_CASE_TEMPLATE("Dropout", X, BACKENDS) {
  using B = typename X::B;
  using V = Tensor<double, B>;
  constexpr Index n = 20000;
  const nn::Dropout dropout{.3};
  const nn::Mode mode = nn::Mode::training(Philox(5));
  const V ones = V::full({n / 10, 10}, 1);
  const Values y = values(dropout(ones, mode, 4));
  double mean = 0;
  bool two_values = true;
  for (double e : y) {
    mean += e / n;
    two_values = two_values && (e == 0 || std::abs(e - 1 / .7) < 1e-15);
  }
  CHECK(two_values);
  CHECK(std::abs(mean - 1) < 5 * std::sqrt(.3 / .7 / n));  // five standard errors
  CHECK(values(dropout(ones, mode, 4)) == y);
  CHECK(values(dropout(ones, nn::Mode::training(Philox(5)), 4)) == y);
  CHECK(values(dropout(ones, mode, 5)) != y);
  CHECK(values(dropout(ones, nn::Mode::training(Philox(6)), 4)) != y);
  CHECK(values(dropout(ones, nn::Mode::evaluation(), 4)) == Values(n, 1.0));
  CHECK(values(dropout(ones, nn::Mode::inspection(), 4)) == Values(n, 1.0));
  CHECK(values(nn::Dropout{}(ones, mode, 4)) == Values(n, 1.0));

  Parameter<double, B> x = leaf<double, B>(Values(n, 2.0), {n / 10, 10});
  Tape tape;
  RecordOn on(tape);
  const Variable<double, B> out = dropout(use<Variable<double, B>>(x), mode, 4);
  const Variable<double, B> total =
      reshape(linear(reshape(out, {1, n}), Variable<double, B>(V::full({1, n}, 1))), Shape{});
  backward(total);
  CHECK(gradient(x) == y);  // the mask of the forward pass
}

TEST_CASE_TEMPLATE("windows: a pixel reaches its own window and region, and nothing else", X,
                   BACKENDS) {
  using B = typename X::B;
  constexpr Index side = 8, window = 4, width = 4, batch = 2;
  for (const Index shift : {Index{0}, Index{2}, Index{1}}) {
    CAPTURE(shift);
    nn::WindowAttention<double, B> attn(width, 2, window, shift, side);
    randomise(attn, 40);
    // Along one axis the shifted map is cut at the windows and, in the last window, where the map's
    // end met its beginning.
    const auto group = [&](Index y) {
      const Index moved = (y - shift + side) % side;
      return moved / window + (shift > 0 && moved >= side - shift ? 1 : 0);
    };
    const Values x = normal(batch * side * side * width, 41);
    const auto run = [&](const Values& in) {
      return values(attn(tensor<double, B>(in, {batch * side * side, width}), batch));
    };
    const Values before = run(x);
    bool only = true, all = true;
    for (Index pixel = 0; pixel < side * side; ++pixel) {
      Values changed = x;
      changed[static_cast<std::size_t>((side * side + pixel) * width)] += 1;  // in the second image
      const Values after = run(changed);
      for (Index r = 0; r < batch * side * side; ++r) {
        const double moved =
            difference(rows_of(after, width, r, r + 1), rows_of(before, width, r, r + 1));
        const Index y = r % (side * side) / side, c = r % side;
        const bool near =
            r >= side * side && group(y) == group(pixel / side) && group(c) == group(pixel % side);
        if (near)
          all = all && moved > 1e-6;
        else
          only = only && moved == 0;
      }
    }
    CHECK(only);
    CHECK(all);
  }
  CHECK(nn::WindowAttention<double, B>(width, 2, 4, 2, 8).rel_bias.value.shape() == Shape{49, 2});
  CHECK_THROWS_AS((nn::WindowAttention<double, B>(width, 2, 3, 0, 8)), Error);
}

TEST_CASE_TEMPLATE("one window over the whole map is plain attention", X, BACKENDS) {
  using B = typename X::B;
  constexpr Index side = 4, width = 6, heads = 2, batch = 2, area = side * side;
  nn::WindowAttention<double, B> attn(width, heads, side, 0, side);
  randomise(attn, 50);
  attn.rel_bias.value = Tensor<double, B>::zeros({49, heads});
  const Values x = normal(batch * area * width, 51);
  const Tensor<double, B> in = tensor<double, B>(x, {batch * area, width});

  nn::SelfAttention<double, B> plain(width, heads);
  plain.qkv = attn.qkv;
  plain.proj = attn.proj;
  const std::vector<std::int32_t> ranges{0, area, area, 2 * area};
  CHECK(difference(values(attn(in, batch)),
                   values(plain(in, Segments<B>(ranges, batch * area), false))) <= 1e-13);

  // And by hand, with the bias table at row (dy + w - 1)(2 w - 1) + dx + w - 1, d = query - key.
  const Values table = normal(49 * heads, 52);
  attn.rel_bias.value = tensor<double, B>(table, {49, heads});
  Values want;
  for (Index b = 0; b < batch; ++b) {
    const Values qkv = dense(rows_of(x, width, b * area, (b + 1) * area), width,
                             values(attn.qkv.weight.value), values(attn.qkv.bias.value));
    const Values y = attention(qkv, width, heads, [&](Index i, Index j, Index h) {
      const Index row =
          (i / side - j / side + side - 1) * (2 * side - 1) + i % side - j % side + side - 1;
      return table[static_cast<std::size_t>(row * heads + h)];
    });
    const Values out =
        dense(y, width, values(attn.proj.weight.value), values(attn.proj.bias.value));
    want.insert(want.end(), out.begin(), out.end());
  }
  CHECK(difference(values(attn(in, batch)), want) <= 1e-12);
}

TEST_CASE_TEMPLATE("the position bias learns through shifted windows", X, BACKENDS) {
  using B = typename X::B;
  using V = Variable<double, B>;
  constexpr Index side = 4, width = 4, heads = 2, rows = side * side;
  nn::WindowAttention<double, B> attn(width, heads, 2, 1, side);
  randomise(attn, 60);
  const Values x = normal(rows * width, 61), weight = normal(rows * width, 62);
  const auto loss = [&] {
    const V y = attn(V(tensor<double, B>(x, {rows, width})), 1);
    return reshape(
        linear(reshape(y, {1, rows * width}), V(tensor<double, B>(weight, {1, rows * width}))),
        Shape{});
  };
  {
    Tape tape;
    RecordOn on(tape);
    backward(loss());
  }
  const Values got = gradient(attn.rel_bias), start = values(attn.rel_bias.value);
  Values want;
  for (std::size_t i = 0; i < start.size(); ++i) {
    const auto at = [&](double h) {
      Values moved = start;
      moved[i] += h;
      attn.rel_bias.value = tensor<double, B>(moved, attn.rel_bias.value.shape());
      return loss().tensor.item();
    };
    want.push_back((at(1e-5) - at(-1e-5)) / 2e-5);
  }
  CHECK(largest(want) > 1e-3);
  CHECK(difference(got, want) <= 1e-8);
}

TEST_CASE_TEMPLATE("patch merging concatenates (0,0), (1,0), (0,1), (1,1)", X, BACKENDS) {
  using B = typename X::B;
  constexpr Index side = 4, width = 3, batch = 2;
  nn::PatchMerging<double, B> merge(width, side, 1e-5);
  randomise(merge, 70);
  CHECK_FALSE(merge.reduction.has_bias);
  const Values x = normal(batch * side * side * width, 71);
  Values joined;
  for (Index b = 0; b < batch; ++b)
    for (Index i = 0; i < side; i += 2)
      for (Index j = 0; j < side; j += 2)
        for (const auto& [di, dj] : {std::pair{0, 0}, {1, 0}, {0, 1}, {1, 1}}) {
          const Index row = (b * side + i + di) * side + j + dj;
          const Values part = rows_of(x, width, row, row + 1);
          joined.insert(joined.end(), part.begin(), part.end());
        }
  const Values want = dense(normed(joined, 4 * width, values(merge.norm.weight.value),
                                   values(merge.norm.bias.value), 1e-5),
                            4 * width, values(merge.reduction.weight.value), {});
  const Tensor<double, B> y = merge(tensor<double, B>(x, {batch * side * side, width}), batch);
  CHECK(y.shape() == Shape{batch * 4, 2 * width});
  CHECK(difference(values(y), want) <= 1e-12);
}

TEST_CASE_TEMPLATE("Transformer blocks: place of the norm and activation are policies", X,
                   BACKENDS) {
  using B = typename X::B;
  using Attention = nn::SelfAttention<double, B>;
  using Norm = nn::LayerNorm<double, B>;
  constexpr Index rows = 6, width = 4, hidden = 8, heads = 2;
  const Values x = normal(rows * width, 80);
  const Tensor<double, B> in = tensor<double, B>(x, {rows, width});
  const std::vector<std::int32_t> range{0, rows};
  const Segments<B> segments(range, rows);

  const auto check = [&](auto block, auto&& act, bool before) {
    randomise(block, 81);
    const auto norm = [&](const Values& v, const Norm& n) {
      return normed(v, width, values(n.weight.value), values(n.bias.value), 1e-5);
    };
    const auto attend = [&](const Values& v) {
      const Values y = attention(
          dense(v, width, values(block.attn.qkv.weight.value), values(block.attn.qkv.bias.value)),
          width, heads, [](Index, Index, Index) { return 0.0; });
      return dense(y, width, values(block.attn.proj.weight.value),
                   values(block.attn.proj.bias.value));
    };
    const auto feed = [&](const Values& v) {
      Values h =
          dense(v, width, values(block.mlp.fc1.weight.value), values(block.mlp.fc1.bias.value));
      for (double& e : h) e = act(e);
      return dense(h, hidden, values(block.mlp.fc2.weight.value), values(block.mlp.fc2.bias.value));
    };
    const Values a =
        before ? plus(x, attend(norm(x, block.ln1))) : norm(plus(x, attend(x)), block.ln1);
    const Values b = before ? plus(a, feed(norm(a, block.ln2))) : norm(plus(a, feed(a)), block.ln2);
    const Values y = values(block(in, segments, false));
    CHECK(difference(y, b) <= 1e-11);
    CHECK(values(block.train(in, nn::Mode::training(Philox(1)), 3, segments, false)) ==
          y);  // dropout is off by default
    block.dropout.probability = .5;
    CHECK(values(block.train(in, nn::Mode::training(Philox(1)), 3, segments, false)) != y);
    CHECK(values(block.train(in, nn::Mode::evaluation(), 3, segments, false)) == y);
  };
  const auto gelu = [](double v) { return .5 * v * (1 + std::erf(v / std::sqrt(2.0))); };
  const auto gelu_tanh = [](double v) {
    return .5 * v *
           (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (v + .044715 * v * v * v)));
  };
  const auto relu = [](double v) { return v > 0 ? v : 0; };
  using Gelu = nn::FeedForward<double, B>;
  using Relu = nn::FeedForward<double, B, Activation::relu>;
  using Tanh = nn::FeedForward<double, B, Activation::gelu_tanh>;
  check(nn::TransformerBlock<double, B>(width, hidden, 1e-5, Attention(width, heads)), gelu, true);
  check(nn::TransformerBlock<double, B, Attention, Relu>(width, hidden, 1e-5,
                                                         Attention(width, heads)),
        relu, true);
  check(nn::TransformerBlock<double, B, Attention, Gelu, Norm, nn::PostNorm>(
            width, hidden, 1e-5, Attention(width, heads)),
        gelu, false);
  check(nn::TransformerBlock<double, B, Attention, Tanh, Norm, nn::PostNorm>(
            width, hidden, 1e-5, Attention(width, heads)),
        gelu_tanh, false);

  // Every parameter of an unusual block learns.
  nn::TransformerBlock<double, B, Attention, Relu, Norm, nn::PostNorm> block(
      width, hidden, 1e-5, Attention(width, heads));
  randomise(block, 82);
  using V = Variable<double, B>;
  Tape tape;
  RecordOn on(tape);
  const V y = block.train(V(in), nn::Mode::training(Philox(2)), 0, segments, true);
  backward(reshape(linear(reshape(y, {1, rows * width}),
                          V(tensor<double, B>(normal(rows * width, 83), {1, rows * width}))),
                   Shape{}));
  nn::for_each_parameter(block, [&](const std::string& name, auto& p) {
    CAPTURE(name);
    CHECK(largest(gradient(p)) > 0);
  });
}

TEST_CASE_TEMPLATE("PatchEmbed: channel, row, column order, and sizes it refuses", X, BACKENDS) {
  using B = typename X::B;
  using V = Tensor<double, B>;
  constexpr Index side = 8, patch = 4, width = 5, batch = 2;
  nn::PatchEmbed<double, B> embed(patch, width);
  randomise(embed, 90);
  const Values image = normal(batch * 3 * side * side, 91);
  Values rows;
  for (Index b = 0; b < batch; ++b)
    for (Index i = 0; i < side; i += patch)
      for (Index j = 0; j < side; j += patch)
        for (Index c = 0; c < 3; ++c)
          for (Index y = 0; y < patch; ++y)
            for (Index x = 0; x < patch; ++x)
              rows.push_back(
                  image[static_cast<std::size_t>(((b * 3 + c) * side + i + y) * side + j + x)]);
  const Values want =
      dense(rows, 3 * patch * patch, values(embed.weight.value), values(embed.bias.value));
  const V y = embed.template embed<V>(tensor<double, B>(image, {batch, 3, side, side}));
  CHECK(y.shape() == Shape{batch * 4, width});
  CHECK(difference(values(y), want) <= 1e-12);

  for (const Shape& bad :
       {Shape{1, 3, 10, 10}, Shape{1, 1, 8, 8}, Shape{1, 3, 8, 4}, Shape{3, 8, 8}}) {
    std::string said;
    try {
      embed.template embed<V>(V::zeros(bad));
    } catch (const Error& e) {
      said = e.what();
    }
    CAPTURE(said);
    CHECK(said.find("expected") != said.npos);
    CHECK(said.find("got " + bad.str()) != said.npos);
    CHECK(said.find(std::to_string(patch)) != said.npos);
  }
}
