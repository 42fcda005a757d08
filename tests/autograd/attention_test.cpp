// Gradients of attention.
#include "hybridmed/autograd/attention.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("gradients of self_attention", B, BACKENDS) {
  const Index heads = 2, dim = 3, width = heads * dim;
  for (const auto& lengths : {std::vector<Index>{1}, {5}, {3, 1, 0, 7}, {0}, {}, {67}})
    for (bool causal : {false, true}) {
      const auto s = segments<B>(lengths);
      check<B>(causal ? "self_attention, causal" : "self_attention",
               {random<B>({s.rows, 3 * width}, 1, s.rows > 60 ? 0.5 : 1)}, [&](const auto& x) {
                 AttentionOptions<std::decay_t<decltype(x[0])>> o;
                 o.heads = heads;
                 o.causal = causal;
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
      o.heads = heads;
      o.causal = causal;
      o.mask = mask;
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
