// The token-wise contrast of regions and words.
#include "backend/token_alignment_cases.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("token_alignment", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (const auto& c : token_cases)
    for (bool weighted : {false, true})
      for (double temperature : {0.1, 1.0}) {
        TokenData<T> d(c, weighted);
        d.a.temperature = temperature;
        const std::string s = std::string(c.name) + (weighted ? ", weighted" : "") +
                              ", temperature " + std::to_string(temperature);
        // A loss near 0 is a difference of logits, which are as large as 1 / temperature.
        conform<B, T>(
            s, {garbage<T>(1)}, [&](auto k, auto y) { decltype(k)::token_alignment(d.a, y[0]); },
            tolerance<T>, 1 / temperature);
        for (int wanted : {3, 1, 2, 0})
          conform<B, T>(s + ", backward, outputs " + std::to_string(wanted), {d.dp, d.dw},
                        [&](auto k, auto y) {
                          decltype(k)::token_alignment_backward(d.a, &d.upstream,
                                                                wanted & 1 ? y[0] : nullptr,
                                                                wanted & 2 ? y[1] : nullptr);
                        });
        // Alone, without the sums that hide small gradients.
        conform<B, T>(
            s + ", backward into zeros",
            {filled<T>(static_cast<Index>(d.dp.size()), 0),
             filled<T>(static_cast<Index>(d.dw.size()), 0)},
            [&](auto k, auto y) {
              decltype(k)::token_alignment_backward(d.a, &d.upstream, y[0], y[1]);
            },
            std::is_same_v<T, float> ? 1e-4 : 1e-11, 1e-3);
      }
}

TEST_CASE_TEMPLATE("token_alignment: a single word or region has nothing to tell apart", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  TokenData<T> d({"", 1, 7, {1, 1, 1}}, false);
  T loss = T(-1);
  B::token_alignment(d.a, &loss);
  CHECK(loss == T(0));
  TokenData<T> none({"", 5, 7, {}}, false);
  B::token_alignment(none.a, &(loss = T(-1)));
  CHECK(loss == T(0));
}
