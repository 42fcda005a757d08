// The CUDA kernels of losses over classes and over pairs against the reference backend.
#include "conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity(),
                 nan_ = std::numeric_limits<double>::quiet_NaN();

const std::pair<Index, Index> matrices[] = {{0, 3},  {3, 0},  {1, 1},    {1, 2},
                                            {3, 17}, {65, 3}, {17, 197}, {2, 30001}};

/// Entries of a target: some 0, rows that do not sum to 1.
Values shares(Index n, Index classes) {
  Values q = normal(n, 2);
  for (std::size_t i = 0; i < q.size(); ++i)
    q[i] = i % 5 == 3 ? 0 : std::abs(q[i]) / static_cast<double>(classes);
  return q;
}

std::string listed(const Values& x) {
  std::string s;
  for (double v : x) s += " " + std::to_string(v);
  return s;
}

/// What f writes to y from the matrices x, on both backends: numbers agree, and infinities and NaN
/// are in the same places.
template <class T, class F>
void agree(const std::vector<Values>& x, const Shape& shape, Index outputs, F&& f) {
  const auto run = [&]<class B>(B) {
    std::vector<Tensor<T, B>> in;
    for (const Values& v : x) in.push_back(tensor<T, B>(v, shape));
    const auto y = tensor<T, B>(garbage(outputs), {outputs});
    f(B{}, in, y.data());
    return values(y);
  };
  const Values want = run(Reference{}), got = run(Cuda{});
  for (std::size_t i = 0; i < want.size(); ++i) {
    CAPTURE(i);
    CAPTURE(want[i]);
    CAPTURE(got[i]);
    CHECK((got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])) ||
           std::abs(got[i] - want[i]) <= 10 * tolerance<T> * std::max(1.0, std::abs(want[i]))));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("distillation", T, float, double) {
  for (auto [r, c] : matrices)
    for (double size : {1.0, 10.0})
      for (double tau : {1.0, 2.5}) {
        const Index rows = r, classes = c, n = r * c;
        const Values z = normal(n, 1, size), q = normal(n, 2, size), up{-1.7};
        for (bool accumulate : {false, true})
          conform<T>("distillation" + sizes({rows, classes}), {z, q, up}, {},
                     {garbage(1), garbage(rows), garbage(rows), accumulate ? z : garbage(n)},
                     [&](auto k, auto& x, auto, auto& y) {
                       k.distillation(rows, classes, x[0].data(), x[1].data(), tau, y[0].data(),
                                      y[1].data(), y[2].data());
                       if (classes > 0)
                         k.template distillation_backward<T>(
                             rows, classes, x[0].data(), x[1].data(), tau, y[1].data(), y[2].data(),
                             x[2].data(), accumulate, y[3].data());
                       else
                         for (int i : {1, 2}) k.fill(rows, T(0), y[i].data());  // log 0 on both
                     });
      }
}

TEST_CASE_TEMPLATE("soft_cross_entropy", T, float, double) {
  for (auto [r, c] : matrices)
    for (double size : {1.0, 10.0})
      for (double tau : {1.0, 0.2}) {
        const Index rows = r, classes = c, n = r * c;
        const Values z = normal(n, 1, size), q = shares(n, classes), up{-1.7};
        for (bool accumulate : {false, true})
          conform<T>("soft_cross_entropy" + sizes({rows, classes}), {z, q, up}, {},
                     {garbage(1), garbage(rows), accumulate ? z : garbage(n)},
                     [&](auto k, auto& x, auto, auto& y) {
                       k.soft_cross_entropy(rows, classes, x[0].data(), x[1].data(), tau,
                                            y[0].data(), y[1].data());
                       if (classes > 0)
                         k.template soft_cross_entropy_backward<T>(
                             rows, classes, x[0].data(), x[1].data(), tau, y[1].data(), x[2].data(),
                             accumulate, y[2].data());
                       else
                         k.fill(rows, T(0), y[1].data());
                     });
      }
}

TEST_CASE_TEMPLATE("symmetric_cross_entropy", T, float, double) {
  for (Index n : {0, 1, 3, 17, 65, 300})
    for (bool with_keys : {false, true})
      for (double smoothing : {0.0, 0.1}) {
        std::vector<std::int32_t> keys;
        for (Index i = 0; i < n; ++i) keys.push_back(static_cast<std::int32_t>(i % 3 == 2 ? 0 : i));
        conform<T>("symmetric_cross_entropy" + sizes({n}), {normal(n * n, 1, 3)}, keys,
                   {garbage(1), garbage(n * n)}, [&](auto k, auto& x, auto i, auto& y) {
                     k.symmetric_cross_entropy(n, x[0].data(), with_keys ? i : nullptr, smoothing,
                                               0.3, 0.7, y[0].data(), y[1].data());
                   });
      }
}

TEST_CASE_TEMPLATE("sinkhorn", T, float, double) {
  const std::pair<Index, Index> all[] = {{0, 3},  {3, 0},  {1, 1},    {1, 65},
                                         {3, 17}, {65, 1}, {17, 197}, {130, 66}};
  for (auto [r, c] : all)
    for (double size : {0.3, 5.0})
      for (Index iterations : {0, 1, 3}) {
        const Index rows = r, cols = c;
        conform<T>("sinkhorn" + sizes({rows, cols, iterations}), {normal(rows * cols, 1, size)}, {},
                   {garbage(rows * cols)}, [&](auto k, auto& x, auto, auto& y) {
                     k.sinkhorn(rows, cols, x[0].data(), 0.05, iterations, y[0].data());
                   });
      }
}

TEST_CASE_TEMPLATE("an offset that all logits share changes nothing", T, float, double) {
  for (double offset : {1e4, 1e7, -1e7}) {
    Values z, shifted, q;
    for (Index i = 0; i < 39; ++i) {
      z.push_back(static_cast<double>(i * i % 7));
      shifted.push_back(offset + z.back());
      q.push_back(static_cast<double>(i * 5 % 11));
    }
    // The reference gets them without the offset.
    const auto logits = [](auto k, auto& x) {
      return x[std::is_same_v<decltype(k), Cuda> ? 1 : 0].data();
    };
    conform<T>("distillation", {z, shifted, q}, {}, {garbage(1), garbage(3), garbage(3)},
               [&](auto k, auto& x, auto, auto& y) {
                 k.distillation(3, 13, logits(k, x), x[2].data(), 2.0, y[0].data(), y[1].data(),
                                y[2].data());
               });
    conform<T>("soft_cross_entropy", {z, shifted, q}, {}, {garbage(1), garbage(3)},
               [&](auto k, auto& x, auto, auto& y) {
                 k.soft_cross_entropy(3, 13, logits(k, x), x[2].data(), 2.0, y[0].data(),
                                      y[1].data());
               });
  }
}

TEST_CASE_TEMPLATE("a student that equals its teacher has no loss and no gradient", T, float,
                   double) {
  const Index rows = 3, classes = 1031;
  const auto z = tensor<T, Cuda>(normal(rows * classes, 1, 5), {rows, classes});
  const auto one = Tensor<T, Cuda>::full(Shape{}, T(1));
  const Tensor<T, Cuda> loss(Shape{}), ls({rows}), lt({rows}), dz({rows, classes});
  Cuda::distillation(rows, classes, z.data(), z.data(), 0.7, loss.data(), ls.data(), lt.data());
  CHECK(loss.item() == T(0));
  Cuda::template distillation_backward<T>(rows, classes, z.data(), z.data(), 0.7, ls.data(),
                                          lt.data(), one.data(), false, dz.data());
  CHECK(largest(values(dz)) == 0);
}

TEST_CASE_TEMPLATE("a gradient that is given the largest logits has the bits of one that is not", T,
                   float, double) {
  static_assert(BackendRowTops<Cuda, T>);
  for (auto [r, c] : matrices) {
    const Index rows = r, classes = c;
    if (rows * classes == 0) continue;
    CAPTURE(rows);
    CAPTURE(classes);
    const auto s = tensor<T, Cuda>(normal(rows * classes, 1, 5), {rows, classes}),
               t = tensor<T, Cuda>(normal(rows * classes, 2, 5), {rows, classes});
    std::vector<std::int32_t> classes_of_rows;
    for (Index i = 0; i < rows; ++i)
      classes_of_rows.push_back(static_cast<std::int32_t>(5 * i % classes));
    const auto target = indices<Cuda>(classes_of_rows);
    const auto one = Tensor<T, Cuda>::full(Shape{}, T(1));
    const Tensor<T, Cuda> loss(Shape{}), lse({2, rows}), top({2, rows});
    T *const of_t = lse.data() + rows, *const top_t = top.data() + rows;
    const auto gradient = [&](auto kernel) {
      Tensor<T, Cuda> dz({rows, classes});
      kernel(dz.data());
      return values(dz);
    };
    Cuda::cross_entropy(rows, classes, s.data(), target.data(), 0.1, loss.data(), lse.data(),
                        top.data());
    const auto of_cross_entropy = [&](const T* tops) {
      return gradient([&](T* dz) {
        Cuda::cross_entropy_backward<T>(rows, classes, s.data(), target.data(), 0.1, lse.data(),
                                        one.data(), false, dz, tops);
      });
    };
    CHECK(of_cross_entropy(top.data()) == of_cross_entropy(nullptr));
    Cuda::distillation(rows, classes, s.data(), t.data(), 2.0, loss.data(), lse.data(), of_t,
                       top.data(), top_t);
    const auto of_distillation = [&](const T* tops, const T* tops_t) {
      return gradient([&](T* dz) {
        Cuda::distillation_backward<T>(rows, classes, s.data(), t.data(), 2.0, lse.data(), of_t,
                                       one.data(), false, dz, tops, tops_t);
      });
    };
    CHECK(of_distillation(top.data(), top_t) == of_distillation(nullptr, nullptr));
  }
}

TEST_CASE_TEMPLATE("excluded classes, infinities and NaN come out as the reference has them", T,
                   float, double) {
  const double low = -1e30;
  const std::vector<Values> rows{{1, 2, 3, 0.5},      {1, 2, -inf, 0.5},        {-inf, 2, 3, 0.5},
                                 {-inf, -inf, 3, 1},  {-inf, -inf, -inf, -inf}, {1, inf, 2, 3},
                                 {1, nan_, 2, 3},     {1, 2, low, 0.5},         {low, 2, 3, low},
                                 {-150, -120, 0, -95}};
  for (const Values& s : rows)
    for (const Values& t : rows) {
      CAPTURE(listed(s));
      CAPTURE(listed(t));
      agree<T>({s, t}, {1, 4}, 3, [](auto k, auto& x, T* y) {
        k.distillation(1, 4, x[0].data(), x[1].data(), 2.0, y, y + 1, y + 2);
      });
      Values q = t;  // a target that excludes what the teacher does
      for (double& v : q) v = std::exp(std::min(v, 5.0));
      agree<T>({s, q}, {1, 4}, 2, [](auto k, auto& x, T* y) {
        k.soft_cross_entropy(1, 4, x[0].data(), x[1].data(), 0.5, y, y + 1);
      });
      Values square = s;
      square.insert(square.end(), t.begin(), t.end());
      square.insert(square.end(), {0.1, 0.2, 0.3, 0.4, 0.5, -0.6, 0.7, -0.8});
      for (double row_weight : {0.0, 0.5})
        agree<T>({square}, {4, 4}, 17, [=](auto k, auto& x, T* y) {
          k.symmetric_cross_entropy(4, x[0].data(), nullptr, 0.0, row_weight, 1 - row_weight, y,
                                    y + 1);
        });
      agree<T>({square}, {4, 4}, 16,
               [](auto k, auto& x, T* y) { k.sinkhorn(4, 4, x[0].data(), 1.0, 2, y); });
    }
}

TEST_CASE_TEMPLATE("where a matrix begins in memory changes no bit", T, float, double) {
  const Index rows = 5, classes = 1031, n = rows * classes;
  const auto run = [&](Index shift) {
    const auto place = [&](Values v) {
      v.insert(v.begin(), static_cast<std::size_t>(shift), nan_);
      return tensor<T, Cuda>(v, {static_cast<Index>(v.size())});
    };
    const auto s = place(normal(n, 1, 3)), t = place(normal(n, 2, 3)), g = place(garbage(n));
    const auto one = Tensor<T, Cuda>::full(Shape{}, T(1));
    const Tensor<T, Cuda> loss(Shape{}), ls({rows}), lt({rows});
    Cuda::distillation(rows, classes, s.data() + shift, t.data() + shift, 2.0, loss.data(),
                       ls.data(), lt.data());
    Cuda::template distillation_backward<T>(rows, classes, s.data() + shift, t.data() + shift, 2.0,
                                            ls.data(), lt.data(), one.data(), false,
                                            g.data() + shift);
    Values all = values(g);
    all.erase(all.begin(), all.begin() + shift);
    for (const auto* x : {&loss, &ls, &lt})
      for (double v : values(*x)) all.push_back(v);
    return all;
  };
  const Values aligned = run(0);
  for (Index shift : {1, 2, 3}) CHECK(run(shift) == aligned);
}
