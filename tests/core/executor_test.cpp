// Executors: each tile once, all threads, nested calls, tiles of a range.
#include "hybridmed/core/executor.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <type_traits>
#include <vector>

using namespace hybridmed;

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
