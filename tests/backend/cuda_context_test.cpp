// Several CUDA contexts in one process: work side by side, memory across contexts, and lifetimes.
// Contexts here are on device 0, so that one GPU is enough.
#include <doctest/doctest.h>

#include <future>
#include <latch>
#include <optional>
#include <stdexcept>

#include "errors.hpp"
#include "hybridmed/backend/cuda/backend.hpp"
#include "support.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using cuda::Context;
using cuda::Use;

namespace {

template <class T>
constexpr double tolerance = std::is_same_v<T, float> ? 2e-4 : 1e-10;

/// A computation in steps that uses what a context has one of: products with their workspace,
/// partial sums, memory for one operation.
template <class T, class B>
class Work {
 public:
  explicit Work(std::uint64_t seed)
      : x_(tensor<T, B>(normal(rows * cols, seed), {rows, cols})),
        w_(tensor<T, B>(normal(cols * cols, seed + 1, 0.2), {cols, cols})),
        b_(tensor<T, B>(normal(cols, seed + 2), {cols})),
        sums_(Tensor<T, B>::zeros({cols})),
        total_(Tensor<T, B>::zeros({1})),
        square_(Tensor<double, B>::zeros({1})) {}

  void step() {
    Tensor<T, B> h({rows, cols}), mean({rows}), rstd({rows});
    B::gemm(false, true, rows, cols, cols, T(1), x_.data(), cols, w_.data(), cols, T(0), h.data(),
            cols);
    B::add_vector(rows, cols, h.data(), b_.data(), h.data());
    B::activation(Activation::gelu_tanh, rows * cols, h.data(), h.data());
    B::layer_norm(rows, cols, h.data(), b_.data(), b_.data(), 1e-5, x_.data(), mean.data(),
                  rstd.data());
    B::column_sum(rows, cols, x_.data(), sums_.data());
    B::sum(rows * cols, 0.01, x_.data(), total_.data());
    B::squared_norm(rows * cols, h.data(), square_.data());
  }
  Values result() const {
    Values all;
    for (const auto& t : {x_, sums_, total_})
      for (double v : values(t)) all.push_back(v);
    all.push_back(square_.item());
    return all;
  }
  static Values after(std::uint64_t seed, int steps) {
    Work work(seed);
    for (int i = 0; i < steps; ++i) work.step();
    return work.result();
  }

 private:
  static constexpr Index rows = 67, cols = 48;  // more than one block of every kernel
  Tensor<T, B> x_, w_, b_, sums_, total_;
  Tensor<double, B> square_;
};

/// Runs f in a thread; what it throws comes out of get().
template <class F>
auto in_thread(F&& f) {
  return std::async(std::launch::async, std::forward<F>(f));
}

template <class T>
void close(const Values& got, const Values& want) {
  CHECK(difference(got, want) <= tolerance<T> * std::max(1.0, largest(want)));
}

}  // namespace

// First in the file: nothing has used the default context yet.
TEST_CASE("threads that use the default context first at once share one") {
  std::latch start(2);
  const auto use_it = [&] {
    start.arrive_and_wait();
    return values(Tensor<float, Cuda>::full({3}, 2.0f));
  };
  auto a = in_thread(use_it), b = in_thread(use_it);
  CHECK(a.get() == Values{2, 2, 2});
  CHECK(b.get() == Values{2, 2, 2});
  CHECK(Context::standard().is_current());
  CHECK(Context::standard().device() == 0);
  CHECK(&Context::standard() == &Context::standard());
}

TEST_CASE_TEMPLATE("two contexts, interleaved in one thread, equal the reference", T, float,
                   double) {
  const Context first, second;
  std::optional<Work<T, Cuda>> a, b, c;
  {
    const Use use(first);
    a.emplace(1);
  }
  {
    const Use use(second);
    b.emplace(2);
  }
  c.emplace(3);
  for (int i = 0; i < 4; ++i) {
    {
      const Use use(first);
      a->step();
    }
    {
      const Use use(second);
      b->step();
    }
    c->step();
  }
  const auto result = [](const Context& context, const Work<T, Cuda>& work) {
    const Use use(context);
    return work.result();
  };
  close<T>(result(second, *b), Work<T, Reference>::after(2, 4));
  close<T>(result(first, *a), Work<T, Reference>::after(1, 4));
  close<T>(c->result(), Work<T, Reference>::after(3, 4));
}

TEST_CASE_TEMPLATE("two threads, a context each, equal the reference", T, float, double) {
  const Context first, second;
  std::latch start(2);
  const auto run = [&](const Context& context, std::uint64_t seed) {
    const Use use(context);
    start.arrive_and_wait();
    return Work<T, Cuda>::after(seed, 30);
  };
  auto a = in_thread([&] { return run(first, 1); }), b = in_thread([&] { return run(second, 2); });
  close<T>(a.get(), Work<T, Reference>::after(1, 30));
  close<T>(b.get(), Work<T, Reference>::after(2, 30));
  CHECK(Context::standard().is_current());
}

TEST_CASE_TEMPLATE("two threads in one context equal the reference", T, float, double) {
  const Context context;
  for (const Context* shared : {&context, &Context::standard()}) {
    std::latch start(2);
    const auto run = [&](std::uint64_t seed) {
      const Use use(*shared);
      start.arrive_and_wait();
      return Work<T, Cuda>::after(seed, 30);
    };
    auto a = in_thread([&] { return run(1); }), b = in_thread([&] { return run(2); });
    close<T>(a.get(), Work<T, Reference>::after(1, 30));
    close<T>(b.get(), Work<T, Reference>::after(2, 30));
  }
}

TEST_CASE("products with fused bias in two contexts share no workspace") {
  const Context first, second;
  const Index rows = 40, in = 24, out = 16;
  struct Job {
    Tensor<float, Cuda> x, w, b, y;
    explicit Job(std::uint64_t seed)
        : x(tensor<float, Cuda>(normal(rows * in, seed), {rows, in})),
          w(tensor<float, Cuda>(normal(out * in, seed + 1), {out, in})),
          b(tensor<float, Cuda>(normal(out, seed + 2), {out})),
          y({rows, out}) {}
  };
  const auto fused = [&](const Context& context) {
    const Use use(context);
    Values all;
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      const Job job(10 * seed);
      if (!Cuda::linear(LinearArgs<float>{rows, in, out, job.x.data(), job.w.data(), job.b.data(),
                                          Activation::identity, nullptr, job.y.data()}))
        throw std::runtime_error("not served");
      for (double v : values(job.y)) all.push_back(v);
    }
    return all;
  };
  const Values want = fused(Context::standard());
  auto a = in_thread([&] { return fused(first); }), b = in_thread([&] { return fused(second); });
  CHECK(difference(a.get(), want) == 0);
  CHECK(difference(b.get(), want) == 0);
}

TEST_CASE("the end of a scope brings back what was current before") {
  const Context first, second;
  const auto& standard = Context::standard();
  const auto current = [&] {
    return std::string(first.is_current() ? "first" : "") + (second.is_current() ? "second" : "") +
           (standard.is_current() ? "default" : "");
  };
  CHECK(current() == "default");
  {
    const Use outer(first);
    CHECK(current() == "first");
    {
      const Use inner(second);
      CHECK(current() == "second");
      {
        const Use back(standard);
        CHECK(current() == "default");
      }
      CHECK(current() == "second");
      CHECK(in_thread(current).get() == "default");  // of this thread alone
    }
    CHECK(current() == "first");
    try {
      const Use inner(second);
      throw std::runtime_error("");
    } catch (const std::runtime_error&) {
    }
    CHECK(current() == "first");
    const Use again(first);
    CHECK(current() == "first");
  }
  CHECK(current() == "default");
  // In the default's own order, without waiting for anyone.
  auto t = Tensor<float, Cuda>::full({500}, 1.0f);
  Cuda::scale(500, 3.0f, t.data(), t.data());
  CHECK(values(t) == Values(500, 3.0));
}

TEST_CASE("a context that waits for another reads what that has written") {
  const Context first, second;
  const Index n = 3000;
  std::optional<Tensor<float, Cuda>> x, y;
  {
    const Use use(first);
    x.emplace(Tensor<float, Cuda>::full({n}, 1.0f));
    for (int i = 0; i < 5; ++i) Cuda::scale(n, 2.0f, x->data(), x->data());
  }
  {
    const Use use(second);
    second.wait_for(first);
    y.emplace(x->clone());
    first.wait_for(second);
  }
  {
    const Use use(first);
    Cuda::fill(n, -1.0f, x->data());
  }
  {
    const Use use(second);
    CHECK(values(*y) == Values(static_cast<std::size_t>(n), 32.0));
  }
  Context::standard().wait_for(first);
  CHECK(values(*x) == Values(static_cast<std::size_t>(n), -1.0));
  first.wait_for(first);
  first.synchronize();
}

TEST_CASE("memory is freed under another current context, in the order of its own") {
  const Context first, second;
  const Index n = 3000;
  const auto filled = [&](const Context& context, float value) {
    const Use use(context);
    return Tensor<float, Cuda>::full({n}, value);
  };
  const auto used = [](const Context& context) {
    const Use use(context);
    return cuda::memory_statistics().in_use;
  };
  const std::size_t before = used(first);
  {
    std::optional<Tensor<float, Cuda>> x = filled(first, 1);
    CHECK(used(first) >= before + sizeof(float) * static_cast<std::size_t>(n));
    {
      const Use use(first);
      Cuda::scale(n, 2.0f, x->data(), x->data());  // runs before the memory goes
    }
    const Use use(second);
    x.reset();
  }
  CHECK(used(first) == before);
  std::optional<Tensor<float, Cuda>> y = filled(first, 1);
  y.reset();  // under the default context
  CHECK(used(first) == before);
  {
    std::optional<Tensor<float, Cuda>> z = Tensor<float, Cuda>::full({n}, 1.0f);
    const Use use(second);
    z.reset();  // memory of the default context
  }
  Context::standard().synchronize();
  y = filled(first, 1);
  in_thread([&] { y.reset(); }).get();
  CHECK(used(first) == before);

  // The last reader may drop what it reads: new memory of the owner is no earlier than that.
  for (int i = 0; i < 8; ++i) {
    std::optional<Tensor<float, Cuda>> x = filled(first, static_cast<float>(i));
    std::optional<Tensor<float, Cuda>> copy;
    const Use use(second);
    second.wait_for(first);
    copy.emplace(x->clone());
    x.reset();
    const auto next = filled(first, 100.0f);
    first.synchronize();
    CHECK(values(*copy) == Values(static_cast<std::size_t>(n), i));
  }
}

TEST_CASE("memory outlives its context") {
  std::optional<Tensor<float, Cuda>> x, y;
  {
    const Context context;
    const Use use(context);
    x.emplace(Tensor<float, Cuda>::full({500}, 3.0f));
    y.emplace(Tensor<float, Cuda>::full({500}, 4.0f));
    Cuda::scale(500, 2.0f, x->data(), x->data());
  }
  // The destructor has waited, so that anyone may read.
  CHECK(values(*x) == Values(500, 6.0));
  x.reset();
  CHECK(values(*y) == Values(500, 4.0));
  const Context other;
  const Use use(other);
  y.reset();  // the last of the first context
  CHECK(values(Tensor<float, Cuda>::full({3}, 1.0f)) == Values{1, 1, 1});
}

TEST_CASE("a context that is current goes on after its object has gone") {
  SUBCASE("in another thread") {
    std::optional<Context> context(std::in_place);
    std::latch in_use(1), gone(1);
    auto work = in_thread([&] {
      const Use use(*context);
      Work<double, Cuda> w(1);
      w.step();
      in_use.count_down();
      gone.wait();
      w.step();
      return w.result();
    });
    in_use.wait();
    context.reset();
    gone.count_down();
    close<double>(work.get(), Work<double, Reference>::after(1, 2));
  }
  SUBCASE("in this thread") {
    const Use use{Context()};
    close<double>(Work<double, Cuda>::after(2, 2), Work<double, Reference>::after(2, 2));
    CHECK_FALSE(Context::standard().is_current());
  }
  CHECK(Context::standard().is_current());
  CHECK(values(Tensor<float, Cuda>::full({3}, 1.0f)) == Values{1, 1, 1});
}

TEST_CASE("contexts come and go, and are moved") {
  for (int i = 0; i < 20; ++i) {
    const Context context;
    const Use use(context);
    CHECK(values(Tensor<float, Cuda>::full({3}, static_cast<float>(i))) == Values(3, i));
  }
  std::vector<Context> all;
  for (int i = 0; i < 3; ++i) all.emplace_back(0);
  std::vector<Tensor<float, Cuda>> x;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Use use(all[i]);
    x.push_back(Tensor<float, Cuda>::full({3}, static_cast<float>(i)));
  }
  all[0] = std::move(all[2]);  // the first one's work is done and its object gone; its memory lives
  CHECK(values(x[0]) == Values(3, 0.0));
  const Use use(all[0]);
  CHECK(values(x[2]) == Values(3, 2.0));
  CHECK(error_of([&] { const Use none(all[2]); }) ==
        "[hybridmed.cuda] use: the context was moved from; hint: use the one it moved to");
  CHECK(holds(error_of([&] { all[2].synchronize(); }), "synchronize: the context was moved from"));
  CHECK(holds(error_of([&] { all[0].wait_for(all[2]); }), "wait_for: the context was moved from"));
  CHECK(all[0].is_current());
}

TEST_CASE("errors name the device") {
  const std::string devices = std::to_string(cuda::device_count());
  for (int bad : {-1, 1000})
    CHECK(error_of([&] { const Context none(bad); }) ==
          "[hybridmed.cuda] context: there is no device " + std::to_string(bad) +
              ": this machine has " + devices + ", counted from 0");
  const Context context;
  for (const Context* c : {&context, &Context::standard()}) {
    const Use use(*c);
    const std::string full = error_of([] { const Tensor<float, Cuda> t({Index{1} << 48}); });
    CHECK(holds(full, "allocate: the device is out of memory for 1125899906842624 bytes"));
    CHECK(holds(full, "on device 0 ("));
    // More blocks than a launch takes: refused before anything is read.
    const std::string refused = error_of([] {
      Cuda::cross_entropy_backward<float>(3'000'000'000, 1, nullptr, nullptr, 0, nullptr, nullptr,
                                          false, nullptr);
    });
    CHECK(holds(refused, "[hybridmed.cuda] cross_entropy_backward: cudaErrorInvalid"));
    CHECK(holds(refused, ", on device 0 ("));
    CHECK(values(Tensor<float, Cuda>::full({3}, 2.0f)) == Values{2, 2, 2});
  }
}
