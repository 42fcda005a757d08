// Gradients of the feed-forward block.
#include "hybridmed/autograd/feed_forward.hpp"
#include "autograd/gradient_check.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

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
