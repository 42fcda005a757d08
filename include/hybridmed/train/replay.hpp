#pragma once
// Training steps as one launch each, on a backend that can record (BackendReplay): the second batch
// of some extents is recorded, and every later one runs the recording. Elsewhere, and where nothing
// could be recorded, steps are issued as they are. The numbers are the same.
#include <cstdint>
#include <string>
#include <vector>

#include "hybridmed/train/step.hpp"

namespace hybridmed::train {

/// A batch whose tensors can be brought to where a recorded step reads them.
template <class X>
concept ReplayableBatch = requires(const X& batch) {
  batch.each_input([](const auto&) {});
  batch.each_extent([](Index) {});
  { batch.elsewhere() } -> std::same_as<X>;
};

/// The steps of one stage; S as for issue_step, T and B as for its optimizer. Good as long as the
/// system, its parameters' memory, the optimizer and what the objectives read on the host stay as
/// they are: call forget() where an epoch or a stage begins.
template <class S, class T, class B>
class ReplayedSteps {
 public:
  using Batch = typename S::Batch;
  static constexpr bool replays = BackendReplay<B, T> && ReplayableBatch<Batch>;

  /// Keeps that many recordings, the least recently used one goes first; 0: records nothing.
  explicit ReplayedSteps(std::size_t most = 8) : most_(most) {}

  /// As issue_step; the numbers of the step are sent to the host.
  /// @throws Error as issue_step. A step that cannot be recorded is issued as it is, and so are all
  /// that follow: failure() says why.
  IssuedStep<T, B> issue(S& system, const Batch& batch, optim::AdamW<T, B>& optimizer, Tape& tape,
                         nn::Mode mode) {
    if constexpr (replays) {
      if (optimizer.state().defined()) mode.random_in_backend = &optimizer.state().data()->random;
      if (optimizer.copies_moved() != copies_moved_) {
        recorded_.clear();
        copies_moved_ = optimizer.copies_moved();
      }
      if (most_ > 0 && failure_.empty()) {
        note_extents(batch, mode);
        Recorded* known = find();
        if (!known && seen_before()) known = record(system, batch, optimizer, tape, mode);
        if (known) return run(*known, batch, optimizer);
      }
    }
    IssuedStep<T, B> issued = issue_step(system, batch, optimizer, tape, mode);
    issued.send();
    return issued;
  }

  /// Drops what was recorded.
  void forget() {
    recorded_.clear();
    seen_.clear();
  }
  std::size_t recorded() const { return recorded_.size(); }
  /// Why steps are not recorded any more; empty as long as they are.
  const std::string& failure() const { return failure_; }

 private:
  static constexpr std::size_t most_seen = 64;
  using Extents = std::vector<Index>;
  template <class X>
  struct RecordingOf {
    struct type {};
  };
  template <class X>
  requires BackendReplay<X, T>
  struct RecordingOf<X> {
    using type = typename X::Recording;
  };
  struct Recorded {
    Extents extents;
    Batch batch;  // where the step reads its inputs
    Tensor<StepState, B> state;
    Tensor<T, B> results;  // (losses + 1, 1): the losses, then their total
    std::vector<std::string_view> names;
    typename RecordingOf<B>::type recording;  // after what it uses: it goes first
    std::uint64_t used = 0;
  };

  void note_extents(const Batch& batch, const nn::Mode& mode) {
    extents_ = {static_cast<Index>(mode.statistics), Index{mode.dropout}};
    batch.each_extent([&](Index n) { extents_.push_back(n); });
  }
  Recorded* find() {
    for (Recorded& r : recorded_)
      if (r.extents == extents_) return &r;
    return nullptr;
  }
  /// Most batches of ragged text come once: what comes twice is worth a recording.
  bool seen_before() {
    if (std::find(seen_.begin(), seen_.end(), extents_) != seen_.end()) return true;
    if (seen_.size() == most_seen) seen_.erase(seen_.begin());
    seen_.push_back(extents_);
    return false;
  }

  Recorded* record(S& system, const Batch& batch, optim::AdamW<T, B>& optimizer, Tape& tape,
                   const nn::Mode& mode) requires(replays) {
    if (recorded_.size() >= most_)
      recorded_.erase(
          std::min_element(recorded_.begin(), recorded_.end(),
                           [](const Recorded& a, const Recorded& b) { return a.used < b.used; }));
    const std::int64_t steps = optimizer.steps();
    std::vector<Tensor<T, B>> values;
    for (const auto& e : optimizer.entries()) values.push_back(e.parameter->value);
    try {
      Recorded r{extents_, batch.elsewhere(), optimizer.state(), {}, {}, {}, 0};
      r.recording = B::record([&] {
        const IssuedStep<T, B> step = issue_step(system, r.batch, optimizer, tape, mode);
        r.results = Tensor<T, B>({static_cast<Index>(step.losses.size()) + 1, 1});
        Index i = 0;
        for (const auto& loss : step.losses) {
          r.names.push_back(loss.name);
          B::move(loss.value.data(), r.results.data() + i++, sizeof(T));
        }
        B::move(step.total.data(), r.results.data() + i, sizeof(T));
      });
      for (std::size_t i = 0; i < values.size(); ++i)
        if (const auto& e = optimizer.entries()[i]; e.parameter->value.read() != values[i].read())
          fail("train", "record", "the step gives the parameter '" + e.name + "' other memory",
               "write into the memory that it has");
      recorded_.push_back(std::move(r));
    } catch (const std::exception& e) {
      failure_ = e.what();
      for (std::size_t i = 0; i < values.size(); ++i)
        optimizer.entries()[i].parameter->value = values[i];
    }
    if (optimizer.steps() != steps) optimizer.not_run();
    return failure_.empty() ? &recorded_.back() : nullptr;
  }

  IssuedStep<T, B> run(Recorded& r, const Batch& batch,
                       optim::AdamW<T, B>& optimizer) requires(replays) {
    r.used = ++uses_;
    bring(batch, r.batch);
    B::move(optimizer.state().data(), r.state.data(), sizeof(StepState));
    B::replay(r.recording);
    // The next run writes these again, so they are read from copies.
    const Tensor<T, B> results(r.results.shape());
    B::move(r.results.data(), results.data(), static_cast<std::size_t>(results.size()) * sizeof(T));
    Tensor<StepState, B> state({1});
    B::move(r.state.data(), state.data(), sizeof(StepState));
    optimizer.replayed(std::move(state));
    IssuedStep<T, B> issued;
    Index i = 0;
    for (std::string_view name : r.names) {
      issued.losses.add(name, results.row_slice(i, i + 1).view(Shape{}));
      ++i;
    }
    issued.total = results.row_slice(i, i + 1).view(Shape{});
    issued.norm = optimizer.norm();
    issued.together = results;
    issued.send();
    return issued;
  }
  static void bring(const Batch& from, const Batch& to) requires(replays) {
    std::vector<std::pair<const void*, std::size_t>> inputs;
    from.each_input([&]<class X>(const Tensor<X, B>& t) {
      inputs.emplace_back(t.data(), static_cast<std::size_t>(t.size()) * sizeof(X));
    });
    std::size_t i = 0;
    to.each_input([&](const auto& t) {
      B::move(inputs[i].first, t.data(), inputs[i].second);
      ++i;
    });
  }

  std::size_t most_;
  std::vector<Recorded> recorded_;
  std::vector<Extents> seen_;
  Extents extents_;  // of the batch at hand
  std::uint64_t uses_ = 0;
  std::uint64_t copies_moved_ = 0;  // of the optimizer, when the recordings were made
  std::string failure_;
};

}  // namespace hybridmed::train
