// Core: random numbers, arena, tensors, shapes, bfloat16, executors.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "errors.hpp"
#include "hybridmed/core/bfloat16.hpp"
#include "hybridmed/core/executor.hpp"
#include "hybridmed/core/host.hpp"
#include "hybridmed/core/philox.hpp"
#include "hybridmed/core/tensor.hpp"

using namespace hybridmed;
using hybridmed::test::error_of;

namespace {

bool starts_with(const std::string& s, const char* prefix) { return s.rfind(prefix, 0) == 0; }

}  // namespace

// ---------------------------------------------------------------- Philox

TEST_CASE("Philox-4x32-10 reproduces the Random123 known answers") {
  using Words = std::array<std::uint32_t, 4>;
  // index: counter words 0 and 1; stream: words 2 and 3; seed: the key; low word first.
  CHECK(Philox(0, 0).block(0) == Words{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(Philox(~0ull, ~0ull).block(~0ull) ==
        Words{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  // The digits of pi; every word differs, so a swapped pair of words shows.
  CHECK(Philox(0x299f31d0a4093822ull, 0x0370734413198a2eull).block(0x85a308d3243f6a88ull) ==
        Words{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("Philox derives doubles, normals and integers from the block") {
  const Philox p(7, 3);
  double sum = 0, squares = 0;
  const int n = 20000;
  bool inside = true, whole = true;
  std::array<int, 5> counts{};
  for (int i = 0; i < n; ++i) {
    const auto k = static_cast<std::uint64_t>(i);
    const double u = p.uniform(k), z = p.normal(k);
    const auto b = p.block(k);
    inside = inside && u >= 0 && u < 1;
    whole =
        whole &&
        u == std::ldexp(
                 static_cast<double>(((static_cast<std::uint64_t>(b[0]) << 32) | b[1]) >> 11), -53);
    sum += z;
    squares += z * z;
    const auto below = p.below(k, 5);
    inside = inside && below < 5;
    ++counts[below % 5];
  }
  CHECK(inside);
  CHECK(whole);
  CHECK(std::abs(sum / n) < 4 / std::sqrt(n));  // four standard errors
  CHECK(std::abs(squares / n - 1) < 4 * std::sqrt(2.0 / n));
  for (int c : counts) CHECK(std::abs(c - n / 5) < 4 * std::sqrt(n * 0.16));
  CHECK(p.below(0, 1) == 0);
  CHECK(Philox(7, 3).block(11) == p.block(11));  // a pure function of (seed, stream, index)
  CHECK(p.fork(1).block(0) == p.fork(1).block(0));
  CHECK(p.fork(1).block(0) != p.fork(2).block(0));
  CHECK(p.fork(0).block(0) != p.block(0));
}

// ---------------------------------------------------------------- arena

namespace {

struct Held {
  std::byte* at;
  std::size_t bytes;
  std::byte tag;
};

bool still_holds(const Held& h) {
  for (std::size_t i = 0; i < h.bytes; ++i)
    if (h.at[i] != h.tag) return false;
  return true;
}

/// `steps` random allocations and frees, at most `limit` blocks alive; every block is filled and
/// checked when freed. Returns "" or what went wrong first.
std::string exercise(std::uint64_t seed, int steps, std::size_t limit,
                     std::size_t* most = nullptr) {
  HostArena& arena = HostArena::instance();
  const Philox random(seed);
  std::vector<Held> live;
  std::map<std::byte*, std::byte*> ranges;  // begin -> end
  std::size_t held = 0;
  std::string wrong;
  const auto release = [&](std::size_t k) {
    if (!still_holds(live[k])) wrong = "a block changed while it was held";
    ranges.erase(live[k].at);
    held -= live[k].bytes;
    arena.deallocate(live[k].at);
    live[k] = live.back();
    live.pop_back();
  };
  for (int i = 0; i < steps && wrong.empty(); ++i) {
    const auto b = random.block(static_cast<std::uint64_t>(i));
    if (!live.empty() && (live.size() == limit || b[0] % 100 < 45)) {
      release(b[1] % live.size());
      continue;
    }
    const std::size_t bytes =
        b[2] %
        (std::size_t{1} << (b[1] % 17));  // sizes of all magnitudes up to 64 kB, zero included
    const Held h{static_cast<std::byte*>(arena.allocate(bytes)), bytes,
                 static_cast<std::byte>(b[3])};
    if (reinterpret_cast<std::uintptr_t>(h.at) % HostArena::alignment != 0)
      wrong = "a block is not aligned";
    std::byte* const end =
        h.at + (bytes ? bytes : 1);  // an empty block still has an address of its own
    const auto after = ranges.lower_bound(h.at);
    if (after != ranges.end() && after->first < end) wrong = "two blocks overlap";
    if (after != ranges.begin() && std::prev(after)->second > h.at) wrong = "two blocks overlap";
    ranges.emplace(h.at, end);
    std::memset(h.at, std::to_integer<int>(h.tag), bytes);
    live.push_back(h);
    held += bytes;
    if (most && held > *most) *most = held;
  }
  while (!live.empty()) release(live.size() - 1);
  return wrong;
}

}  // namespace

TEST_CASE("the arena serves random sequences without overlap and reuses its memory") {
  HostArena& arena = HostArena::instance();
  const auto before = arena.statistics();
  arena.reset_peak();
  CHECK(arena.statistics().peak == before.in_use);

  std::size_t most = 0;
  CHECK(exercise(1, 20000, 300, &most) == "");
  const auto after = arena.statistics();
  CHECK(after.in_use == before.in_use);
  CHECK(after.peak >= before.in_use + most);
  CHECK(after.high_mark >= after.peak);

  CHECK(exercise(1, 20000, 300) == "");
  CHECK(arena.statistics().high_mark == after.high_mark);  // the same sequence needs no new memory
  CHECK(arena.statistics().in_use == before.in_use);
}

TEST_CASE("the arena merges neighbours when they are freed") {
  HostArena& arena = HostArena::instance();
  constexpr std::size_t small = 4096, count = 64;
  std::array<void*, count> blocks;
  for (void*& b : blocks) b = arena.allocate(small);
  void* const guard = arena.allocate(small);  // keeps the end of the arena occupied
  const auto mark = arena.statistics().high_mark;
  for (std::size_t i = 0; i < count; i += 2) arena.deallocate(blocks[i]);
  for (std::size_t i = 1; i < count; i += 2) arena.deallocate(blocks[i]);
  void* const large = arena.allocate(small * count / 2);  // fits only into merged blocks
  CHECK(large >= *std::min_element(blocks.begin(), blocks.end()));
  CHECK(large < guard);
  CHECK(arena.statistics().high_mark == mark);
  arena.deallocate(large);
  arena.deallocate(guard);
  arena.deallocate(nullptr);
}

TEST_CASE("the arena counts what it holds") {
  HostArena& arena = HostArena::instance();
  const auto before = arena.statistics();
  void* a = arena.allocate(1000);
  const auto one = arena.statistics();
  CHECK(one.in_use >= before.in_use + 1000);
  CHECK(one.in_use <= before.in_use + 1000 + 4 * HostArena::alignment);
  arena.deallocate(a);
  CHECK(arena.statistics().in_use == before.in_use);
  CHECK(starts_with(error_of([&] { arena.allocate(std::size_t{1} << 45); }),
                    "[hybridmed.core] allocate"));
  CHECK(arena.statistics().in_use == before.in_use);
  {
    ArenaVector<int> v;
    for (int i = 0; i < 1000; ++i) v.push_back(i);
    CHECK(v[999] == 999);
    CHECK(arena.statistics().in_use > before.in_use);
  }
  CHECK(arena.statistics().in_use == before.in_use);
}

TEST_CASE("the arena may be used from several threads") {
  const auto before = HostArena::instance().statistics();
  std::array<std::string, 3> wrong;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] { wrong[t] = exercise(100 + t, 3000, 50); });
  for (auto& t : threads) t.join();
  for (const auto& w : wrong) CHECK(w == "");
  CHECK(HostArena::instance().statistics().in_use == before.in_use);
}

// ---------------------------------------------------------------- shapes and tensors

TEST_CASE("Shape knows its extents and its limits") {
  const Shape s{2, 3, 5};
  CHECK(s.rank() == 3);
  CHECK(s.size() == 30);
  CHECK(s.rows() == 6);
  CHECK(s.cols() == 5);
  CHECK(s[0] == 2);
  CHECK(s[-1] == 5);
  CHECK(s.str() == "(2, 3, 5)");
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{}.size() == 1);
  CHECK(Shape{}.rows() == 1);
  CHECK(Shape{}.cols() == 1);
  CHECK(Shape{}.str() == "()");
  CHECK(Shape{0, 4}.size() == 0);
  CHECK(Shape{0, 4}.cols() == 4);
  CHECK(Shape{1, 2, 3, 4, 5}.size() == 120);
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK_FALSE(Shape{6} == Shape{6, 1});
  CHECK(starts_with(error_of([] { Shape{1, 2, 3, 4, 5, 6}; }), "[hybridmed.core] Shape: "));
  CHECK(starts_with(error_of([] { Shape{2, -1}; }), "[hybridmed.core] Shape: "));
}

TEST_CASE("an Error is one sentence with area and hint") {
  const Error e("io", "read", "no such file", "check the path");
  CHECK(std::string(e.what()) == "[hybridmed.io] read: no such file; hint: check the path");
  CHECK(e.area() == "io");
  CHECK(error_of([] { fail("nn", "f", "m"); }) == "[hybridmed.nn] f: m");
}

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

// ---------------------------------------------------------------- bfloat16

TEST_CASE("bfloat16 rounds to nearest even and keeps special values") {
  const auto bits = [](std::uint32_t u) { return bfloat16(std::bit_cast<float>(u)).bits; };
  CHECK(bits(0x3F800000u) == 0x3F80u);
  CHECK(bits(0x3F807FFFu) == 0x3F80u);  // just below the middle
  CHECK(bits(0x3F808000u) == 0x3F80u);  // the middle, even below
  CHECK(bits(0x3F808001u) == 0x3F81u);  // just above
  CHECK(bits(0x3F818000u) == 0x3F82u);  // the middle, even above
  CHECK(bits(0xBF818000u) == 0xBF82u);
  CHECK(bits(0x3FFFFFFFu) == 0x4000u);  // carries into the exponent
  CHECK(bits(0x00000000u) == 0x0000u);
  CHECK(bits(0x80000000u) == 0x8000u);
  CHECK(bits(0x00018000u) == 0x0002u);  // subnormal
  CHECK(bits(0x7F7FFFFFu) == 0x7F80u);  // the largest float becomes infinity
  CHECK(bits(0x7F800000u) == 0x7F80u);
  CHECK(bits(0xFF800000u) == 0xFF80u);
  for (std::uint32_t nan : {0x7FC00000u, 0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu}) {
    const bfloat16 b(std::bit_cast<float>(nan));
    CHECK(std::isnan(static_cast<float>(b)));
    CHECK((b.bits & 0x40u) != 0);          // quiet
    CHECK((b.bits >> 15) == (nan >> 31));  // same sign
  }
  bool exact = true;  // every bfloat16 that is a number survives the way through float
  for (std::uint32_t u = 0; u < 0x10000u; ++u) {
    bfloat16 b;
    b.bits = static_cast<std::uint16_t>(u);
    if (!std::isnan(static_cast<float>(b)))
      exact = exact && bfloat16(static_cast<float>(b)).bits == b.bits;
  }
  CHECK(exact);
  bool nearest = true;  // against the distance to both neighbours
  const Philox random(5);
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const auto u = random.block(i)[0];
    const float x = std::bit_cast<float>(u);
    if (!(std::abs(x) < 1e38f)) continue;
    bfloat16 low, high;
    low.bits = static_cast<std::uint16_t>(u >> 16);
    high.bits = static_cast<std::uint16_t>((u >> 16) + 1);
    const double down = std::abs(static_cast<double>(x) -
                                 static_cast<double>(static_cast<float>(low))),
                 up = std::abs(static_cast<double>(static_cast<float>(high)) -
                               static_cast<double>(x));
    nearest = nearest && bfloat16(x).bits == (down < up       ? low.bits
                                              : up < down     ? high.bits
                                              : low.bits & 1u ? high.bits
                                                              : low.bits);
  }
  CHECK(nearest);
}

// ---------------------------------------------------------------- executors

namespace {

template <class E>
struct KeepThreads {
  int before = E::threads();
  ~KeepThreads() { E::set_threads(before); }
};

}  // namespace

#ifdef _OPENMP
#define EXECUTORS executor::Serial, executor::OpenMP, executor::StdThread
#else
#define EXECUTORS executor::Serial, executor::StdThread
#endif

TEST_CASE_TEMPLATE("an executor runs each tile exactly once", E, EXECUTORS) {
  const KeepThreads<E> keep;
  for (int threads : {1, 2, 3, 5}) {
    CAPTURE(threads);
    E::set_threads(threads);
    if constexpr (!std::is_same_v<E, executor::Serial>) CHECK(E::threads() == threads);
    for (Index count : {0, 1, 2, 7, 1000}) {
      CAPTURE(count);
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
      E::for_each(count, [&](Index i) { ++runs[static_cast<std::size_t>(i)]; });
      bool once = true;
      for (const auto& r : runs) once = once && r == 1;
      CHECK(once);
    }
    bool all =
        true;  // many short jobs in a row: a worker that wakes late must not touch the next job
    for (int job = 0; job < 2000; ++job) {
      std::array<std::atomic<int>, 3> runs{};
      E::for_each(3, [&](Index i) { ++runs[static_cast<std::size_t>(i)]; });
      all = all && runs[0] == 1 && runs[1] == 1 && runs[2] == 1;
    }
    CHECK(all);
  }
}

TEST_CASE_TEMPLATE("an executor returns when its slowest tile is done, and uses its threads", E,
                   EXECUTORS) {
  const KeepThreads<E> keep;
  E::set_threads(3);
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::array<std::atomic<int>, 6> done{};
    std::array<std::thread::id, 6> by{};
    E::for_each(6, [&](Index i) {
      std::this_thread::sleep_for(
          std::chrono::milliseconds(5 + i));  // long enough for every thread to take part
      by[static_cast<std::size_t>(i)] = std::this_thread::get_id();
      ++done[static_cast<std::size_t>(i)];
    });
    for (const auto& d : done) CHECK(d == 1);
    std::sort(by.begin(), by.end());
    CHECK(std::unique(by.begin(), by.end()) - by.begin() ==
          (std::is_same_v<E, executor::Serial> ? 1 : 3));
  }
}

TEST_CASE_TEMPLATE("nested calls of an executor work", E, EXECUTORS) {
  const KeepThreads<E> keep;
  E::set_threads(3);
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<std::atomic<int>> runs(7 * 11 * 2);
    E::for_each(7, [&](Index i) {
      E::for_each(11, [&](Index j) {
        E::for_each(2, [&](Index k) { ++runs[static_cast<std::size_t>((i * 11 + j) * 2 + k)]; });
      });
    });
    bool once = true;
    for (const auto& r : runs) once = once && r == 1;
    REQUIRE(once);
  }
  // A single outer tile runs on the calling thread; its inner call may use all threads.
  std::atomic<int> inner{0};
  E::for_each(1, [&](Index) { E::for_each(100, [&](Index) { ++inner; }); });
  CHECK(inner == 100);
}

TEST_CASE_TEMPLATE("tiles cover a range exactly", E, EXECUTORS) {
  const KeepThreads<E> keep;
  E::set_threads(2);
  for (Index n : {0, 1, 5, 64, 65, 1000})
    for (Index grain : {1, 7, 64, 2000}) {
      CAPTURE(n);
      CAPTURE(grain);
      std::vector<std::atomic<int>> touched(static_cast<std::size_t>(n));
      std::atomic<bool> sized{true};
      executor::for_tiles<E>(n, grain, [&](Index a, Index b) {
        if (a >= b || b - a > grain || a % grain != 0) sized = false;
        for (Index i = a; i < b; ++i) ++touched[static_cast<std::size_t>(i)];
      });
      bool once = true;
      for (const auto& t : touched) once = once && t == 1;
      CHECK(once);
      CHECK(sized);
    }
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
