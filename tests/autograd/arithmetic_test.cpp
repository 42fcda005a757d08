// Arithmetic for objectives: gradients, values against the standard library, doors.
#include "hybridmed/autograd/arithmetic.hpp"
#include "autograd/gradient_check.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/losses.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

/// Numbers from 0.25 up.
template <class B>
X<B> positive(const Shape& shape, std::uint64_t stream) {
  X<B> x = random<B>(shape, stream);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = 0.25 + std::abs(x.data()[i]);
  return x;
}
/// Numbers from 0 to 1, both among them.
template <class B>
X<B> probabilities(const Shape& shape, std::uint64_t stream) {
  X<B> x = random<B>(shape, stream, 1, 0.5);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = std::min(1.0, std::max(0.0, x.data()[i]));
  return x;
}

/// Do two numbers agree to `ulps` roundings of T? NaN agrees with NaN.
template <class T>
bool agree(T got, double want, double ulps) {
  const double x = static_cast<double>(got);
  if (std::isnan(want)) return std::isnan(x);
  if (static_cast<double>(static_cast<T>(want)) == x) return true;
  return std::abs(x - want) <= ulps * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                                   std::max(std::abs(want), double{std::numeric_limits<T>::min()});
}

/// f of one element with gradient 1 upstream: the value and the gradient.
template <class T, class B, class F>
std::pair<T, T> at(double x, F&& f) {
  Tape tape;
  const RecordOn on(tape);
  GradientSlot<T, B> s;
  const Variable<T, B> y = f(Variable<T, B>(Tensor<T, B>::full(Shape{1}, static_cast<T>(x)), &s));
  const T result = y.tensor.item();
  backward(y);
  return {result, s.grad.item()};
}

template <class T_, class B_>
struct On {
  using T = T_;
  using B = B_;
};
#define EVERY \
  On<float, Reference>, On<double, Reference>, On<float, CpuBackend>, On<double, CpuBackend>

}  // namespace

TEST_CASE_TEMPLATE("gradients of products and sums of two", B, BACKENDS) {
  for (const Shape& s : {Shape{3, 17}, Shape{1}, Shape{}, Shape{0, 5}, Shape{2, 3, 5}}) {
    const auto a = random<B>(s, 1), b = random<B>(s, 2);
    check<B>("multiply", {a, b}, [](const auto& x) { return multiply(x[0], x[1]); });
    check<B>("multiply, x by x", {a}, [](const auto& x) { return multiply(x[0], x[0]); });
    for (const Shape& t : {Shape{}, Shape{1}}) {
      const auto one = random<B>(t, 3);
      check<B>("multiply by one element", {a, one},
               [](const auto& x) { return multiply(x[0], x[1]); });
      check<B>("multiply by a constant of one element", {a},
               [&](const auto& x) { return multiply(x[0], one); });
      check<B>("add one element", {a, one}, [](const auto& x) { return add(x[0], x[1]); });
    }
  }
}

TEST_CASE_TEMPLATE("gradients of exp, log, sum, mean and transpose", B, BACKENDS) {
  for (const Shape& s : {Shape{3, 17}, Shape{1}, Shape{}, Shape{0, 5}, Shape{2, 3, 5}}) {
    const auto a = random<B>(s, 1), p = positive<B>(s, 2);
    check<B>("exp", {a}, [](const auto& x) { return exp(x[0]); });
    check<B>("log", {p}, [](const auto& x) { return log(x[0]); });
    check<B>("sum", {a}, [](const auto& x) { return sum(x[0]); });
    check<B>("mean", {a}, [](const auto& x) { return mean(x[0]); });
    check<B>("mean and sum of one tensor", {a},
             [](const auto& x) { return multiply(mean(x[0]), sum(x[0])); });
  }
  for (const Shape& s : {Shape{3, 17}, Shape{1, 1}, Shape{0, 5}, Shape{5, 0}, Shape{65, 3}}) {
    const auto a = random<B>(s, 1);
    check<B>("transpose", {a}, [](const auto& x) { return transpose(x[0]); });
    check<B>("transpose twice", {a}, [](const auto& x) { return transpose(transpose(x[0])); });
  }
}

TEST_CASE_TEMPLATE("gradients of sigmoid_cross_entropy", B, BACKENDS) {
  for (const Shape& s : {Shape{3, 17}, Shape{1}, Shape{}, Shape{0, 5}, Shape{2, 3, 5}})
    for (double size : {0.1, 1.0, 8.0}) {
      const auto z = probabilities<B>(s, 2);
      check<B>("sigmoid_cross_entropy", {random<B>(s, 1, size)},
               [&](const auto& x) { return sigmoid_cross_entropy(x[0], z); });
    }
}

TEST_CASE_TEMPLATE("gradients of a sigmoid loss over pairs, put together from all of them", B,
                   BACKENDS) {
  const Index n = 5, d = 3;
  X<B> target = X<B>::zeros({n, n});
  for (Index i = 0; i < n; ++i) target.data()[i * (n + 1)] = 1;
  check<B>("sigmoid loss",
           {random<B>({n, d}, 1), random<B>({n, d}, 2), random<B>({}, 3), random<B>({1}, 4)},
           [&](const auto& x) {
             const auto logits = add(multiply(linear(x[0], x[1]), exp(x[2])), x[3]);
             return add(mean(sigmoid_cross_entropy(logits, target)),
                        mean(sigmoid_cross_entropy(transpose(logits), target)));
           });
}

TEST_CASE_TEMPLATE("exp and log are those of the standard library, at the ends too", P, EVERY) {
  using T = typename P::T;
  using B = typename P::B;
  const double tiny = double{std::numeric_limits<T>::denorm_min()},
               top = double{std::numeric_limits<T>::max()}, nan = std::nan("");
  for (double v : {0.0, -0.0, 1.0, -1.0, 0.5, 20.0, -20.0, 88.0, -103.0, 1000.0, -1000.0, tiny, top,
                   -top, inf, -inf, nan}) {
    CAPTURE(v);
    const T x = static_cast<T>(v);
    {
      const auto [y, g] = at<T, B>(v, [](const auto& a) { return exp(a); });
      CHECK(agree(y, static_cast<double>(std::exp(x)), 4));
      CHECK(agree(g, static_cast<double>(std::exp(x)), 4));
    }
    {
      const auto [y, g] = at<T, B>(v, [](const auto& a) { return log(a); });
      CHECK(agree(y, static_cast<double>(std::log(x)), 4));
      CHECK(agree(g, static_cast<double>(T(1) / x), 1));
    }
  }
  CHECK(log(Tensor<T, B>::full(Shape{}, 0)).item() == -std::numeric_limits<T>::infinity());
  CHECK(std::isnan(log(Tensor<T, B>::full(Shape{}, -1)).item()));
}

TEST_CASE_TEMPLATE("sigmoid_cross_entropy is exact for logits of any size", P, EVERY) {
  using T = typename P::T;
  using B = typename P::B;
  const auto loss = [](double z) {
    return [z](const Variable<T, B>& x) {
      return sigmoid_cross_entropy(x, Tensor<T, B>::full(Shape{1}, static_cast<T>(z)));
    };
  };
  for (double v : {0.0, -0.0, 1e-8, 0.3, -0.3, 5.0, -5.0, 17.0, -17.0, 40.0, -40.0, 100.0, -100.0,
                   745.0, -745.0, 1e4, -1e4})
    for (double w : {0.0, 1.0, 0.5, 0.25, 0.9990234375}) {
      CAPTURE(v);
      CAPTURE(w);
      const double x = static_cast<double>(static_cast<T>(v));
      const long double e = std::exp(-std::abs(static_cast<long double>(x)));
      const auto [y, g] = at<T, B>(v, loss(w));
      const double want = static_cast<double>((x > 0 ? x * (1 - w) : -x * w) + std::log1p(e)),
                   slope = static_cast<double>(x > 0 ? (1 - w) - e / (1 + e) : e / (1 + e) - w);
      CHECK(std::isfinite(y));
      CHECK(agree(y, want, 8));
      CHECK(std::abs(static_cast<double>(g) - slope) <=
            8 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                std::max(std::abs(slope), w == 0 || w == 1 ? 0x1p-120 : 1.0));
      // the same as the textbook's formula, where that does not cancel
      CHECK(std::abs(static_cast<double>(y) -
                     (std::max(x, 0.0) - x * w + std::log1p(std::exp(-std::abs(x))))) <=
            8 * static_cast<double>(std::numeric_limits<T>::epsilon()) * std::max(1.0, want));
    }
  // Nothing that is not finite is hidden.
  const double nan = std::nan("");
  for (double v : {inf, -inf, nan})
    for (double w : {0.0, 0.5, 1.0}) {
      CAPTURE(v);
      CAPTURE(w);
      CHECK_FALSE(std::isfinite(at<T, B>(v, loss(w)).first));
    }
  for (double w : {0.0, 0.5, 1.0}) CHECK(std::isnan(at<T, B>(nan, loss(w)).second));
  for (double v : {-2.0, 0.0, 2.0}) {
    CHECK(std::isnan(at<T, B>(v, loss(nan)).first));
    CHECK(std::isnan(at<T, B>(v, loss(nan)).second));
  }
  CHECK(at<T, B>(inf, loss(0)).first == std::numeric_limits<T>::infinity());
  CHECK(at<T, B>(-inf, loss(1)).first == std::numeric_limits<T>::infinity());
}

TEST_CASE_TEMPLATE("sums and means: in double, of none 0, what is not finite comes out", P, EVERY) {
  using T = typename P::T;
  using B = typename P::B;
  const Index n = 1000003;
  const auto many = Tensor<T, B>::full({n}, T(0.1));
  CHECK(agree(sum(many).item(), static_cast<double>(n) * static_cast<double>(T(0.1)),
              std::is_same_v<T, float> ? 1 : 1e5));
  CHECK(agree(mean(many).item(), static_cast<double>(T(0.1)), std::is_same_v<T, float> ? 1 : 1e5));
  CHECK(sum(many).shape() == Shape{});
  CHECK(mean(many).shape() == Shape{});
  const auto largest = Tensor<float, B>::full({4}, std::numeric_limits<float>::max());
  CHECK(mean(largest).item() == std::numeric_limits<float>::max());  // the sum alone overflows
  CHECK(std::isinf(sum(largest).item()));
  for (double v : {inf, -inf, std::nan("")}) {
    Tensor<T, B> x = Tensor<T, B>::full({70001}, 1);
    x.data()[54321] = static_cast<T>(v);
    CHECK(agree(sum(x).item(), v, 0));
    CHECK(agree(mean(x).item(), v, 0));
  }

  Tape tape;
  const RecordOn on(tape);
  GradientSlot<T, B> s;
  const Variable<T, B> none(Tensor<T, B>({0, 3}), &s);
  for (const auto& y : {sum(none), mean(none)}) {
    CHECK(y.tensor.item() == 0);
    CHECK(y.slot == nullptr);
  }
  CHECK(tape.size() == 0);
}

TEST_CASE_TEMPLATE("one element for all: shapes, values, and gradients that add up", P, EVERY) {
  using T = typename P::T;
  using B = typename P::B;
  Tape tape;
  const RecordOn on(tape);
  for (const Shape& one : {Shape{}, Shape{1}}) {
    GradientSlot<T, B> sx, sb;
    const std::vector<T> numbers{1, -2, 3, -4, 5, 6};
    const Variable<T, B> x(Tensor<T, B>::from_host(numbers, {2, 3}), &sx),
        b(Tensor<T, B>::full(one, T(0.5)), &sb);
    const auto up = Tensor<T, B>::from_host(std::vector<T>{1, 1, 2, 2, -1, 0}, {2, 3});
    const auto shifted = add(x, b);
    CHECK(shifted.shape() == x.shape());
    CHECK(shifted.tensor.to_host() == std::vector<T>{1.5, -1.5, 3.5, -3.5, 5.5, 6.5});
    shifted.slot->add(up.clone());
    tape.backward();
    CHECK(sb.grad.item() == 5);
    CHECK(sb.grad.shape() == one);
    CHECK(sx.grad.to_host() == up.to_host());
    sx.grad = {};
    const auto scaled = multiply(x, b);
    CHECK(scaled.shape() == x.shape());
    CHECK(scaled.tensor.to_host() == std::vector<T>{0.5, -1, 1.5, -2, 2.5, 3});
    scaled.slot->add(up.clone());
    tape.backward();
    CHECK(sb.grad.item() == 5 + (1 - 2 + 6 - 8 - 5));
    CHECK(sx.grad.to_host() == std::vector<T>{0.5, 0.5, 1, 1, -0.5, 0});
  }
  const auto nan = Tensor<T, B>::full(Shape{}, std::numeric_limits<T>::quiet_NaN()),
             infinite = Tensor<T, B>::full(Shape{}, std::numeric_limits<T>::infinity()),
             x = Tensor<T, B>::full({3}, 2), zero = Tensor<T, B>::zeros({3});
  CHECK(std::isnan(add(x, nan).to_host()[2]));
  CHECK(std::isnan(multiply(zero, nan).to_host()[2]));
  CHECK(std::isinf(add(x, infinite).to_host()[2]));
  CHECK(std::isnan(multiply(zero, infinite).to_host()[2]));
  CHECK(add(Tensor<T, B>({0, 3}), nan).shape() == Shape{0, 3});
  CHECK(multiply(Tensor<T, B>({0, 3}), nan).shape() == Shape{0, 3});
}

TEST_CASE_TEMPLATE("transpose", P, EVERY) {
  using T = typename P::T;
  using B = typename P::B;
  const std::vector<T> numbers{1, 2, 3, 4, 5, 6};
  const auto y = transpose(Tensor<T, B>::from_host(numbers, {2, 3}));
  CHECK(y.shape() == Shape{3, 2});
  CHECK(y.to_host() == std::vector<T>{1, 4, 2, 5, 3, 6});
  CHECK(transpose(Tensor<T, B>({0, 7})).shape() == Shape{7, 0});
}

TEST_CASE_TEMPLATE("arithmetic that cannot be meant is an Error of this area", B, BACKENDS) {
  const auto r = [](const Shape& s) { return random<B>(s, 1); };
  const auto refused = [](const std::string& operation, const std::string& part, auto f) {
    const std::string e = error_of(f);
    CHECK_MESSAGE(from(e, operation), e);
    CHECK_MESSAGE(holds(e, part), e);
  };
  const X<B> none, x = r({2, 3});
  const Var<B> undefined;
  Slot<B> s;
  const Var<B> v(x, &s);
  refused("multiply", "undefined", [&] { multiply(x, none); });
  refused("multiply", "undefined", [&] { multiply(none, x); });
  refused("multiply", "undefined", [&] { multiply(v, undefined); });
  refused("multiply", "undefined", [&] { multiply(v, none); });
  refused("add", "undefined", [&] { add(v, undefined); });
  refused("exp", "undefined", [&] { exp(none); });
  refused("log", "undefined", [&] { log(undefined); });
  refused("sum", "undefined", [&] { sum(none); });
  refused("mean", "undefined", [&] { mean(undefined); });
  refused("transpose", "undefined", [&] { transpose(none); });
  refused("sigmoid_cross_entropy", "undefined", [&] { sigmoid_cross_entropy(x, none); });
  refused("sigmoid_cross_entropy", "undefined", [&] { sigmoid_cross_entropy(undefined, x); });

  const std::string two = "expected two equal shapes or a second of one element, () or (1), got ";
  refused("add", two + "(2, 3) and (3)", [&] { add(x, r({3})); });
  refused("add", two + "(2, 3) and (1, 1)", [&] { add(x, r({1, 1})); });
  refused("add", two + "() and (2, 3)", [&] { add(r({}), x); });
  refused("add", two + "(2, 3) and (0)", [&] { add(x, r({0})); });
  refused("multiply", two + "(2, 3) and (3, 2)", [&] { multiply(x, r({3, 2})); });
  refused("multiply", two + "(1) and (2, 3)", [&] { multiply(Var<B>(r({1})), v); });
  refused("multiply", two + "(2, 3) and (2)", [&] { multiply(v, r({2})); });
  refused("transpose", "expected a matrix (n, m), got (6)", [&] { transpose(r({6})); });
  refused("transpose", "got ()", [&] { transpose(r({})); });
  refused("transpose", "got (1, 2, 3)", [&] { transpose(r({1, 2, 3})); });
  refused("sigmoid_cross_entropy", "expected two equal shapes, got (2, 3) and (6)",
          [&] { sigmoid_cross_entropy(v, r({6})); });
  refused("sigmoid_cross_entropy", "got (2, 3) and ()", [&] { sigmoid_cross_entropy(x, r({})); });
}
