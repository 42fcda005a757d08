// Operations and layers of attention on CUDA: outputs and gradients of the reference backend, for
// the segments that models make.
#include "conformance.hpp"
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/model/text_plan.hpp"
#include "hybridmed/nn/attention.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// Output of f(leaves...), then the gradients of a weighted sum of it.
template <class T, class B, class F>
Values with_gradients(const std::vector<const Parameter<T, B>*>& leaves, F&& f) {
  using V = Variable<T, B>;
  Tape tape;
  const RecordOn on(tape);
  const V y = f();
  Values all = values(y.tensor);
  backward(mean(multiply(y, V(tensor<T, B>(normal(y.tensor.size(), 99), y.tensor.shape())))));
  for (const auto* p : leaves)
    for (double g : gradient(*p)) all.push_back(static_cast<double>(p->value.size()) * g);
  return all;
}

/// Samples with both sections, one section, none, and lengths on both sides of a tile.
template <class B>
model::TextPlan<B> plan(Index places) {
  const auto section = [](std::initializer_list<std::int32_t> lengths) {
    std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>> s{{}, {0}};
    for (std::int32_t n : lengths) {
      for (std::int32_t i = 0; i < n; ++i) s.first.push_back(i % 10);
      s.second.push_back(static_cast<std::int32_t>(s.first.size()));
    }
    return s;
  };
  const auto findings = section({70, 0, 3, 12, 0, 64}), impression = section({9, 5, 0, 66, 0, 2});
  return {
      {findings.first, findings.second}, {impression.first, impression.second}, {}, places, 80, 10};
}

}  // namespace

TEST_CASE_TEMPLATE("operations of attention over the segments of a text", T, float, double) {
  const Index heads = 2, width = 16, places = 5;
  for (bool causal : {false, true}) {
    const auto run = [&]<class B>(B) {
      const auto p = plan<B>(places);
      const auto x = leaf<T, B>(normal(p.rows * 3 * width, 1), {p.rows, 3 * width});
      return with_gradients<T, B>({&x}, [&] {
        using V = Variable<T, B>;
        return self_attention(use<V>(x), p.segments,
                              AttentionOptions<V>{heads, causal, nullptr, {}});
      });
    };
    CHECK(difference(run(Cuda{}), run(Reference{})) <= 10 * tolerance<T>);
  }
  for (bool summarize : {false, true}) {
    const auto run = [&]<class B>(B) {
      const auto p = plan<B>(places);
      const auto& branch = summarize ? p.summarize : p.caption;
      const Index memory = branch.memory.rows;
      const auto q = leaf<T, B>(normal(branch.count * width, 2), {branch.count, width}),
                 kv = leaf<T, B>(normal(memory * 2 * width, 3), {memory, 2 * width});
      return with_gradients<T, B>({&q, &kv}, [&] {
        using V = Variable<T, B>;
        return cross_attention(use<V>(q), use<V>(kv), branch.queries, branch.memory, heads);
      });
    };
    CHECK(difference(run(Cuda{}), run(Reference{})) <= 10 * tolerance<T>);
  }
}

TEST_CASE_TEMPLATE("windowed attention with a relative bias, shifted and not", T, float, double) {
  struct Case {
    Index width, heads, window, shift, side, batch;
  };
  for (const auto& c : {Case{12, 3, 2, 0, 4, 3}, Case{12, 3, 2, 1, 4, 3}, Case{8, 2, 7, 3, 14, 2},
                        Case{64, 2, 3, 1, 3, 1}}) {
    const auto run = [&]<class B>(B) {
      nn::WindowAttention<T, B> attention(c.width, c.heads, c.window, c.shift, c.side);
      std::vector<const Parameter<T, B>*> leaves;
      std::uint64_t seed = 0;
      nn::for_each_parameter(attention, [&](const std::string&, auto& p) {
        p.value = tensor<T, B>(normal(p.value.size(), ++seed, 0.3), p.value.shape());
        leaves.push_back(&p);
      });
      const Index rows = c.batch * c.side * c.side;
      const auto x = leaf<T, B>(normal(rows * c.width, 50), {rows, c.width});
      leaves.push_back(&x);
      return with_gradients<T, B>(leaves,
                                  [&] { return attention(use<Variable<T, B>>(x), c.batch); });
    };
    const Values want = run(Reference{});
    CHECK(difference(run(Cuda{}), want) <= 10 * tolerance<T> * std::max(1.0, largest(want)));
  }
}
