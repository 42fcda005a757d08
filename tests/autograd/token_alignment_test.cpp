// The token-wise contrast within samples: gradients, and what it must not depend on.
#include "hybridmed/autograd/token_alignment.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

template <class B>
struct Case {
  Index images, regions, dim;
  std::vector<Index> words;
  Tensor<std::int32_t, Host> offsets;
  X<B> p, w, word_weights, region_weights;

  Case(Index regions_, Index dim_, std::vector<Index> words_)
      : images(static_cast<Index>(words_.size())),
        regions(regions_),
        dim(dim_),
        words(std::move(words_)) {
    std::vector<std::int32_t> ends{0};
    for (Index n : words) ends.push_back(static_cast<std::int32_t>(ends.back() + n));
    offsets = indices<Host>(ends);
    p = random<B>({images * regions, dim}, 1, 3);
    w = random<B>({ends.back(), dim}, 2, 0.2);
    word_weights = weights(ends.back(), 3);
    region_weights = weights(images * regions, 4);
  }
  static X<B> weights(Index n, std::uint64_t stream) {
    auto x = random<B>({n}, stream);
    for (Index i = 0; i < n; ++i) x.data()[i] = std::abs(x.data()[i]) + 0.1;
    return x;
  }
};

/// Rows [begin, end) with memory of their own.
template <class B>
X<B> rows(const X<B>& x, Index begin, Index end) {
  return x.row_slice(begin, end).clone();
}

}  // namespace

TEST_CASE_TEMPLATE("gradients of token_alignment", B, BACKENDS) {
  for (const Case<B>& c :
       {Case<B>(1, 1, {1}), Case<B>(5, 3, {1, 1}), Case<B>(7, 5, {1, 9, 3}), Case<B>(1, 4, {3, 5}),
        Case<B>(4, 2, {5}), Case<B>(70, 3, {2}), Case<B>(3, 2, {})}) {
    for (double temperature : {0.1, 1.0}) {
      check<B>("token_alignment", {c.p, c.w}, [&](const auto& x) {
        return token_alignment(x[0], c.images, x[1], c.offsets, temperature);
      });
      check<B>("token_alignment, weighted", {c.p, c.w}, [&](const auto& x) {
        return token_alignment(x[0], c.images, x[1], c.offsets, temperature, c.word_weights,
                               c.region_weights);
      });
    }
    check<B>("token_alignment, words weighted", {c.p, c.w}, [&](const auto& x) {
      return token_alignment(x[0], c.images, x[1], c.offsets, 0.1, c.word_weights);
    });
  }
}

TEST_CASE_TEMPLATE("token_alignment: no samples give 0 and no gradient", B, BACKENDS) {
  const Case<B> c(3, 2, {});
  Slot<B> p, w;
  Tape tape;
  const RecordOn on(tape);
  const Var<B> loss = token_alignment(Var<B>(c.p, &p), 0, Var<B>(c.w, &w), c.offsets, 0.1);
  CHECK(loss.shape() == Shape{});
  CHECK(loss.tensor.item() == 0);
  CHECK(loss.slot == nullptr);
  CHECK(tape.size() == 0);
  backward(loss);
  CHECK_FALSE(p.grad.defined());
  CHECK_FALSE(w.grad.defined());
}

TEST_CASE_TEMPLATE("token_alignment is the mean of its samples; lengths of rows do not count", B,
                   BACKENDS) {
  const Case<B> c(7, 5, {1, 9, 3});
  const auto run = [&](const X<B>& p, const X<B>& w) {
    return token_alignment(p, c.images, w, c.offsets, 0.1, c.word_weights, c.region_weights).item();
  };
  const double all = run(c.p, c.w);
  double sum = 0;
  for (Index i = 0; i < c.images; ++i) {
    const Index from = c.offsets.data()[i], to = c.offsets.data()[i + 1];
    sum += token_alignment(rows(c.p, i * 7, i * 7 + 7), 1, rows(c.w, from, to),
                           indices<Host>({0, static_cast<std::int32_t>(to - from)}), 0.1,
                           rows(c.word_weights.view({c.word_weights.size(), 1}), from, to),
                           rows(c.region_weights.view({21, 1}), i * 7, i * 7 + 7))
               .item();
  }
  CHECK(all == doctest::Approx(sum / 3).epsilon(1e-14));
  CHECK(run(scale(c.p, 100), scale(c.w, 0.01)) == doctest::Approx(all).epsilon(1e-12));
}

TEST_CASE_TEMPLATE("token_alignment: a row of zeros is no direction, and no NaN", B, BACKENDS) {
  const Case<B> c(3, 4, {2});
  X<B> p = c.p.clone();
  for (Index i = 0; i < 4; ++i) p.data()[i] = 0;
  Slot<B> dp, dw;
  Tape tape;
  const RecordOn on(tape);
  const Var<B> loss = token_alignment(Var<B>(p, &dp), 1, Var<B>(c.w, &dw), c.offsets, 0.1);
  CHECK(std::isfinite(loss.tensor.item()));
  backward(loss);
  for (double g : dp.grad.to_host()) CHECK(std::isfinite(g));
  for (double g : dw.grad.to_host()) CHECK(std::isfinite(g));
}

TEST_CASE_TEMPLATE("token_alignment: float is near double", B, BACKENDS) {
  const Case<B> c(49, 64, {20, 33, 1});
  const auto run = [&]<class T>(T) {
    const auto convert = [](const X<B>& x) {
      const auto v = x.to_host();
      return Tensor<T, B>::from_host(std::vector<T>(v.begin(), v.end()), x.shape());
    };
    Parameter<T, B> p(c.p.shape(), init::zeros()), w(c.w.shape(), init::zeros());
    p.value = convert(c.p);
    w.value = convert(c.w);
    using V = Variable<T, B>;
    Tape tape;
    const RecordOn on(tape);
    const V loss = token_alignment(use<V>(p), c.images, use<V>(w), c.offsets, 0.1,
                                   convert(c.word_weights), convert(c.region_weights));
    backward(loss);
    std::vector<double> all{static_cast<double>(loss.tensor.item())};
    for (const auto* x : {&p, &w})
      for (T g : x->slot.grad.to_host()) all.push_back(static_cast<double>(g));
    return all;
  };
  const auto wide = run(1.0), narrow = run(1.0f);
  CHECK(narrow[0] == doctest::Approx(wide[0]).epsilon(1e-6));
  CHECK(error(narrow, wide) <= 1e-5);
}
