// Element-wise kernels, random numbers and the optimizer's update.
#include "backend/conformance.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("fill and copy", P, ALL) {
  using T = typename P::scalar;
  for (Index n : lengths) {
    const auto x = random<T>(n, 1);
    conform<typename P::backend, T>(
        "fill " + text({n}), {garbage<T>(n)},
        [&](auto k, auto y) { decltype(k)::fill(n, T(1.5), y[0]); }, 0);
    conform<typename P::backend, T>(
        "copy " + text({n}), {garbage<T>(n)},
        [&](auto k, auto y) { decltype(k)::copy(n, x.data(), y[0]); }, 0);
  }
}

TEST_CASE_TEMPLATE("element-wise arithmetic, apart and in place", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (Index n : lengths) {
    const auto a = random<T>(n, 1), b = random<T>(n, 2);
    const T alpha = T(-0.7);
    const std::string s = text({n});
    conform<B, T>("add " + s, {garbage<T>(n)},
                  [&](auto k, auto y) { decltype(k)::add(n, a.data(), b.data(), y[0]); });
    conform<B, T>("add onto a " + s, {a},
                  [&](auto k, auto y) { decltype(k)::add(n, y[0], b.data(), y[0]); });
    conform<B, T>("add onto b " + s, {b},
                  [&](auto k, auto y) { decltype(k)::add(n, a.data(), y[0], y[0]); });
    conform<B, T>("multiply " + s, {garbage<T>(n)},
                  [&](auto k, auto y) { decltype(k)::multiply(n, a.data(), b.data(), y[0]); });
    conform<B, T>("multiply in place " + s, {a},
                  [&](auto k, auto y) { decltype(k)::multiply(n, y[0], b.data(), y[0]); });
    conform<B, T>("scale " + s, {garbage<T>(n)},
                  [&](auto k, auto y) { decltype(k)::scale(n, alpha, a.data(), y[0]); });
    conform<B, T>("scale in place " + s, {a},
                  [&](auto k, auto y) { decltype(k)::scale(n, alpha, y[0], y[0]); });
    conform<B, T>("axpy " + s, {b},
                  [&](auto k, auto y) { decltype(k)::axpy(n, alpha, a.data(), y[0]); });
    conform<B, T>("scale_by " + s, {garbage<T>(n)},
                  [&](auto k, auto y) { decltype(k)::scale_by(n, &alpha, a.data(), y[0]); });
    conform<B, T>("scale_by in place " + s, {a},
                  [&](auto k, auto y) { decltype(k)::scale_by(n, &alpha, y[0], y[0]); });
    conform<B, T>("divide " + s, {garbage<T>(n)},
                  [&](auto k, auto y) { decltype(k)::divide(n, a.data(), b.data(), y[0]); });
    conform<B, T>("divide in place " + s, {a},
                  [&](auto k, auto y) { decltype(k)::divide(n, y[0], b.data(), y[0]); });
    conform<B, T>(
        "sum " + s, {{T(3)}}, [&](auto k, auto y) { decltype(k)::sum(n, -0.7, a.data(), y[0]); },
        tolerance<T>, std::sqrt(static_cast<double>(n)));
    conform<B, T>("dot " + s, {{T(3)}},
                  [&](auto k, auto y) { decltype(k)::dot(n, alpha, a.data(), b.data(), y[0]); });
    conform<B, T>("exponential " + s, {garbage<T>(n)},
                  [&](auto k, auto y) { decltype(k)::exponential(n, a.data(), y[0]); });
    conform<B, T>(
        "clamp " + s, {a}, [&](auto k, auto y) { decltype(k)::clamp(n, T(-0.5), T(0.25), y[0]); },
        0);
    const auto positive = random<T>(n, 3, 0.1, 1);
    conform<B, T>("reciprocal_sqrt " + s, {garbage<T>(n)}, [&](auto k, auto y) {
      decltype(k)::reciprocal_sqrt(n, positive.data(), T(1e-5), y[0]);
    });
    conform<B, T>("logarithm " + s, {garbage<T>(n)},
                  [&](auto k, auto y) { decltype(k)::logarithm(n, positive.data(), y[0]); });
  }
}

TEST_CASE_TEMPLATE("what is not finite comes out of exp, log, quotients and sums", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN(),
          top = std::numeric_limits<T>::max();
  const Values<T> special{inf, -inf, nan, T(0), T(-0.0), T(-1), top, -top, T(1000), T(-1000)};
  for (Index n : {10, 10010, 70070}) {  // within a tile and beyond it
    Values<T> x, y;
    for (Index i = 0; i < n; ++i) {
      x.push_back(special[static_cast<std::size_t>(i % 10)]);
      y.push_back(special[static_cast<std::size_t>(i / 10 % 10)]);
    }
    conform<B, T>("exponential", {garbage<T>(n)},
                  [&](auto k, auto o) { decltype(k)::exponential(n, x.data(), o[0]); });
    conform<B, T>("logarithm", {garbage<T>(n)},
                  [&](auto k, auto o) { decltype(k)::logarithm(n, x.data(), o[0]); });
    conform<B, T>("divide", {garbage<T>(n)},
                  [&](auto k, auto o) { decltype(k)::divide(n, x.data(), y.data(), o[0]); });
    for (T bad : {inf, -inf, nan}) {
      auto v = random<T>(n, 1);
      v[static_cast<std::size_t>(n - 3)] = bad;
      conform<B, T>("sum", {{T(3)}},
                    [&](auto k, auto o) { decltype(k)::sum(n, 0.5, v.data(), o[0]); });
    }
  }
}

TEST_CASE_TEMPLATE("sigmoid_cross_entropy", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (Index n : lengths)
    for (double size : {0.01, 1.0, 30.0, 1e4}) {  // flat, usual, and saturated on both sides
      auto x = random<T>(n, 1, size), z = random<T>(n, 2, 1, 0.5);
      for (auto& p : z) p = std::min(T(1), std::max(T(0), p));  // 0 and 1 are among them
      const auto dy = random<T>(n, 3);
      if (n > 16) {
        const T inf = std::numeric_limits<T>::infinity();
        const Values<T> ends{T(0), T(-0.0), inf, inf, -inf, -inf};
        std::copy(ends.begin(), ends.end(), x.begin());
        for (std::size_t i = 0; i < 6; ++i) z[i] = static_cast<T>(i % 2);
        x[6] = z[7] = std::numeric_limits<T>::quiet_NaN();
      }
      const std::string s = text({n}) + " size " + std::to_string(size);
      conform<B, T>("sigmoid_cross_entropy " + s, {garbage<T>(n)}, [&](auto k, auto y) {
        decltype(k)::sigmoid_cross_entropy(n, x.data(), z.data(), y[0]);
      });
      conform<B, T>("sigmoid_cross_entropy backward " + s, {garbage<T>(n)}, [&](auto k, auto y) {
        decltype(k)::sigmoid_cross_entropy_backward(n, x.data(), z.data(), dy.data(), y[0]);
      });
      conform<B, T>("sigmoid_cross_entropy backward in place " + s, {dy}, [&](auto k, auto y) {
        decltype(k)::sigmoid_cross_entropy_backward(n, x.data(), z.data(), y[0], y[0]);
      });
    }
}

TEST_CASE_TEMPLATE("activations", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  const std::pair<Activation, const char*> kinds[] = {{Activation::identity, "identity"},
                                                      {Activation::relu, "relu"},
                                                      {Activation::gelu, "gelu"},
                                                      {Activation::gelu_tanh, "gelu_tanh"}};
  for (auto [kind, name] : kinds)
    for (Index n : lengths)
      for (double size : {0.01, 1.0, 4.0, 100.0}) {  // small, usual, and saturated on both sides
        auto x = random<T>(n, 1, size);
        if (n > 2) {
          x[0] = T(0);
          x[1] = T(-0.0);
        }
        const auto dy = random<T>(n, 2);
        const std::string s = std::string(name) + " " + text({n}) + " size " + std::to_string(size);
        // gelu(x) = x Phi(x) with Phi exact to an absolute error: for x << 0 the result is tiny,
        // the error is one of x.
        const double of_x = largest(x), of_dy = largest(dy), bound = tolerance<T>;
        conform<B, T>(
            s, {garbage<T>(n)},
            [&](auto k, auto y) { decltype(k)::activation(kind, n, x.data(), y[0]); }, bound, of_x);
        conform<B, T>(
            s + " in place", {x},
            [&](auto k, auto y) { decltype(k)::activation(kind, n, y[0], y[0]); }, bound, of_x);
        conform<B, T>(
            s + " backward", {garbage<T>(n)},
            [&](auto k, auto y) {
              decltype(k)::activation_backward(kind, n, x.data(), dy.data(), y[0]);
            },
            bound, of_dy);
        conform<B, T>(
            s + " backward in place", {dy},
            [&](auto k, auto y) {
              decltype(k)::activation_backward(kind, n, x.data(), y[0], y[0]);
            },
            bound, of_dy);
      }
}

TEST_CASE_TEMPLATE("random numbers are the same on every backend", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  for (Index n : lengths) {
    conform<B, T>(
        "fill_normal " + text({n}), {garbage<T>(n)},
        [&](auto k, auto y) { decltype(k)::fill_normal(n, Philox(3, 4), 0.02, y[0]); }, 0);
    for (double p : {0.0, 0.1, 0.5})
      conform<B, T>(
          "dropout_mask " + text({n}), {garbage<T>(n)},
          [&](auto k, auto y) { decltype(k)::dropout_mask(n, Philox(5, 6), p, y[0]); }, 0);
  }
}

TEST_CASE_TEMPLATE("squared_norm", P, ALL) {
  using T = typename P::scalar;
  for (Index n : lengths) {
    CAPTURE(n);
    const auto x = random<T>(n, 1);
    double mine = 0.5, theirs = 0.5;  // both add in double
    P::backend::squared_norm(n, x.data(), &mine);
    Reference::squared_norm(n, x.data(), &theirs);
    CHECK(std::abs(mine - theirs) <= 1e-12 * theirs);
  }
}

TEST_CASE_TEMPLATE("adamw, with a gradient and without", P, ALL) {
  using B = typename P::backend;
  using T = typename P::scalar;
  AdamWArgs a;
  StepState state;
  a.step = &state;
  state.learning_rate = 1e-3;
  a.decay = 0.05;
  for (int step : {1, 2, 1000})
    for (double square : {0.01, 9.0})  // within the clip and over it
      for (Index n : lengths) {
        state.correction1 = 1 - std::pow(a.beta1, step);
        state.correction2 = 1 - std::pow(a.beta2, step);
        a.clip = 1;
        state.squared_norm = square;
        const auto g = random<T>(n, 1), p = random<T>(n, 2);
        auto m = random<T>(n, 3, 0.1), v = random<T>(n, 4, 0.1);
        for (auto& x : v) x *= x;
        if (step == 1) m = v = filled<T>(n, 0);
        const std::string s = text({n}) + " step " + std::to_string(step);
        conform<B, T>("adamw " + s, {m, v, p}, [&](auto k, auto y) {
          decltype(k)::adamw(n, a, g.data(), y[0], y[1], y[2]);
        });
        conform<B, T>("adamw without gradient " + s, {m, v, p}, [&](auto k, auto y) {
          decltype(k)::adamw(n, a, static_cast<const T*>(nullptr), y[0], y[1], y[2]);
        });
      }
}

TEST_CASE_TEMPLATE("adamw changes nothing where the gradient norm is not finite", P, ALL,
                   On<Reference, double>) {
  using T = typename P::scalar;
  for (double square :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    AdamWArgs a;
    const StepState state{.learning_rate = 1, .squared_norm = square, .squared_norm_small = -1};
    a.step = &state;
    a.decay = 0.5;
    a.clip = 1;
    const auto g = random<T>(9, 1), m = random<T>(9, 2), p = random<T>(9, 3),
               v = filled<T>(9, 0.25);
    auto m2 = m, v2 = v, p2 = p;
    P::backend::adamw(9, a, g.data(), m2.data(), v2.data(), p2.data());
    CHECK((m2 == m && v2 == v && p2 == p));
  }
}
