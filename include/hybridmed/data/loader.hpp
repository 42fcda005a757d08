#pragma once
// Batches of an epoch, prepared ahead by worker threads. Order and content depend on the seed and
// the epoch alone, never on the number of workers; a worker's error reaches the caller at the batch
// it belongs to.
#include <condition_variable>
#include <exception>
#include <map>
#include <optional>
#include <thread>

#include "hybridmed/data/dataset.hpp"

namespace hybridmed::data {

struct LoaderOptions {
  std::size_t batch = 32;
  bool shuffle = false;  ///< also random crops and jitter
  bool drop_last = false;
  int workers = 1;     ///< 0: prepare in the calling thread
  bool images = true;  ///< false: text only
};

/// A permutation of 0..n-1 for one epoch (Fisher-Yates on a counter-based stream).
inline std::vector<std::size_t> shuffled(std::size_t n, Philox random) {
  std::vector<std::size_t> order(n);
  for (std::size_t i = 0; i < n; ++i) order[i] = i;
  for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[random.below(i, i)]);
  return order;
}

class Loader {
 public:
  static constexpr int most_workers = 256;

  /// Batches of `epoch` from batch `first` on. The dataset must outlive the loader.
  Loader(const Dataset& dataset, LoaderOptions options, Philox seed, std::uint64_t epoch,
         std::size_t first = 0)
      : dataset_(&dataset),
        options_(options),
        random_(seed.fork(2 * epoch + 1)),
        next_(first),
        claim_(first) {
    if (options.batch == 0) fail("data", "loader", "expected a batch size of at least 1");
    order_ = options.shuffle ? shuffled(dataset.size(), seed.fork(2 * epoch))
                             : shuffled_none(dataset.size());
    count_ = options.drop_last ? dataset.size() / options.batch
                               : (dataset.size() + options.batch - 1) / options.batch;
    if (options.workers < 0 || options.workers > most_workers)
      fail("data", "loader",
           "expected 0 to " + std::to_string(most_workers) + " workers, got " +
               std::to_string(options.workers));
    try {
      for (int i = 0; i < options.workers; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::exception& e) {
      const std::size_t made = workers_.size();
      stop();
      fail("data", "loader",
           "the machine gave " + std::to_string(made) + " of " + std::to_string(options.workers) +
               " worker threads: " + e.what(),
           "lower workers");
    }
  }
  Loader(const Dataset&&, LoaderOptions, Philox, std::uint64_t,
         std::size_t = 0) = delete;  // the data set would be gone
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;
  ~Loader() { stop(); }

  std::size_t batches() const { return count_; }

  /// The next batch in order, or nothing at the end of the epoch; called by one thread. Rethrows
  /// what a worker threw on it.
  std::optional<HostBatch> next() {
    if (next_ >= count_) return std::nullopt;
    if (workers_.empty()) return make(next_++);
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return done_.count(next_) != 0; });
    Result r = std::move(done_.extract(next_).mapped());
    ++next_;
    lock.unlock();
    room_.notify_all();
    if (r.error) std::rethrow_exception(r.error);
    return std::move(r.batch);
  }

 private:
  void stop() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    room_.notify_all();
    for (auto& t : workers_) t.join();
    workers_.clear();
  }
  struct Result {
    HostBatch batch;
    std::exception_ptr error;
  };
  static std::vector<std::size_t> shuffled_none(std::size_t n) {
    std::vector<std::size_t> order(n);
    for (std::size_t i = 0; i < n; ++i) order[i] = i;
    return order;
  }
  HostBatch make(std::size_t k) const {
    const std::size_t from = k * options_.batch,
                      to = (std::min)(order_.size(), from + options_.batch);
    return dataset_->batch({order_.begin() + static_cast<std::ptrdiff_t>(from),
                            order_.begin() + static_cast<std::ptrdiff_t>(to)},
                           options_.shuffle ? &random_ : nullptr, options_.images);
  }
  void work() {
    for (;;) {
      std::size_t k;
      {
        std::unique_lock lock(mutex_);
        const std::size_t ahead = 2 * static_cast<std::size_t>(options_.workers) + 1;
        room_.wait(lock, [&] { return stop_ || claim_ >= count_ || claim_ < next_ + ahead; });
        if (stop_ || claim_ >= count_) return;
        k = claim_++;
      }
      Result r;
      try {
        r.batch = make(k);
      } catch (...) {
        r.error = std::current_exception();
      }
      {
        std::lock_guard lock(mutex_);
        done_.emplace(k, std::move(r));
      }
      ready_.notify_all();
    }
  }

  const Dataset* dataset_;
  LoaderOptions options_;
  Philox random_;
  std::vector<std::size_t> order_;
  std::size_t count_ = 0, next_, claim_;
  std::mutex mutex_;
  std::condition_variable ready_, room_;
  std::map<std::size_t, Result> done_;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace hybridmed::data
