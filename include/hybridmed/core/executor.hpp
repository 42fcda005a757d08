#pragma once
// Executors: who runs the independent tiles of one operation. A policy of the CPU backend.
// Work is cut into tiles by the caller, never by thread count, so results do not depend on the
// executor.
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "hybridmed/core/shape.hpp"

namespace hybridmed::executor {

/// Who runs the tiles: for_each(count, f) calls f(0) ... f(count - 1), in any order and possibly at
/// once, returns when all are done, and rethrows the first exception. See
/// docs/policies/executor.md.
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

/// The one rule for threads, the same for every executor that has any: the process has one team.
/// `set_threads` sets its size for all callers, from any thread, at any time; an operation that
/// finds the team at work runs on its own calling thread. So k callers with a team of n are never
/// more than k + n - 1 threads at work, and nobody waits for anybody.
class Team {
 public:
  /// The team of this process, at first as large as OMP_NUM_THREADS says, and as the processors
  /// that it may use at most.
  static Team& instance() {
    static Team team;
    return team;
  }
  /// The largest team that can be asked for.
  static int most() { return (std::max)(256, processors()); }
  /// Processors that this process may use.
  static int processors() {
    cpu_set_t usable;
    const int n = ::sched_getaffinity(0, sizeof usable, &usable) == 0
                      ? CPU_COUNT(&usable)
                      : static_cast<int>(std::thread::hardware_concurrency());
    return (std::max)(1, n);
  }

  int size() const { return size_.load(std::memory_order_relaxed); }
  /// @throws Error unless 1 <= n <= most().
  void resize(int n) {
    if (n < 1 || n > most())
      fail("core", "set_threads",
           "expected 1 to " + std::to_string(most()) + " threads, got " + std::to_string(n));
    size_.store(n, std::memory_order_relaxed);
  }

  /// Holds the team for one operation, where it is free and there is one.
  class Hold {
   public:
    explicit Hold(Team& team)
        : team_(team),
          held_(!inside() && team.size() > 1 &&
                !team.busy_.exchange(true, std::memory_order_acquire)) {}
    ~Hold() {
      if (held_) team_.busy_.store(false, std::memory_order_release);
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    explicit operator bool() const { return held_; }

   private:
    Team& team_;
    bool held_;
  };

  /// True on a thread that is running a tile: what it calls runs serially.
  static bool& inside() {
    thread_local bool flag = false;
    return flag;
  }

 private:
  Team() {
    const char* wanted = std::getenv("OMP_NUM_THREADS");
    const long n = wanted ? std::strtol(wanted, nullptr, 10) : 0;
    size_ = n > 0 && n < processors() ? static_cast<int>(n) : processors();
  }
  std::atomic<int> size_;
  std::atomic<bool> busy_{false};
};

#ifdef _OPENMP
/// OpenMP: the runtime's threads. The runtime keeps idle ones for each thread that ever held the
/// team.
struct OpenMP {
  static constexpr const char* name = "openmp";
  static int threads() { return Team::instance().size(); }
  static void set_threads(int n) { Team::instance().resize(n); }
  template <class F>
  static void for_each(Index count, F&& f) {
    if (count <= 1 || omp_in_parallel()) return Serial::for_each(count, f);
    const Team::Hold team_is_ours(Team::instance());
    if (!team_is_ours) return Serial::for_each(count, f);
    FirstError error;
    std::atomic<Index> next{
        0};  // not schedule(dynamic): for that, clang's runtime allocates memory in every loop
#pragma omp parallel num_threads(threads())
    {
      const bool outer = std::exchange(Team::inside(), true);
      for (Index i = next++; i < count; i = next++) error.guard(f, i);
      Team::inside() = outer;
    }
    error.rethrow();
  }
};
#endif

/// A pool of std::thread, for builds without OpenMP and for race checkers that do not understand
/// it.
class StdThread {
 public:
  static constexpr const char* name = "std::thread";
  static int threads() { return Team::instance().size(); }
  static void set_threads(int n) { Team::instance().resize(n); }
  template <class F>
  static void for_each(Index count, F&& f) {
    if (count <= 1) return Serial::for_each(count, f);
    const Team::Hold team_is_ours(Team::instance());
    if (!team_is_ours) return Serial::for_each(count, f);
    FirstError error;
    auto guarded = [&](Index i) { error.guard(f, i); };
    pool().run(
        threads(), count, [](void* g, Index i) { (*static_cast<decltype(guarded)*>(g))(i); },
        &guarded);
    error.rethrow();
  }

 private:
  /// Workers that sleep between operations. Used by one caller at a time.
  class Pool {
   public:
    Pool() = default;
    ~Pool() { stop(); }

    void run(int threads, Index count, void (*call)(void*, Index), void* f) {
      resize(threads);
      {
        std::lock_guard lock(mutex_);
        count_ = count;
        call_ = call;
        f_ = f;
        next_ = 0;
        busy_ = static_cast<int>(workers_.size());
        ++generation_;
      }
      wake_.notify_all();
      drain();
      std::unique_lock lock(mutex_);
      done_.wait(lock, [this] { return busy_ == 0; });
    }

   private:
    /// A machine that gives fewer threads than asked for works with those that it gave.
    void resize(int threads) {
      if (static_cast<int>(workers_.size()) + 1 == threads || threads == refused_) return;
      stop();
      stopping_ = false;
      refused_ = 0;
      try {
        for (int i = 1; i < threads; ++i)
          workers_.emplace_back([this, seen = generation_]() mutable { work(seen); });
      } catch (const std::system_error&) {
        refused_ = threads;
      }
    }
    void drain() {
      const bool outer = std::exchange(Team::inside(), true);
      for (Index i; (i = next_.fetch_add(1)) < count_;) call_(f_, i);
      Team::inside() = outer;
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
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::atomic<Index> next_{0};
    Index count_ = 0;
    void (*call_)(void*, Index) = nullptr;
    void* f_ = nullptr;
    std::uint64_t generation_ = 0;
    int busy_ = 0, refused_ = 0;
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
