// A value belongs to one recording: whatever would lose its gradient, or send it to a node of
// another recording, is refused before anything is computed.
#include "autograd/gradient_check.hpp"
#include "hybridmed/autograd/linear.hpp"
#include "hybridmed/autograd/recompute.hpp"
#include "hybridmed/autograd/rows.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {
bool refused(const std::string& error) {
  return error.find("before the last backward pass") != std::string::npos &&
         error.find("detach") != std::string::npos;
}
}  // namespace

TEST_CASE_TEMPLATE("a value that two losses share is not used after a backward pass", B, BACKENDS) {
  Slot<B> s;
  const Var<B> x(random<B>({2, 3}, 1), &s);
  const auto ones = X<B>::full({2, 3}, 1);
  Tape tape;
  const RecordOn on(tape);
  const auto shared = scale(x, 2);
  backward({{scale(shared, 3), ones}});
  CHECK(s.grad.to_host() == std::vector<double>(6, 6.0));
  CHECK(refused(error_of([&] { scale(shared, 5); })));
  CHECK(refused(error_of([&] { add(x, shared); })));
  CHECK(refused(error_of([&] { slice_rows(shared, 0, 1); })));
  const auto other = scale(x, 100);  // stands where the first node stood
  CHECK(refused(error_of([&] { multiply(other, shared); })));
  // Its value goes on, and the tape is as good as before.
  backward({{add(other, scale(detach(shared), 5)), ones}});
  CHECK(s.grad.to_host() == std::vector<double>(6, 106.0));
}

TEST_CASE_TEMPLATE("two tapes do not mix", B, BACKENDS) {
  Slot<B> s;
  const Var<B> x(random<B>({2, 3}, 1), &s);
  const auto ones = X<B>::full({2, 3}, 1);
  Tape one, two;
  const RecordOn first(one);
  const auto y = scale(x, 2);
  {
    const RecordOn second(two);
    CHECK(refused(error_of([&] { scale(y, 2); })));
    CHECK(error_of([&] {
            backward({{y, ones}});
          }).find("does not hold this loss") != std::string::npos);
    CHECK_FALSE(s.grad.defined());
    backward({{scale(x, 3), ones}});
    CHECK(s.grad.to_host() == std::vector<double>(6, 3.0));
  }
  backward({{y, ones}});
  CHECK(s.grad.to_host() == std::vector<double>(6, 5.0));
}

TEST_CASE_TEMPLATE("a loss that outlives its tape is refused, not run", B, BACKENDS) {
  Slot<B> s;
  const Var<B> x(random<B>({2, 3}, 1), &s);
  const auto ones = X<B>::full({2, 3}, 1);
  Var<B> y;
  {
    Tape gone;
    const RecordOn on(gone);
    y = scale(x, 2);
  }
  Tape tape;
  const RecordOn on(tape);
  CHECK(error_of([&] {
          backward({{y, ones}});
        }).find("does not hold this loss") != std::string::npos);
  CHECK(refused(error_of([&] { scale(y, 2); })));
  {
    const NoGrad none;  // a value is a value
    CHECK(scale(y, 2).tensor.to_host()[0] == doctest::Approx(2 * value(y).to_host()[0]));
  }
}

TEST_CASE_TEMPLATE("what leaves a function under recompute is not computed with", B, BACKENDS) {
  Slot<B> s;
  const Var<B> x(random<B>({2, 3}, 1), &s);
  Tape tape;
  const RecordOn on(tape);
  Var<B> leaked;
  const auto y = recompute(
      [&](const Var<B>& h) {
        leaked = scale(h, 2);
        return scale(leaked, 2);
      },
      x);
  CHECK(refused(error_of([&] { add(leaked, y); })));
  backward({{scale(y, 1), X<B>::full({2, 3}, 1)}});  // itself it may be used
  CHECK(s.grad.to_host() == std::vector<double>(6, 4.0));
}
