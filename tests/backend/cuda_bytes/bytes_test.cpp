// What the roofline declares of each call of one small step against what the CUDA backend launches
// and touches there. Every byte that a launch touches is declared, once; what it reads again is
// declared where a cache may have lost it, so the accesses that were counted are that many or more.
// The products of cuBLAS and cuBLASLt and the driver's copies are not kernels of this project:
// nobody counts what they touch, and nothing is compared.
#include <doctest/doctest.h>

#include "counted.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/system/hybridmed.hpp"
#include "hybridmed/train/step.hpp"
#include "small_step.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

struct Row {
  int calls = 0;
  Moved declared, counted;
};

/// By the calls' names; those that are not as declared fail.
std::map<std::string, Row> compare(const std::vector<Counted::Call>& calls) {
  std::map<std::string, Row> rows;
  for (const auto& c : calls) {
    Row& row = rows[c.name];
    ++row.calls;
    row.declared.add(c.declared);
    row.counted.add(c.counted);
    if (c.name.starts_with("local") || c.name.starts_with("token")) continue;
    CAPTURE(c.name);
    CHECK(c.counted.launches == c.declared.launches);
    CHECK(c.counted.bytes == c.declared.bytes);
    CHECK(c.counted.again >= c.declared.again);
  }
  return rows;
}

void print(const std::map<std::string, Row>& rows) {
  std::printf("%-28s %6s %9s %8s %12s %12s %12s %12s\n", "call", "calls", "launches", "counted",
              "bytes", "counted", "read again", "counted");
  for (const auto& [name, r] : rows)
    std::printf("%-28s %6d %9.0f %8.0f %12.0f %12.0f %12.0f %12.0f\n", name.c_str(), r.calls,
                r.declared.launches, r.counted.launches, r.declared.bytes, r.counted.bytes,
                r.declared.again, r.counted.again);
}

/// One step of the second stage.
template <class T>
void count_step() {
  const auto config = small("tiny");
  system::SystemOf<system::HybridMed, T, Counted> hybridmed(config);
  nn::initialise(hybridmed, 7);
  hybridmed.begin_stage(1);
  const auto batch = three_samples<T, Counted>(hybridmed, config.image_size);
  optim::AdamW<master_of<T>, Counted> optimizer(hybridmed, {});
  Tape tape;
  system::StageOf<T, Counted> stage(hybridmed, 1);
  optimizer.begin_step(1e-3);
  Counter::instance().restart();
  Counted::calls.clear();
  const auto issued =
      train::issue_step(stage, batch, optimizer, tape, nn::Mode::training(Philox(3)));
  Counter::instance().stop();
  CHECK(issued.read().finite);
  print(compare(Counted::calls));
}

}  // namespace

TEST_CASE("kernels that this step leaves out touch the bytes that are declared") {
  using B = Counted;
  using F = Tensor<float, B>;
  const auto floats = [](Index rows, Index cols) {
    return tensor<float, B>(normal(rows * cols, 1), {rows, cols});
  };
  const auto indices = [](Index n, Index targets) {
    std::vector<std::int32_t> x;
    for (Index i = 0; i < n; ++i)
      x.push_back(i % 7 == 3 ? -1 : static_cast<std::int32_t>(i * 5 % targets));
    return IndexTensor<B>::from_host(x, {n});
  };
  const F x = floats(70, 36), y = floats(70, 36), out = floats(70, 36),
          cols[5]{floats(1, 36), floats(1, 36), floats(1, 36), floats(1, 36), floats(1, 36)},
          rows[2]{floats(1, 70), floats(1, 70)}, one = floats(1, 1);
  const F wide[3]{floats(3, 1100), floats(3, 1100), floats(3, 1100)},
      of_wide[5]{floats(1, 1100), floats(1, 1100), floats(1, 3), floats(1, 3), floats(1, 1100)};
  const F many = floats(5000, 4), sums = floats(600, 4);
  const auto few_targets = indices(5000, 100), targets = indices(5000, 600);
  const ConvShape pool{2, 9, 7, 5, 5, 3, 2, 1};
  const F map = floats(2 * 9 * 7, 5), pooled = floats(2 * 5 * 4, 5);
  const IndexTensor<B> where({2 * 5 * 4 * 5});
  Tensor<double, B> total = tensor<double, B>({0.0}, {1});
  float* const none = nullptr;
  const Index n = x.size();

  Counter::instance().restart();
  B::calls.clear();
  B::multiply(n, x.data(), y.data(), out.data());
  B::multiply(n, x.data(), x.data(), out.data());
  B::divide(n, x.data(), y.data(), out.data());
  B::logarithm(n, x.data(), out.data());
  B::reciprocal_sqrt(n, x.data(), 1e-5f, out.data());
  B::sum(n, 2.0, x.data(), one.data());
  B::squared_norm(n, x.data(), total.data());
  B::dropout_mask(n, Philox(3), 0.1, out.data());
  B::sigmoid_cross_entropy(n, x.data(), y.data(), out.data());
  B::sigmoid_cross_entropy_backward(n, x.data(), y.data(), y.data(), out.data());
  B::transpose(2, 35, 36, x.data(), out.data());
  B::layer_norm(3, 1100, wide[0].data(), of_wide[0].data(), of_wide[1].data(), 1e-5, wide[1].data(),
                of_wide[2].data(), of_wide[3].data());
  for (float* dx : {none, wide[2].data()})
    for (float* slopes : {none, of_wide[1].data()}) {
      if (!dx && !slopes) continue;
      B::layer_norm_backward(3, 1100, wide[0].data(), of_wide[0].data(), of_wide[2].data(),
                             of_wide[3].data(), wide[1].data(), dx, slopes,
                             slopes ? of_wide[4].data() : none);
      B::layer_norm_backward(70, 36, x.data(), cols[0].data(), rows[0].data(), rows[1].data(),
                             y.data(), dx ? out.data() : none, slopes ? cols[1].data() : none,
                             slopes ? cols[2].data() : none);
    }
  B::soft_cross_entropy(70, 36, x.data(), y.data(), 0.5, one.data(), rows[0].data());
  B::soft_cross_entropy_backward<float>(70, 36, x.data(), y.data(), 0.5, rows[0].data(), one.data(),
                                        true, out.data());
  B::sinkhorn(70, 36, x.data(), 0.05, 3, out.data());
  for (const auto* to : {&few_targets, &targets})
    B::scatter_add_rows(5000, 4, many.data(), to->data(), sums.data());
  B::gather_rows(5000, 4, sums.data(), targets.data(), many.data());
  B::column_moments(70, 36, x.data(), cols[0].data(), cols[1].data());
  B::batch_norm(70, 36, x.data(), cols[0].data(), cols[1].data(), cols[2].data(), cols[3].data(),
                out.data());
  for (const bool moments : {false, true})
    B::batch_norm_backward(70, 36, x.data(), cols[0].data(), cols[1].data(), cols[2].data(),
                           y.data(), moments, out.data(), cols[3].data(), cols[4].data());
  B::max_pool(pool, map.data(), pooled.data(), where.data());
  B::max_pool_backward(pool, pooled.data(), where.data(), map.data());
  Counter::instance().stop();
  print(compare(B::calls));
}
TEST_CASE("a step in float touches the bytes that are declared") { count_step<float>(); }
TEST_CASE("a step in bf16 touches the bytes that are declared") { count_step<bfloat16>(); }
