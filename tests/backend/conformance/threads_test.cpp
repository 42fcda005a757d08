// The same bits for every number of threads.
#include "backend/attention_cases.hpp"
#include "backend/local_alignment_cases.hpp"
#include "backend/token_alignment_cases.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// The outputs of `kernel` for 1, 2 and 3 threads, three times each, must be the same bits.
template <class B, class T, class F>
void same_bits(const char* what, const std::vector<Values<T>>& initial, F&& kernel) {
  INFO(what);
  std::vector<Values<T>> first;
  const int before = B::threads();
  for (int threads : {1, 2, 3})
    for (int repeat = 0; repeat < 3; ++repeat) {
      B::set_threads(threads);
      auto outputs = initial;
      std::vector<T*> y;
      for (auto& v : outputs) y.push_back(v.data());
      kernel(y);
      if (first.empty()) first = outputs;
      bool equal = true;
      for (std::size_t i = 0; i < outputs.size(); ++i)
        equal = equal && (outputs[i].empty() || std::memcmp(outputs[i].data(), first[i].data(),
                                                            outputs[i].size() * sizeof(T)) == 0);
      INFO(threads << " threads");
      CHECK(equal);
    }
  B::set_threads(before);
}

}  // namespace

TEST_CASE_TEMPLATE("results do not depend on the number of threads", P, EIGEN_PARALLEL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  {
    const Index m = 401, n = 1100, k = 197;
    const auto a = random<T>(m * k, 1), b = random<T>(k * n, 2);
    for (int t = 0; t < 4; ++t) {
      const bool ta = t & 1, tb = t & 2;
      same_bits<B, T>("gemm", {random<T>(m * n, 3)}, [&](auto y) {
        B::gemm(ta, tb, m, n, k, T(0.5), a.data(), ta ? m : k, b.data(), tb ? k : n, T(1), y[0], n);
      });
    }
  }
  for (const auto& c : attention_cases) {
    AttentionData<T> d(c);
    same_bits<B, T>(c.name, {filled<T>(d.q_rows * d.a.ldo, 0), filled<T>(d.q_rows * c.heads, 0)},
                    [&](auto y) { attention_forward<B>(d, y[0], y[1]); });
    same_bits<B, T>(
        c.name,
        {filled<T>(d.q_rows * d.a.ldq, 0), filled<T>(d.k_rows * d.a.ldk, 0),
         filled<T>(d.k_rows * d.a.ldv, 0), random<T>(c.heads * c.area * c.area, 6)},
        [&](auto y) { attention_backward<B>(d, y[0], y[1], y[2], c.bias ? y[3] : nullptr); });
  }
  {
    const Index rows = 5003, cols = 300;
    const auto x = random<T>(rows * cols, 1), gain = random<T>(cols, 2), mean = random<T>(rows, 3),
               rstd = random<T>(rows, 4), dy = random<T>(rows * cols, 5);
    same_bits<B, T>("layer_norm_backward",
                    {filled<T>(rows * cols, 0), random<T>(cols, 6), random<T>(cols, 7)},
                    [&](auto y) {
                      B::layer_norm_backward(rows, cols, x.data(), gain.data(), mean.data(),
                                             rstd.data(), dy.data(), y[0], y[1], y[2]);
                    });
  }
  {
    const auto x = random<T>(1000003, 1);
    same_bits<B, double>("squared_norm", {{0.0}}, [&](auto y) {
      B::squared_norm(static_cast<Index>(x.size()), x.data(), y[0]);
    });
    same_bits<B, T>("sum", {{T(0)}},
                    [&](auto y) { B::sum(static_cast<Index>(x.size()), 1e-3, x.data(), y[0]); });
  }
  for (const auto& s : {ConvShape{19, 17, 13, 5, 7, 3, 1, 1}, ConvShape{11, 17, 13, 5, 7, 1, 1, 0},
                        ConvShape{3, 65, 33, 3, 5, 7, 2, 3}}) {
    const auto x = random<T>(s.batch * s.height * s.width * s.in, 1),
               dy = random<T>(s.batch * s.out_height() * s.out_width() * s.out, 2);
    same_bits<B, T>("conv2d_backward_weight", {random<T>(s.out * s.kernel * s.kernel * s.in, 3)},
                    [&](auto y) { B::conv2d_backward_weight(s, x.data(), dy.data(), y[0]); });
  }
  for (const auto& c : local_cases)
    for (auto [aggregation, mode] : aggregations) {
      const LocalData<T> d(c, aggregation);
      same_bits<B, T>(mode,
                      {random<T>(c.images * c.regions * c.dim, 4), random<T>(d.words * c.dim, 5)},
                      [&](auto y) { B::local_scores_backward(d.a, d.dz.data(), y[0], y[1]); });
    }
  for (const auto& c : token_cases) {
    const TokenData<T> d(c, true);
    same_bits<B, T>(c.name, {garbage<T>(1)}, [&](auto y) { B::token_alignment(d.a, y[0]); });
    same_bits<B, T>(c.name, {d.dp, d.dw},
                    [&](auto y) { B::token_alignment_backward(d.a, &d.upstream, y[0], y[1]); });
  }
  {
    const Index rows = 67, cols = 501;
    const auto s = random<T>(rows * cols, 1, 0.3);
    auto q = filled<T>(rows * cols, 0);
    same_bits<B, T>("sinkhorn", {garbage<T>(rows * cols)},
                    [&](auto y) { B::sinkhorn(rows, cols, s.data(), 0.05, 3, y[0]); });
    B::sinkhorn(rows, cols, s.data(), 0.05, 3, q.data());
    same_bits<B, T>("soft_cross_entropy", {garbage<T>(1), garbage<T>(rows)}, [&](auto y) {
      B::soft_cross_entropy(rows, cols, s.data(), q.data(), 0.2, y[0], y[1]);
    });
  }
}
