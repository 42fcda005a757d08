// The doors of the differentiable operations: undefined tensors, indices and settings out of range
// are errors with a sentence; a node that throws leaves tape and gradients clean.
#include <doctest/doctest.h>

#include "errors.hpp"
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/autograd/attention.hpp"
#include "hybridmed/autograd/convolution.hpp"
#include "hybridmed/autograd/feed_forward.hpp"
#include "hybridmed/autograd/index_pattern.hpp"
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/norm.hpp"
#include "hybridmed/autograd/recompute.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/autograd/token_alignment.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/backend/reference/backend.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using T = float;
using B = CpuBackend;
using X = Tensor<T, B>;
using V = Variable<T, B>;

namespace {

IndexTensor<B> index(const std::vector<std::int32_t>& v) {
  return IndexTensor<B>::from_host(v, {static_cast<Index>(v.size())});
}

template <class F>
void refused(F&& f, const std::string& part) {
  const std::string e = error_of(f);
  CHECK_MESSAGE(e.starts_with("[hybridmed."), e);
  CHECK_MESSAGE(holds(e, part), e);
}

bool fail_now = false;
/// The identity; its backward pass throws once where asked to.
V fragile(const V& x) {
  return recorded(X(x.tensor), [s = x.slot](X dy) {
    if (std::exchange(fail_now, false)) throw std::runtime_error("no memory");
    s->add(std::move(dy));
  });
}
/// 2 w a, half of it through a node that may throw; the other half runs first in the backward pass.
V loss_of(const Parameter<T, B>& w) {
  const V p = use<V>(w), a(X::full({1, 1}, 3));
  const V one = fragile(linear(p, a)), two = linear(p, a);
  return reshape(add(one, two), Shape{});
}

}  // namespace

TEST_CASE("an undefined tensor is an error of the operation that meets it") {
  const X none, x = X::full({3, 4}, 1);
  const V v;
  refused([&] { scale(none, 2); }, "scale");
  refused([&] { add(none, none); }, "add");
  refused([&] { add(x, none); }, "undefined");
  refused([&] { multiply(x, none); }, "multiply");
  refused([&] { activate(v, Activation::identity); }, "activate");
  refused([&] { multiply(V(x), v); }, "multiply");
  refused([&] { exp(none); }, "exp");
  refused([&] { log(v); }, "log");
  refused([&] { sum(none); }, "sum");
  refused([&] { mean(v); }, "mean");
  refused([&] { transpose(none); }, "transpose");
  refused([&] { sigmoid_cross_entropy(x, none); }, "sigmoid_cross_entropy");
  refused([&] { linear(none, x); }, "linear");
  refused([&] { linear(x, x, &none); }, "linear");
  refused([&] { feed_forward(none, x, x, x, x, Activation::relu); }, "feed_forward");
  refused([&] { scaled_similarity(x, none, x); }, "scaled_similarity");
  refused([&] { layer_norm(none, x, x, 1e-5); }, "layer_norm");
  refused([&] { add_norm(x, none, x, x, 1e-5); }, "add_norm");
  refused([&] { add_norm(x, X::full({4, 3}, 1), x, x, 1e-5); }, "add_norm: expected two equal");
  const X four = X::full({4}, 1);
  refused([&] { add_norm(x, x, X::full({3}, 1), four, 1e-5); },
          "gain and bias of 4 elements, got (3)");
  refused([&] { add_norm(x, x, four, X::full({3}, 1), 1e-5); }, "gain and bias of 4 elements");
  refused([&] { recompute([](const X& h) { return h; }, none); }, "recompute");
  refused([&] { batch_norm(x, x, x, none, none, true); }, "batch_norm");
  refused([&] { gather_rows(none, index({0})); }, "gather_rows");
  refused([&] { gather_rows(x, IndexTensor<B>()); }, "gather_rows");
  refused([&] { slice_rows(none, 0, 1); }, "slice_rows");
  refused([&] { stack_rows(x, none); }, "stack_rows");
  refused([&] { add_row_vector(x, none); }, "add_row_vector");
  refused([&] { reshape(none, Shape{}); }, "reshape");
  refused([&] { mix_rows(none, RowMixing<T, B>(1, 1, {1.0})); }, "mix_rows");
  refused([&] { normalize_rows(none); }, "normalize_rows");
  refused([&] { conv2d(none, x, ConvShape{1, 2, 2, 1, 1, 1, 1, 0}); }, "conv2d");
  refused([&] { max_pool(none, ConvShape{1, 2, 2, 1, 1, 1, 1, 0}); }, "max_pool");
  refused([&] { cross_entropy(none, index({}), 0); }, "cross_entropy");
  refused([&] { distillation(x, none, 1); }, "distillation");
  refused([&] { symmetric_cross_entropy(none, {}, 0, 0.5, 0.5); }, "symmetric_cross_entropy");
  refused([&] { local_scores(x, 1, x, Tensor<std::int32_t, Host>(), LocalScore{}); },
          "local_scores");
  refused([&] { soft_cross_entropy(none, x, 1); }, "soft_cross_entropy");
  refused([&] { soft_cross_entropy(x, none, 1); }, "soft_cross_entropy");
  refused([&] { sinkhorn(none, 0.05, 3); }, "sinkhorn");
  const auto ends = row_indices<Host>({0, 3});
  refused([&] { token_alignment(none, 1, x, ends, 0.1); }, "token_alignment");
  refused([&] { token_alignment(x, 1, none, ends, 0.1); }, "token_alignment");
  refused([&] { token_alignment(x, 1, x, Tensor<std::int32_t, Host>(), 0.1); },
          "the word offsets are an undefined tensor");
  refused([&] { none.item(); }, "undefined");
  refused([&] { none.view(Shape{}); }, "undefined");
  refused([&] { none.row_slice(0, 1); }, "undefined");
  CHECK_FALSE(none.clone().defined());
}

TEST_CASE("indices, targets and settings out of range are errors that name what was found") {
  const X x = X::full({3, 4}, 1);
  refused([&] { gather_rows(x, index({0, 3})); }, "below 3, got 3");
  refused([&] { gather_rows(x, index({50000000})); }, "50000000");
  CHECK(gather_rows(x, index({-1, 2})).to_host()[0] == 0);  // a negative index is a row of zeros
  refused([&] { cross_entropy(x, index({0, 1, 4}), 0); }, "0 to 3, got 4");
  refused([&] { cross_entropy(x, index({0, 1, -100}), 0); }, "-100");
  refused([&] { cross_entropy(x, index({0, 1}), 0); }, "targets");
  for (double smoothing : {-0.1, 1.5, 2.0, std::nan("")})
    refused([&] { cross_entropy(x, index({0, 1, 2}), smoothing); }, "smoothing");
  for (double tau : {0.0, -1.0, std::nan(""), HUGE_VAL})
    refused([&] { distillation(x, x, tau); }, "temperature");
  for (double tau : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    refused([&] { soft_cross_entropy(x, x, tau); }, "expected a temperature above 0");
    refused([&] { sinkhorn(x, tau, 3); }, "expected an eps above 0");
  }
  refused([&] { sinkhorn(x, 0.05, -1); }, "iterations from 0, got -1");
  refused([&] { soft_cross_entropy(x, X::full({3, 5}, 1), 1); }, "(3, 4) and (3, 5)");
  refused([&] { conv2d(x, x, ConvShape{1, 3, 1, 4, 1, 5, 1, 0}); }, "window");
  refused([&] { conv2d(x, x, ConvShape{1, 3, 1, 4, 1, 1, 0, 0}); }, "window");
  refused([&] { RowMixing<T, B>(2, 2, {1.0}); }, "2 x 2 weights");
  const std::vector<std::int32_t> odd{0, 1, 2}, far{0, 9}, good{0, 3};
  refused([&] { Segments<B>(odd, 3); }, "pairs");
  refused([&] { Segments<B>(far, 3); }, "rows");
  const X qkv = X::full({3, 12}, 1);
  const Segments<B> s(good, 3);
  refused([&] { self_attention(qkv, s, AttentionOptions<X>{0, false, nullptr, {}}); }, "heads");
  refused(
      [&] {
        self_attention(qkv, s, AttentionOptions<X>{1, false, nullptr, X::full({1, 2, 2}, 0)});
      },
      "3 rows");
  const X bias = X::full({2, 2}, 0);
  refused([&] { self_attention(qkv, s, AttentionOptions<X>{1, false, &bias, {}}); }, "3 rows");
}

TEST_CASE("token_alignment: extents, temperatures and weights that do not fit are errors") {
  const X p = X::full({4, 3}, 1), w = X::full({5, 3}, 1);  // two images of two regions
  const auto ends = [](const ArenaVector<std::int32_t>& x) { return row_indices<Host>(x); };
  const auto run = [&](const X& regions, Index images, const X& words,
                       const ArenaVector<std::int32_t>& offsets, double temperature = 0.1,
                       const X& word_weights = {}, const X& region_weights = {}) {
    return token_alignment(regions, images, words, ends(offsets), temperature, word_weights,
                           region_weights);
  };
  CHECK(std::isfinite(run(p, 2, w, {0, 2, 5}).item()));
  refused([&] { run(p, 2, w, {0, 5}); }, "as many texts as images, got 1 and 2");
  refused([&] { run(p, 2, w, {}); }, "as many texts as images, got -1 and 2");
  refused([&] { run(p, -1, w, {}); }, "as many texts as images");
  refused([&] { run(p, 3, w, {0, 2, 3, 5}); }, "(3 * regions, d) and words (5, d), got (4, 3)");
  refused([&] { run(p, 2, w, {0, 2, 4}); }, "words (4, d), got (4, 3) and (5, 3)");
  refused([&] { run(p, 2, w, {1, 2, 5}); }, "regions");
  refused([&] { run(p, 2, X::full({5, 2}, 1), {0, 2, 5}); }, "got (4, 3) and (5, 2)");
  refused([&] { run(X::full({0, 3}, 1), 2, w, {0, 2, 5}); }, "got (0, 3)");
  refused([&] { run(p, 0, X::full({0, 3}, 1), {0}); }, "got (4, 3)");
  refused([&] { run(p, 2, w, {0, 5, 5}); }, "text 1 has no words");
  refused([&] { run(p, 2, w, {0, 7, 5}); }, "text 1 has no words");
  for (double tau : {0.0, -1.0, std::nan(""), HUGE_VAL})
    refused([&] { run(p, 2, w, {0, 2, 5}, tau); }, "expected a temperature above 0");
  refused([&] { run(p, 2, w, {0, 2, 5}, 0.1, X::full({4}, 1)); }, "expected 5 word weights, got");
  refused(
      [&] {
        run(p, 2, w, {0, 2, 5}, 0.1, {}, X::full({5}, 1));
      },
      "expected 4 region weights, got shape (5)");
  for (double bad : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    X weights = X::full({5}, 1);
    weights.data()[3] = static_cast<T>(bad);
    refused(
        [&] {
          run(p, 2, w, {0, 2, 5}, 0.1, weights);
        },
        "word weight 3: expected above 0, got " + std::to_string(bad));
    refused(
        [&] {
          run(p, 2, w, {0, 2, 5}, 0.1, {}, weights.view({5, 1}).row_slice(1, 5));
        },
        "region weight 2: expected above 0, got");
  }
}

TEST_CASE("a node that throws in the backward pass leaves tape and gradients clean") {
  Parameter<T, B> w({1, 1}, init::zeros());
  w.value.data()[0] = 2;
  Tape tape;
  const auto gradient = [&] { return w.slot.grad.defined() ? w.slot.grad.data()[0] : 0; };
  for (const bool cleared : {false, true}) {
    fail_now = true;
    {
      RecordOn on(tape);
      CHECK_THROWS_AS(backward(loss_of(w)), std::runtime_error);
      CHECK(tape.size() == 0);
      CHECK(gradient() == 0);
    }
    if (cleared) tape.clear();
    {
      RecordOn on(tape);
      backward(loss_of(w));
    }
    CHECK(gradient() == 6);
    w.slot.grad = {};
  }
  fail_now = true;  // through a scope that the exception leaves
  try {
    RecordOn on(tape);
    backward(loss_of(w));
  } catch (const std::runtime_error&) {
  }
  CHECK(tape.size() == 0);
  CHECK(gradient() == 0);
}

TEST_CASE("an exception in the forward pass empties the tape; a loss is used once") {
  Parameter<T, B> w({1, 1}, init::zeros());
  Tape tape;
  try {
    RecordOn on(tape);
    loss_of(w);
    add(X::full({1, 1}, 1), X::full({2, 1}, 1));
  } catch (const Error&) {
  }
  CHECK(tape.size() == 0);
  RecordOn on(tape);
  const V loss = loss_of(w);
  backward(loss);
  refused([&] { backward(loss); }, "compute the loss again");
  refused([&] { backward(V()); }, "undefined");
}

TEST_CASE("settings of windows, segments and convolutions out of range are errors") {
  refused([] { EqualSegments<B>(4).times(-1); }, "IndexPattern");
  refused([] { EqualSegments<B>(-4); }, "EqualSegments");
  const ConvShape vast{1, 60000, 60000, 1, 1, 1, 50000, 0};  // more places than 32 bits tell apart
  refused(
      [&] { B::max_pool(vast, static_cast<const T*>(nullptr), static_cast<T*>(nullptr), nullptr); },
      "32 bits");
  refused(
      [&] {
        Reference::max_pool(vast, static_cast<const T*>(nullptr), static_cast<T*>(nullptr),
                            nullptr);
      },
      "32 bits");
  const std::vector<std::int32_t> overlapping{0, 4, 3, 6};
  refused([&] { Segments<B>(overlapping, 6); }, "rows [3, 6) of 6");
}

TEST_CASE("a gradient of another size than the one it is added to is an error") {
  GradientSlot<T, B> slot;
  slot.add(X::full({2, 3}, 1));
  refused([&] { slot.add(X::full({2, 2}, 1)); }, "is added to one of shape");
}
