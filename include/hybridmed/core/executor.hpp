#pragma once
// Executors: who runs the independent tiles of one operation. A policy of the CPU backend.
// Work is cut into tiles by the caller, never by thread count, so results do not depend on the executor.
#include <atomic>
#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "hybridmed/core/shape.hpp"

namespace hybridmed::executor {

/// Who runs the tiles: for_each(count, f) calls f(0) ... f(count - 1), in any order and possibly at once, returns when all are
/// done, and rethrows the first exception. See docs/policies/executor.md.
template <class E>
concept Executor = requires(Index count, void (*f)(Index), int n) {
  { E::threads() } -> std::convertible_to<int>;
  E::set_threads(n);
  E::for_each(count, f);
};

/// Carries the first exception of a team of threads back to the caller.
class FirstError {
 public:
  template <class F>
  void guard(F& f, Index i) noexcept {
    try {
      f(i);
    } catch (...) {
      if (!taken_.exchange(true)) error_ = std::current_exception();
    }
  }
  /// Only after every thread is done.
  void rethrow() {
    if (!error_) return;
    taken_ = false;
    std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  std::atomic<bool> taken_{false};
  std::exception_ptr error_;
};

/// Runs tiles one after the other on the calling thread.
struct Serial {
  static constexpr const char* name = "serial";
  static int threads() { return 1; }
  static void set_threads(int) {}
  template <class F>
  static void for_each(Index count, F&& f) {
    for (Index i = 0; i < count; ++i) f(i);
  }
};

#ifdef _OPENMP
/// OpenMP: the runtime's thread team, dynamic tile assignment. Nested calls run serially.
struct OpenMP {
  static constexpr const char* name = "openmp";
  static int threads() { return omp_get_max_threads(); }
  static void set_threads(int n) { omp_set_num_threads(n); }
  template <class F>
  static void for_each(Index count, F&& f) {
    if (count <= 1 || omp_in_parallel() || omp_get_max_threads() == 1) return Serial::for_each(count, f);
    FirstError error;
    std::atomic<Index> next{0};  // not schedule(dynamic): for that, clang's runtime allocates memory in every loop
#pragma omp parallel
    for (Index i = next++; i < count; i = next++) error.guard(f, i);
    error.rethrow();
  }
};
#endif

/// A pool of std::thread, for builds without OpenMP and for race checkers that do not understand it.
class StdThread {
 public:
  static constexpr const char* name = "std::thread";
  static int threads() { return pool().size(); }
  static void set_threads(int n) { pool().resize(n); }
  template <class F>
  static void for_each(Index count, F&& f) {
    if (count <= 1 || inside() || pool().size() == 1) return Serial::for_each(count, f);
    FirstError error;
    auto guarded = [&](Index i) { error.guard(f, i); };
    pool().run(count, [](void* g, Index i) { (*static_cast<decltype(guarded)*>(g))(i); }, &guarded);
    error.rethrow();
  }

 private:
  static bool& inside() {
    thread_local bool flag = false;
    return flag;
  }

  class Pool {
   public:
    Pool() { resize(static_cast<int>(std::thread::hardware_concurrency())); }
    ~Pool() { stop(); }
    int size() const { return static_cast<int>(workers_.size()) + 1; }

    void resize(int n) {
      stop();
      stopping_ = false;
      for (int i = 1; i < n; ++i) workers_.emplace_back([this, seen = generation_]() mutable { work(seen); });
    }

    void run(Index count, void (*call)(void*, Index), void* f) {
      std::lock_guard one_caller(callers_);
      {
        std::lock_guard lock(mutex_);
        count_ = count, call_ = call, f_ = f, next_ = 0, busy_ = static_cast<int>(workers_.size());
        ++generation_;
      }
      wake_.notify_all();
      drain();
      std::unique_lock lock(mutex_);
      done_.wait(lock, [this] { return busy_ == 0; });
    }

   private:
    void drain() {
      inside() = true;
      for (Index i; (i = next_.fetch_add(1)) < count_;) call_(f_, i);
      inside() = false;
    }
    void work(std::uint64_t seen) {
      for (;;) {
        {
          std::unique_lock lock(mutex_);
          wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
          if (stopping_) return;
          seen = generation_;
        }
        drain();
        {
          std::lock_guard lock(mutex_);
          --busy_;
        }
        done_.notify_one();
      }
    }
    void stop() {
      {
        std::lock_guard lock(mutex_);
        stopping_ = true;
      }
      wake_.notify_all();
      for (auto& t : workers_) t.join();
      workers_.clear();
    }

    std::vector<std::thread> workers_;
    std::mutex callers_, mutex_;
    std::condition_variable wake_, done_;
    std::atomic<Index> next_{0};
    Index count_ = 0;
    void (*call_)(void*, Index) = nullptr;
    void* f_ = nullptr;
    std::uint64_t generation_ = 0;
    int busy_ = 0;
    bool stopping_ = false;
  };
  static Pool& pool() {
    static Pool instance;
    return instance;
  }
};

#ifdef _OPENMP
using Default = OpenMP;
#else
using Default = StdThread;
#endif

/// Splits [0, n) into tiles of `grain` elements and runs f(begin, end) on each.
template <class Executor, class F>
void for_tiles(Index n, Index grain, F&& f) {
  const Index tiles = (n + grain - 1) / grain;
  Executor::for_each(tiles, [&](Index t) {
    const Index end = (t + 1) * grain;
    f(t * grain, end < n ? end : n);
  });
}

}  // namespace hybridmed::executor
