// Tensors: views, copies, memory that goes back, and what is refused.
#include "hybridmed/core/tensor.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "core.hpp"
#include "errors.hpp"
#include "hybridmed/core/host.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE_TEMPLATE("Tensor views share memory, copies count references", T, float, double,
                   std::int32_t) {
  using X = Tensor<T, Host>;
  const auto before = HostArena::instance().statistics().in_use;
  {
    const std::vector<T> host{1, 2, 3, 4, 5, 6};
    X t = X::from_host(host, {3, 2});
    CHECK(t.to_host() == host);
    CHECK(t.unique());
    CHECK(t.rows() == 3);
    CHECK(t.cols() == 2);

    X v = t.view({2, 3}), r = t.row_slice(1, 3);
    CHECK_FALSE(t.unique());
    CHECK_FALSE(r.unique());
    CHECK(v.data() == t.data());
    CHECK(r.data() == t.data() + 2);
    CHECK(r.shape() == Shape{2, 2});
    t.data()[2] = 9;
    CHECK(v.data()[2] == 9);
    CHECK(r.data()[0] == 9);

    X c = t.clone();
    CHECK(c.unique());
    c.data()[0] = 7;
    CHECK(t.data()[0] == 1);

    v = X();
    CHECK_FALSE(t.unique());
    t = X();
    CHECK(r.unique());  // the view keeps the memory
    CHECK(r.to_host() == std::vector<T>{9, 4, 5, 6});
    X moved = std::move(r);
    CHECK(moved.unique());
    CHECK_FALSE(r.defined());
    CHECK(r.size() == 0);
    moved = *&moved;  // self-assignment
    CHECK(moved.unique());
    CHECK(moved.to_host() == std::vector<T>{9, 4, 5, 6});
    CHECK(moved.row_slice(2, 2).size() == 0);
    CHECK(moved.row_slice(0, 0).shape() == Shape{0, 2});
    CHECK(X::full({}, 3).item() == 3);
    CHECK(X::zeros({0, 4}).size() == 0);
    CHECK(X::zeros({0, 4}).to_host().empty());
    CHECK(X::zeros({2, 2}).to_host() == std::vector<T>(4, T(0)));
  }
  CHECK(HostArena::instance().statistics().in_use == before);
}

TEST_CASE("Tensor refuses what does not fit") {
  using X = Tensor<float, Host>;
  const X t = X::zeros({3, 2});
  const std::vector<float> five(5);
  const auto in_use = HostArena::instance().statistics().in_use;
  CHECK(starts_with(error_of([&] {
                      X::from_host(five, {3, 2});
                    }),
                    "[hybridmed.core] Tensor::from_host: expected 6 values"));
  CHECK(starts_with(error_of([&] { t.row_slice(-1, 2); }), "[hybridmed.core] Tensor::row_slice: "));
  CHECK(starts_with(error_of([&] { t.row_slice(2, 1); }), "[hybridmed.core] Tensor::row_slice: "));
  CHECK(starts_with(error_of([&] { t.row_slice(0, 4); }), "[hybridmed.core] Tensor::row_slice: "));
  CHECK(starts_with(error_of([&] { t.view({5}); }), "[hybridmed.core] Tensor::view: "));
  CHECK(starts_with(error_of([&] { t.item(); }), "[hybridmed.core] Tensor::item: "));
  CHECK(starts_with(error_of([&] { X().item(); }), "[hybridmed.core] Tensor::item: "));
  CHECK(HostArena::instance().statistics().in_use == in_use);  // a refused call leaks nothing
}

#ifndef HYBRIDMED_ASAN  // which would mark a terabyte, byte by byte
namespace {
/// Memory of a backend, counted.
struct Counted {
  static inline int live = 0;
  static void* allocate(std::size_t n) {
    ++live;
    return std::malloc(n > 0 ? n : 1);
  }
  static void deallocate(void* p) noexcept {
    --live;
    std::free(p);
  }
};
}  // namespace

TEST_CASE("a tensor whose control block cannot be allocated gives its memory back") {
  auto& arena = HostArena::instance();
  std::vector<void*> held;  // all that the arena has; nothing is touched, so nothing is committed
  for (std::size_t n = std::size_t{1} << 39; n >= 64;) try {
      held.push_back(arena.allocate(n));
    } catch (const Error&) {
      n >>= 1;
    }
  CHECK_THROWS_AS((Tensor<float, Counted>({16})), OutOfMemory);
  CHECK(Counted::live == 0);
  for (void* p : held) arena.deallocate(p);
  { const Tensor<float, Counted> t({16}); }
  CHECK(Counted::live == 0);
}
#endif
