#pragma once
// A whole run of any system: its stages with their schedules, validation, early stopping,
// checkpoints and exact resume.
#include "hybridmed/optim/schedule.hpp"
#include "hybridmed/train/console.hpp"
#include "hybridmed/train/replay.hpp"
#include "hybridmed/train/run_report.hpp"
#include "hybridmed/train/run_state.hpp"
#include "hybridmed/train/validation.hpp"

namespace hybridmed::train {

/// Set by the program's signal handlers (Ctrl-C, SIGTERM, SIGHUP, a closed pipe): the trainer
/// finishes its step, saves and stops.
inline std::atomic<bool>& interrupted() { return interrupt_requested(); }

struct TrainerOptions {
  std::filesystem::path run;
  bool resume = false;
  std::filesystem::path init;    ///< weights to start from, or empty
  std::int64_t stop_after = -1;  ///< save and stop after this many steps of the run; -1: never
  /// Of the command that a stopped run prints, if any: what it needs besides, and what starts it.
  std::string resume_with{}, program{};
  std::string arithmetic{};  ///< a line of the report: what differs from numbers as they are
};

template <class T, class B>
class Trainer {
 public:
  using System = system::System<T, B>;
  /// Makes the system of a configuration, e.g. by system::make_system.
  using MakeSystem = typename RunState<T, B>::MakeSystem;

  /// Prepares data, vocabulary and system; the configuration is completed (vocabulary size, token
  /// ids, name of the system, precision).
  /// @throws Error where the data cannot teach what the configuration trains.
  Trainer(const RunConfig& config, TrainerOptions options, const MakeSystem& make)
      : options_(std::move(options)),
        state_(config, options_.run, options_.resume, make),
        seed_(static_cast<std::uint64_t>(config.seed)) {
    if (!options_.resume && !options_.init.empty())
      initial_ = load_initial_weights(options_.init, *state_.system);
  }

  /// Parameters, memory, steps, what each loss will see, and what is odd. Runs one forward and
  /// backward pass to measure the memory.
  /// @throws Error where the machine has less memory than the plan needs.
  std::string describe() {
    const std::size_t bytes = planned();
    check_interrupt("the run is prepared");
    return run_report(state_.config, stages(), state_.data, nn::count_parameters(*state_.system),
                      bytes, state_.system->unread_keys(), options_.resume || initial_.decoder,
                      options_.arithmetic);
  }

  /// Trains to the end, or until interrupted. Returns true when the run is finished.
  bool run() {
    planned();
    make_run_folder(options_.run, options_.resume);
    const io::FolderLock lock(options_.run);
    if (options_.resume)
      state_.go_on();
    else
      state_.start(initial_);
    RunLog log(options_.run, state_.progress, stages());
    if (options_.resume && !state_.progress.finished && at_stop()) return !stopped();
    while (!state_.progress.finished)
      if (epoch(log)) return false;
    return true;
  }

  System& system() { return *state_.system; }
  const Progress& progress() const { return state_.progress; }

 private:
  struct Pending {  // a step that was issued and is not read yet
    IssuedStep<master_of<T>, B> issued;
    std::vector<std::size_t> studies;
    double rate = 0;
    std::int64_t step = 0, stage_step = 0;
  };

  const std::vector<system::Stage>& stages() const { return state_.stages(); }

  /// Bytes of the memory plan: of the last stage that is trained.
  std::size_t planned() {
    if (planned_ > 0) return planned_;
    const std::size_t last = state_.config.trained_stages(stages().size()) - 1;
    return planned_ = plan_memory(*state_.system, last, state_.config, state_.data, tape_);
  }

  // ---- one epoch, from the next batch on. True: stopped on request.
  bool epoch(RunLog& log) {
    const RunConfig& config = state_.config;
    Progress& p = state_.progress;
    const std::size_t k = state_.stage();
    const optim::WarmupCosine schedule{state_.rate(k), config.warmup, config.lr_floor,
                                       state_.total_steps()};
    const Philox seed = seed_.fork(2 + k + 1 - stages().size());  // a last stage's is always 2
    state_.system->begin_epoch(k, p.epoch);
    if (p.batch == state_.data.batches())
      return end_of_epoch(log);  // it was stopped within the validation
    data::Loader loader(
        state_.data.train,
        {static_cast<std::size_t>(config.batch), !config.overfit_batch, true,
         static_cast<int>(config.overfit_batch ? 0 : config.workers), stages()[k].reads_images()},
        seed, static_cast<std::uint64_t>(p.epoch), static_cast<std::size_t>(p.batch));
    if (p.batch == 0) p.sums.assign(stages()[k].losses.size() + 1, 0.0);
    system::StageOf<T, B> view(*state_.system, k);
    ReplayedSteps<system::StageOf<T, B>, master_of<T>, B> steps(cannot_record_ ? 0 : 8);
    std::optional<Pending> last;  // read while the next one runs
    while (auto host = loader.next()) {
      const double rate = schedule(p.stage_step);
      const Philox random = seed.fork(1u << 30).fork(static_cast<std::uint64_t>(p.stage_step));
      state_.optimizer->begin_step(rate, random);
      auto issued = steps.issue(view, upload<T, B>(*host, *state_.system), *state_.optimizer, tape_,
                                nn::Mode::training(random));
      say_once(cannot_record_, not_recorded_text(steps.failure()));
      p.count_step();
      if (last) note_step(*last, log);
      last = Pending{std::move(issued), std::move(host->studies), rate, p.step, p.stage_step};
      const bool ends = p.batch == state_.data.batches(), stop = asked_to_stop();
      if (!ends && !stop && !(config.checkpoint_every && p.step % config.checkpoint_every == 0))
        continue;
      note_step(*last, log);
      last.reset();
      if (ends) {
        line_.finish();
        return end_of_epoch(log);
      }
      state_.save(log);
      if (stop) return stopped();
    }
    return false;
  }

  void note_step(const Pending& pending, RunLog& log) {
    const StepNumbers r = pending.issued.numbers();
    Progress& p = state_.progress;
    LossValues losses;
    for (const auto& [name, value] : r.losses) losses.emplace_back(name, value);
    add_to_sums(p, losses, r.total);
    if (!r.finite) stop_on_nan(pending.step, pending.studies, false);
    io::Json row = log_row("step", p, p.epoch + 1, pending.step, r.total);
    row["lr"] = pending.rate;
    row["grad_norm"] = r.gradient_norm;
    const std::string detail = add_losses(row, losses, " ", 3);
    log.write(row);
    line_.update("stage " + std::to_string(p.stage) + " epoch " + std::to_string(p.epoch + 1) +
                     "/" + std::to_string(state_.epochs(state_.stage())),
                 static_cast<double>(pending.stage_step * state_.config.batch),
                 static_cast<double>(state_.total_steps() * state_.config.batch), "samples", detail,
                 pending.stage_step == state_.total_steps());
  }

  bool at_stop() const {
    return options_.stop_after >= 0 && state_.progress.step >= options_.stop_after;
  }
  bool asked_to_stop() const { return interrupted() || at_stop(); }
  bool stopped() {
    line_.finish();
    std::fprintf(
        stderr, "%s\n",
        stopped_text(state_.progress.step, options_.run, options_.program, options_.resume_with)
            .c_str());
    return true;
  }
  /// Validation, and what follows from it. True: stopped on request.
  bool end_of_epoch(RunLog& log) {
    validate_epoch(log);
    const bool stop = asked_to_stop();
    if (stop || state_.progress.finished ||
        (state_.config.checkpoint_every ? state_.progress.step % state_.config.checkpoint_every == 0
                                        : !state_.config.overfit_batch))
      state_.save(log);
    return stop && !state_.progress.finished && stopped();
  }
  /// Where a stop is asked for meanwhile, the epoch stays open: a resumed run validates again.
  void validate_epoch(RunLog& log) {
    std::optional<MeanLosses> mean = MeanLosses{};
    if (!state_.config.overfit_batch)
      mean = mean_losses(
          *state_.system, state_.stage(), state_.data.valid, state_.config,
          [&](const auto& studies) { stop_on_nan(state_.progress.step, studies, true); });
    if (!mean) return;
    ++state_.progress.epoch;
    state_.progress.batch = 0;
    const bool last = state_.progress.epoch == state_.epochs(state_.stage());
    if (state_.config.overfit_batch) {
      if (last) state_.save_best_weights();
      if (last) finish_stage();
      return;
    }
    say_once(said_odd_pictures_, odd_pictures_text(state_.data.train, state_.config.data));
    note_validation(*mean, log);
    const bool early =
        state_.config.patience > 0 && state_.progress.bad_epochs >= state_.config.patience;
    if (early && !last)
      std::fprintf(stderr, "stage %d stops early: no better validation loss in %lld epochs\n",
                   state_.progress.stage, static_cast<long long>(state_.config.patience));
    if (early || last) finish_stage();
  }
  void note_validation(const MeanLosses& mean, RunLog& log) {
    LossValues losses;
    for (std::size_t i = 0; i < mean.losses.size(); ++i)
      losses.emplace_back(stages()[state_.stage()].losses[i].name, mean.losses[i]);
    Progress& p = state_.progress;
    io::Json row = log_row("valid", p, p.epoch, p.step, mean.total);
    const std::string text = add_losses(row, losses, "  ", 4);
    log.write(row);
    const bool better = p.best_epoch < 0 || mean.total < p.best;
    p.note(better, mean.total);
    if (better) state_.save_best_weights();
    std::fprintf(stderr, "stage %d epoch %lld  train %.4f  valid %.4f%s%s\n", p.stage,
                 static_cast<long long>(p.epoch),
                 p.sums.back() / static_cast<double>(state_.data.batches()), mean.total,
                 text.c_str(), better ? "  (best)" : "");
  }
  /// The best weights go on: into the next stage, or as the result of the run.
  void finish_stage() {
    load_model(best_weights(options_.run, state_.progress.stage), *state_.system);
    if (state_.stage() + 1 < stages().size())
      state_.begin_stage(state_.stage() + 1);
    else
      state_.progress.finished = true;
    line_.restart();
  }
  void say_once(bool& said, const std::string& text) {
    if (text.empty() || std::exchange(said, true)) return;
    line_.finish();
    std::fprintf(stderr, "%s\n", text.c_str());
  }
  [[noreturn]] void stop_on_nan(std::int64_t step, const std::vector<std::size_t>& studies,
                                bool validation) const {
    fail_not_finite(step, studies, validation ? state_.data.valid : state_.data.train, validation,
                    !list_checkpoints(options_.run).empty());
  }

  TrainerOptions options_;
  RunState<T, B> state_;
  Philox seed_;
  Tape tape_;
  ProgressLine line_;
  InitialWeights initial_;
  bool said_odd_pictures_ = false, cannot_record_ = false;
  std::size_t planned_ = 0;  // bytes
};

}  // namespace hybridmed::train
