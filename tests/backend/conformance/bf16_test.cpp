// What is particular to bf16 on the host backends: the fused add_norm, and the same bits for every
// number of threads. tests/backend/bf16/ has the kernels one by one.
#include "backend/bf16_conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

static_assert(Backend<Reference, bfloat16> && Backend<CpuBackend, bfloat16>);
static_assert(BackendFusedAddNorm<Reference, bfloat16> &&
              BackendFusedAddNorm<CpuBackend, bfloat16>);

namespace {

const std::vector<std::pair<Index, Index>> some_matrices{{0, 3},   {1, 65},   {3, 17},   {17, 3},
                                                         {5, 257}, {65, 197}, {1025, 17}};

}  // namespace

TEST_CASE_TEMPLATE("bf16: add_norm has the bits of add and layer_norm", B, BF16_BACKENDS) {
  for (auto [rows, cols] : some_matrices) {
    const Index r = rows, n = cols;
    INFO(r << " x " << n);
    const auto x = random<float>(r * n, 1, 2, 0.5), y = random<float>(r * n, 4),
               gain = random<float>(n, 2, 0.3, 1), bias = random<float>(n, 3);
    Values<float> sum(x.size()), mean(static_cast<std::size_t>(r)), rstd(mean), sum2(sum),
        mean2(mean), rstd2(mean);
    Values<bfloat16> norm(x.size()), norm2(norm);
    B::add(r * n, x.data(), y.data(), sum.data());
    B::layer_norm(r, n, sum.data(), gain.data(), bias.data(), 1e-5, norm.data(), mean.data(),
                  rstd.data());
    CHECK(B::add_norm(r, n, x.data(), y.data(), gain.data(), bias.data(), 1e-5, sum2.data(),
                      norm2.data(), mean2.data(), rstd2.data()));
    CHECK((sum == sum2 && mean == mean2 && rstd == rstd2));
    CHECK(std::equal(norm.begin(), norm.end(), norm2.begin(),
                     [](bfloat16 a, bfloat16 b) { return a.bits == b.bits; }));
  }
}

namespace {

/// Float kernels whose add_norm serves no shape.
struct Unserving : reference::Kernels {
  template <class T>
  static bool add_norm(Index, Index, const T*, const T*, const T*, const T*, double, T*, T*, T*,
                       T*) {
    return false;
  }
};

}  // namespace

TEST_CASE("bf16: an add_norm that does not serve a shape writes nothing") {
  const auto x = random<float>(6, 1);
  Values<float> sum(6, 1.0f), mean(2, 2.0f), rstd(2, 3.0f);
  Values<bfloat16> norm(6, bfloat16(4.0f));
  CHECK_FALSE(Widened<Unserving>::add_norm(2, 3, x.data(), x.data(), x.data(), x.data(), 1e-5,
                                           sum.data(), norm.data(), mean.data(), rstd.data()));
  CHECK((sum == Values<float>(6, 1.0f) && mean == Values<float>(2, 2.0f)));
  CHECK(
      std::all_of(norm.begin(), norm.end(), [](bfloat16 v) { return static_cast<float>(v) == 4; }));
}

namespace {

/// The outputs of a kernel for 1, 2 and 3 threads, twice each, must be the same bits.
template <class F>
void same_bits(const char* what, const std::vector<Output>& outputs, F&& kernel) {
  using B = CpuBackend;
  INFO(what);
  const int before = B::threads();
  std::vector<Doubles> first;
  for (int threads : {1, 2, 3, 1, 2, 3}) {
    B::set_threads(threads);
    Arguments<B, bfloat16> p(outputs, false);
    kernel(p);
    std::vector<Doubles> now;
    for (std::size_t i = 0; i < outputs.size(); ++i) now.push_back(p.result(i));
    if (first.empty()) first = now;
    bool equal = true;
    for (std::size_t i = 0; i < now.size(); ++i)
      equal = equal && std::memcmp(now[i].data(), first[i].data(), 8 * now[i].size()) == 0;
    INFO(threads << " threads");
    CHECK(equal);
  }
  B::set_threads(before);
}

}  // namespace

TEST_CASE("bf16: results do not depend on the number of threads") {
  const Index m = 401, n = 700, k = 197;
  const auto a = halves(m * k, 1), b = halves(k * n, 2);
  const auto gemm = [&]<class P>(P& p, auto* c) {
    P::B::gemm(true, false, m, n, k, 0.5f, p.x(a), m, p.x(b), n, 1, c, n);
  };
  same_bits("gemm", {{halves(m * n, 3)}}, [&](auto& p) { gemm(p, p.y(0)); });
  same_bits("gemm to float", {Output::sum(floats(m * n, 3))}, [&](auto& p) { gemm(p, p.sum(0)); });
  const Index rows = 5003, cols = 300, all = rows * cols;
  const auto x = halves(all, 1), dy = halves(all, 5), other = halves(all, 9);
  const auto gain = floats(cols, 2), mean = floats(rows, 3), rstd = floats(rows, 4),
             column = floats(cols, 8);
  std::vector<std::int32_t> index;
  for (Index r = 0; r < rows; ++r) index.push_back(static_cast<std::int32_t>(r * r % 97));
  same_bits("add", {{nothing(all)}},
            [&]<class P>(P& p) { P::B::add(all, p.x(x), p.x(dy), p.y(0)); });
  same_bits("axpy", {Output::sum(other)},
            [&]<class P>(P& p) { P::B::axpy(all, 0.3f, p.x(x), p.sum(0)); });
  same_bits("gelu", {{nothing(all)}},
            [&]<class P>(P& p) { P::B::activation(Activation::gelu, all, p.x(x), p.y(0)); });
  same_bits("sum", {{{0}}}, [&]<class P>(P& p) { P::B::sum(all, 1e-3, p.x(x), p.y(0)); });
  same_bits("sum to float", {Output::sum({0})},
            [&]<class P>(P& p) { P::B::sum(all, 1e-3, p.x(x), p.sum(0)); });
  same_bits("dot", {Output::sum({0})},
            [&]<class P>(P& p) { P::B::dot(all, 1, p.x(x), p.x(dy), p.sum(0)); });
  same_bits("column_sum", {Output::sum(column)},
            [&]<class P>(P& p) { P::B::column_sum(rows, cols, p.x(x), p.sum(0)); });
  same_bits("scatter_add_rows", {Output::sum(floats(97 * cols, 6))}, [&]<class P>(P& p) {
    P::B::scatter_add_rows(rows, cols, p.x(dy), p.index(index), p.sum(0));
  });
  same_bits("layer_norm_backward",
            {{nothing(all)}, Output::sum(floats(cols, 6)), Output::sum(floats(cols, 7))},
            [&]<class P>(P& p) {
              P::B::layer_norm_backward(rows, cols, p.x(x), p.wide(gain), p.wide(mean),
                                        p.wide(rstd), p.x(dy), p.y(0), p.sum(1), p.sum(2));
            });
  same_bits("batch_norm_backward",
            {{nothing(all)}, Output::sum(floats(cols, 6)), Output::sum(floats(cols, 7))},
            [&]<class P>(P& p) {
              P::B::batch_norm_backward(rows, cols, p.x(x), p.wide(column), p.wide(gain),
                                        p.wide(gain), p.x(dy), true, p.y(0), p.sum(1), p.sum(2));
            });
  for (const auto& s :
       {ConvShape{19, 17, 13, 5, 7, 3, 1, 1}, ConvShape{3, 65, 33, 3, 5, 7, 2, 3}}) {
    const auto image = halves(s.batch * s.height * s.width * s.in, 1),
               w = halves(s.out * s.kernel * s.kernel * s.in, 2),
               dout = halves(s.batch * s.out_height() * s.out_width() * s.out, 3);
    same_bits("conv2d", {{nothing(static_cast<Index>(dout.size()))}},
              [&]<class P>(P& p) { P::B::conv2d(s, p.x(image), p.x(w), p.y(0)); });
    same_bits("conv2d_backward_input", {{nothing(static_cast<Index>(image.size()))}},
              [&]<class P>(P& p) { P::B::conv2d_backward_input(s, p.x(dout), p.x(w), p.y(0)); });
    same_bits(
        "conv2d_backward_weight", {Output::sum(floats(static_cast<Index>(w.size()), 4))},
        [&]<class P>(P& p) { P::B::conv2d_backward_weight(s, p.x(image), p.x(dout), p.sum(0)); });
  }
}
