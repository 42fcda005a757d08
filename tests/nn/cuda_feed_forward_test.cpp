// A pre-norm feed-forward block with a softmax and cross-entropy head, trained by the same code on
// both backends.
#include <doctest/doctest.h>

#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/backend/cuda/backend.hpp"
#include "hybridmed/nn/transformer.hpp"
#include "hybridmed/optim/adamw.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

template <class T, class B, Activation act>
struct Classifier {
  nn::LayerNorm<T, B> ln;
  nn::FeedForward<T, B, act> mlp;
  nn::Linear<T, B> head;

  Classifier(Index width, Index hidden, Index classes)
      : ln(width), mlp(width, hidden), head(width, classes) {}
  template <class F>
  void visit(F&& f) {
    f("ln", ln);
    f("mlp", mlp);
    f("head", head);
  }
  template <Value V>
  V operator()(const V& x) const {
    return head(nn::PreNorm::residual(x, ln, [&](const V& h) { return mlp(h); }));
  }
};

struct Run {
  Values losses, norms, weights;
};

/// Trains for a few steps; the data, the start and the schedule do not depend on the backend.
template <class T, class B, Activation act>
Run train(Index rows, Index width, Index hidden, Index classes, int steps) {
  Classifier<T, B, act> model(width, hidden, classes);
  std::uint64_t seed = 0;
  nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
    const double shift = name == "ln.weight" ? 1 : 0;
    Values v = normal(p.value.size(), ++seed, 0.3);
    for (double& x : v) x += shift;
    p.value = tensor<T, B>(v, p.value.shape());
  });
  optim::AdamW<T, B> optimizer(model, {});
  Tape tape;
  Run run;
  for (int step = 0; step < steps; ++step) {
    RecordOn recording(tape);
    const Variable<T, B> x(
        tensor<T, B>(normal(rows * width, 100 + static_cast<std::uint64_t>(step)), {rows, width}));
    std::vector<std::int32_t> target;
    for (Index r = 0; r < rows; ++r)
      target.push_back(static_cast<std::int32_t>((r + step) % classes));
    const auto loss = cross_entropy(model(x), indices<B>(target), 0.1);
    run.losses.push_back(static_cast<double>(value(loss).item()));
    backward(loss);
    run.norms.push_back(optimizer.step(1e-2));
  }
  nn::for_each_parameter(model, [&](const std::string&, auto& p) {
    for (double w : values(p.value)) run.weights.push_back(w);
  });
  return run;
}

template <class T, Activation act>
void same(Index rows, Index width, Index hidden, Index classes, double bound) {
  CAPTURE(rows);
  CAPTURE(static_cast<int>(act));
  const Run want = train<T, Reference, act>(rows, width, hidden, classes, 5),
            got = train<T, Cuda, act>(rows, width, hidden, classes, 5);
  CHECK(difference(got.losses, want.losses) <= bound);
  CHECK(difference(got.norms, want.norms) <= bound);
  CHECK(difference(got.weights, want.weights) <= bound * std::max(1.0, largest(want.weights)));
  if (rows > 0) CHECK(want.losses[0] != want.losses[4]);
}

}  // namespace

TEST_CASE("the block trains on CUDA as on the reference backend") {
  same<double, Activation::gelu>(7, 12, 40, 5, 1e-10);
  same<double, Activation::gelu_tanh>(33, 5, 17, 3, 1e-10);
  same<double, Activation::relu>(1, 1, 1, 2, 1e-10);
  same<double, Activation::gelu>(0, 4, 8, 3, 1e-10);
  same<float, Activation::gelu>(7, 12, 40, 5, 2e-4);
  same<float, Activation::gelu_tanh>(33, 8, 24, 3, 2e-4);  // the fused product with bias and GELU
}
