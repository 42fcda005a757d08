#pragma once
// A whole run: both stages with their schedules, validation, early stopping, checkpoints and exact
// resume.
#include <set>

#include "hybridmed/core/interrupt.hpp"
#include "hybridmed/core/memory.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/optim/schedule.hpp"
#include "hybridmed/train/console.hpp"
#include "hybridmed/train/data_report.hpp"
#include "hybridmed/train/losses_seen.hpp"
#include "hybridmed/train/resume.hpp"
#include "hybridmed/train/run_log.hpp"
#include "hybridmed/train/step.hpp"

namespace hybridmed::train {

/// Set by the program's signal handlers (Ctrl-C, SIGTERM, SIGHUP, a closed pipe): the trainer
/// finishes its step, saves and stops.
inline std::atomic<bool>& interrupted() { return interrupt_requested(); }

struct TrainerOptions {
  std::filesystem::path run;
  bool resume = false;
  std::filesystem::path init;    ///< weights to start from, or empty
  std::int64_t stop_after = -1;  ///< save and stop after this many steps of the run; -1: never
  std::string
      resume_with{};  ///< what the command that a stopped run prints needs besides: " --threads 4"
};

/// A text as a shell reads it back: quoted where it holds more than plain characters.
inline std::string shell_word(const std::string& s) {
  if (!s.empty() &&
      s.find_first_not_of(
          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+=:,@%") == s.npos)
    return s;
  std::string quoted = "'";
  for (char c : s) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

/// Hash of a cleaned text: an evaluation tells texts of the training split from novel ones without
/// keeping them.
inline std::uint64_t text_hash(std::string_view s) {
  std::uint64_t h = 14695981039346656037ull;  // FNV-1a
  for (char c : s) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return h;
}

template <class T, class B>
class Trainer {
  using Model = model::HybridMed<T, B, model::AnyEncoder<T, B>>;
  using Visitor = nn::ParameterVisitor<T, B>;
  static constexpr std::size_t max_losses = 5;

 public:
  /// Prepares data, vocabulary and model; `config` is completed (vocabulary size, token ids) and
  /// written to the run folder.
  Trainer(RunConfig config, TrainerOptions options)
      : config_(std::move(config)),
        options_(std::move(options)),
        folder_(validated(config_).data, config_.folder),
        train_studies_(selected(config_.split_train)),
        vocabulary_(vocabulary()),
        train_(folder_, train_studies_, vocabulary_, config_.dataset()),
        valid_(folder_,
               config_.overfit_batch ? std::vector<data::Study>() : selected(config_.split_valid),
               vocabulary_, config_.dataset()),
        model_(make_model()),
        seed_(static_cast<std::uint64_t>(config_.seed)) {
    if (train_.size() == 0)
      fail("train", "data",
           config_.data + ": no study for training is left in split '" + config_.split_train + "'");
    if (static_cast<std::int64_t>(train_.size()) < config_.batch)
      fail("train", "data",
           "a batch of " + std::to_string(config_.batch) + " is larger than the " +
               std::to_string(train_.size()) + " training studies",
           "--set batch=" + std::to_string(train_.size()));
    data_hash_ = hash_of_data();
    std::set<std::string> trained;
    for (const auto& s : train_studies_) trained.insert(s.id);
    for (const auto& s : valid_.studies())
      if (trained.count(s.id))
        fail("train", "data",
             config_.data + ": study " + s.id + " is in split '" + config_.split_train +
                 "' and in '" + config_.split_valid + "'",
             "a study may be in one of the two");
    if (!config_.overfit_batch && valid_.size() == 0)
      fail("train", "data",
           config_.data + ": no study for validation in split '" + config_.split_valid + "'");
    check_losses(config_, train_, valid_);
    if (!options_.resume && !options_.init.empty()) load_initial_weights();
  }

  /// Parameters, memory, steps, what each loss will see, and what is odd. Runs one forward and
  /// backward pass to measure the memory.
  /// @throws Error where the machine has less memory than the plan needs.
  std::string describe() {
    const auto [impression, findings, both] = sections_of(
        train_, config_.overfit_batch ? static_cast<std::size_t>(config_.batch) : train_.size());
    const std::size_t bytes = plan_bytes();
    check_interrupt("the run is prepared");
    const auto number = [](double x, int digits) {
      char text[32];
      std::snprintf(text, sizeof text, "%.*f", digits, x);
      return std::string(text);
    };
    const auto stage = [&](int k) {
      return "stage " + std::to_string(k) + ": " + std::to_string(epochs(k)) + " epochs x " +
             std::to_string(batches());
    };
    std::string all = "model       " + config_.model.encoder + " encoder, " +
                      number(static_cast<double>(nn::count_parameters(model_)) / 1e6, 2) +
                      " M parameters, vocabulary " + std::to_string(config_.model.vocab) + "\n" +
                      "memory      " + number(static_cast<double>(bytes) / 1048576.0, 0) +
                      " MB of tensors expected at the longest batch, " +
                      number(image_bytes() / 1048576.0, 0) + " MB of images kept\n" +
                      "data        " + std::to_string(train_.size()) + " training and " +
                      std::to_string(valid_.size()) + " validation studies from " + config_.data +
                      "\n" + "losses see  cg " + std::to_string(impression) + " (impression), cl " +
                      std::to_string(findings) + " (findings), sum " + std::to_string(both) +
                      " (both), cap " + std::to_string(impression) + " (impression), dis " +
                      std::to_string(both) + " (both)\n" + "steps       " + stage(1) + ", " +
                      stage(2) + ", batch " + std::to_string(config_.batch) + "\n";
    if (!left_out_.empty()) {
      std::map<std::string, std::pair<std::size_t, const data::Rejected*>> reasons;
      for (const auto& r : left_out_)
        if (auto& [n, first] = reasons[r.reason]; n++ == 0) first = &r;
      for (const auto& [reason, found] : reasons)
        all += "left out    " + std::to_string(found.first) + " rows: " + reason +
               " (first: " + where(*found.second) + ")\n";
    }
    std::vector<data::Study> studies = train_.studies();
    studies.insert(studies.end(), valid_.studies().begin(), valid_.studies().end());
    all += titled("texts", lost_letters(studies, data::cleaning_from(config_.cleaning))) +
           titled("texts", cut_texts(train_)) + titled("leakage", leakage(folder_));
    std::vector<std::string> warnings = config_.warnings();
    for (const auto& [split, d] : splits_of(config_, train_, valid_))
      for (const auto& s : unseen_losses(config_.model, *d, split)) warnings.push_back(s);
    if (config_.epochs_stage2 > 0 && config_.epochs_stage1 == 0 && config_.model.lambda_dis > 0 &&
        options_.init.empty() && !options_.resume)
      warnings.push_back(
          "epochs_stage1 = 0 and lambda_dis > 0: the student is distilled towards a teacher that "
          "was never trained; lambda_dis=0 leaves it out, --init brings one");
    return all + titled("warning", warnings);
  }

  /// Trains to the end, or until interrupted. Returns true when the run is finished.
  bool run() {
    plan_bytes();
    make_run_folder();
    const io::FolderLock lock(options_.run);
    prepare_run_folder();
    if (options_.resume) {
      restore();
      remove_leftovers();
      prune_checkpoints();
      io::write_text_atomically(options_.run / "config.json", io::to_json(config_).dump(1) + "\n");
    } else {
      start();
    }
    RunLog log(options_.run, progress_);
    if (options_.resume && !progress_.finished && options_.stop_after >= 0 &&
        progress_.step >= options_.stop_after) {
      stopped();
      return false;
    }
    while (!progress_.finished) {
      const bool stopped = progress_.stage == 1
                               ? epoch(model::stage1_objective(config_.model), log)
                               : epoch(model::stage2_objective(config_.model), log);
      if (stopped) return false;
    }
    return true;
  }

  Model& model() { return model_; }
  const Progress& progress() const { return progress_; }

 private:
  // ---- set-up
  /// Before anything is built on it.
  static const RunConfig& validated(const RunConfig& c) {
    c.validate();
    return c;
  }
  /// The studies of a split. Training needs to know its splits: studies may not be in both.
  std::vector<data::Study> selected(const std::string& split) {
    const data::Table& table = folder_.table();
    if (!folder_.has_splits())
      fail("train", "data",
           table.source + ": the column '" + config_.folder.columns.split +
               "' is missing and there is no folder splits/",
           "training and validation need splits: add one of the two, or name the column with --set "
           "column_split=NAME");
    std::vector<data::Rejected> rejected;
    auto studies = folder_.select(config_.selection(split), &rejected);
    std::string first;
    std::size_t missing = 0;
    std::error_code ec;
    for (const auto& s : studies) {
      check_interrupt("the images are looked for");
      for (const auto& image : s.images)
        if (!std::filesystem::exists(folder_.image_path(image), ec) && missing++ == 0)
          first = folder_.image_path(image).string() +
                  ": No such file or directory; it belongs to study " + s.id + " (" + table.source +
                  ", line " + std::to_string(s.line) + ")";
    }
    if (missing > 0)
      fail("train", "data",
           first +
               (missing > 1 ? "; " + std::to_string(missing) + " images are missing in all" : ""));
    if (studies.empty()) {
      data::StudySelection untouched = config_.selection(split);
      untouched.needs_both = untouched.needs_text = false;
      const auto lost =
          lost_letters(folder_.select(untouched), data::cleaning_from(config_.cleaning));
      fail("train", "data",
           config_.data + ": no study is left in split '" + split + "'" +
               (rejected.empty() ? "" : "; " + where(rejected[0]) + ": " + rejected[0].reason),
           lost.empty() ? std::string() : lost[0]);
    }
    left_out_.insert(left_out_.end(), rejected.begin(), rejected.end());
    return studies;
  }
  std::string where(const data::Rejected& r) const {
    return folder_.table().source + ", " + r.place();
  }
  data::WordPiece vocabulary() {
    data::WordPiece v;
    const auto kept = options_.run / "vocab.txt";
    if (options_.resume && std::filesystem::exists(kept)) {
      v = data::WordPiece::read(kept);
    } else if (!config_.vocab_file.empty()) {
      v = data::WordPiece::read(config_.vocab_file);
    } else {
      v = learned_vocabulary(train_studies_, config_);
    }
    auto& m = config_.model;
    m.vocab = static_cast<Index>(v.size());
    m.pad = v.pad;
    m.bos = v.bos;
    m.eos = v.eos;
    return v;
  }
  Model make_model() {
    try {
      auto m = model::make_hybridmed<T, B>(config_.model);
      nn::initialise(m, static_cast<std::uint64_t>(config_.seed));
      return m;
    } catch (const OutOfMemory& e) {
      throw OutOfMemory("train", "memory",
                        "the model of this configuration does not fit: " + e.reason(),
                        "lower image_size, image_width, d, grid, or the numbers of blocks");
    }
  }
  std::int64_t batches() const {
    return config_.overfit_batch ? 1 : static_cast<std::int64_t>(train_.size()) / config_.batch;
  }
  bool distils() const { return config_.model.lambda_dis > 0; }
  std::int64_t epochs(int stage) const {
    return stage == 1 ? config_.epochs_stage1 : config_.epochs_stage2;
  }

  /// Bytes of resized images that the data sets keep, if they are of 8 bits.
  double image_bytes() const {
    const auto o = config_.dataset();
    const auto kept = [&](const data::Dataset& d) {
      double n = 0;
      for (const auto& s : d.studies())
        n += static_cast<double>(s.images.size() * o.transform.resize * o.transform.resize);
      return (std::min)(n, static_cast<double>(o.cache_bytes));
    };
    return kept(train_) + kept(valid_);
  }

  /// Bytes that a run needs at its worst moment.
  /// @throws Error where the machine does not have them.
  std::size_t plan_bytes() {
    if (planned_ > 0) return planned_;
    const std::string keys = "lower batch = " + std::to_string(config_.batch) +
                             ", image_size, t_findings or the model's widths";
    std::size_t bytes = 0;
    try {
      bytes = config_.epochs_stage2 > 0 ? step_bytes(model::stage2_objective(config_.model), 2)
                                        : step_bytes(model::stage1_objective(config_.model), 1);
    } catch (const OutOfMemory& e) {
      throw OutOfMemory(
          "train", "memory",
          "a step with batch " + std::to_string(config_.batch) + " does not fit: " + e.reason(),
          keys);
    }
    const std::size_t held = HostArena::instance().statistics().high_mark,
                      at_hand = available_memory();
    const std::size_t images = static_cast<std::size_t>(image_bytes()),
                      free = at_hand > (std::numeric_limits<std::size_t>::max)() - held
                                 ? at_hand
                                 : at_hand + held;
    const auto megabytes = [](std::size_t n) { return std::to_string(n >> 20) + " MB"; };
    if (bytes + images > free)
      throw OutOfMemory("train", "memory",
                        "the run needs " + megabytes(bytes) + " of tensors and keeps " +
                            megabytes(images) + " of images, but the machine has " +
                            megabytes(free),
                        keys + (images > bytes / 4 ? ", or cache_mb" : ""));
    return planned_ = bytes;
  }

  /// Bytes of tensors at the worst moment of a step: a forward and backward pass over the longest
  /// texts, measured, plus moments.
  template <class O>
  std::size_t step_bytes(const O& objective, int stage) {
    auto& arena = HostArena::instance();
    std::vector<std::size_t> longest(train_.size());
    for (std::size_t i = 0; i < longest.size(); ++i) longest[i] = i;
    const auto tokens = [&](std::size_t i) {
      return train_.findings(i).size() + train_.impression(i).size();
    };
    std::sort(longest.begin(), longest.end(), [&](std::size_t a, std::size_t b) {
      return tokens(a) != tokens(b) ? tokens(a) > tokens(b) : a < b;
    });
    longest.resize(static_cast<std::size_t>(config_.batch), longest.back());
    std::size_t moments = 0;
    train_only(stage);
    nn::for_each_parameter(model_, Visitor([&](const std::string&, auto& p) {
                             if (p.trainable)
                               moments += 2 * static_cast<std::size_t>(p.value.size()) * sizeof(T);
                           }));
    arena.reset_peak();
    {
      std::optional<model::Teacher<T, B>> teacher;
      if (stage == 2 && distils()) teacher.emplace(model_.snapshot());
      RecordOn recording(tape_);
      backward(objective(detail::represent<Variable<T, B>>(
          model_, objective, data::upload<T, B>(train_.batch(longest, nullptr, stage == 2), model_),
          teacher ? static_cast<const model::Teacher<T, B>*>(&*teacher) : nullptr,
          nn::Mode::inspection())));
    }
    nn::for_each_parameter(model_, Visitor([&](const std::string&, auto& p) { p.slot.grad = {}; }));
    return arena.statistics().peak + moments;
  }

  void make_run_folder() const {
    std::error_code ec;
    if (options_.resume && list_checkpoints(options_.run).empty())
      fail("train", "run", options_.run.string() + ": no checkpoint to resume from",
           "the run ended before its first: start it again without --resume");
    if (!options_.resume) need_new_folder();
    std::filesystem::create_directories(options_.run / "checkpoints", ec);
    if (ec)
      fail("train", "run",
           options_.run.string() + ": the run folder cannot be made: " + ec.message());
  }
  /// A run begins in a folder of its own, or in one that an earlier try made.
  void need_new_folder() const {
    std::error_code ec;
    if (std::filesystem::exists(std::filesystem::symlink_status(options_.run / "checkpoints", ec)))
      return;
    for (const auto& e : std::filesystem::directory_iterator(options_.run, ec))
      if (const std::string name = e.path().filename().string(); !name.starts_with("."))
        fail("train", "run",
             options_.run.string() + ": not empty, and no run: it holds '" + name + "'",
             "name a folder that is not there yet");
  }
  /// What a new run finds in its folder; held by this process alone.
  void prepare_run_folder() const {
    if (!options_.resume && !list_checkpoints(options_.run).empty())
      fail("train", "run", options_.run.string() + ": already holds checkpoints",
           "--resume goes on with it; another --run starts anew");
    if (options_.resume) return;
    remove_leftovers();
    io::write_text_atomically(options_.run / "config.json", io::to_json(config_).dump(1) + "\n");
    std::error_code ec;
    for (const char* f : {"log.jsonl", "log.csv"}) std::filesystem::remove(options_.run / f, ec);
    vocabulary_.write(options_.run / "vocab.txt");
    std::map<std::string, std::size_t> counts;
    std::string seen;
    for (const auto& s : train_studies_)
      if (!s.impression.empty() && counts[s.impression]++ == 0)
        seen += std::to_string(text_hash(s.impression)) + "\n";
    std::string frequent;
    for (const auto& [text, n] : counts)
      if (frequent.empty() || n > counts[frequent]) frequent = text;
    std::string trained;
    for (const auto& s : train_studies_) trained += std::to_string(text_hash(s.id)) + "\n";
    io::write_text_atomically(options_.run / "trained_studies.txt",
                              trained);  // hashes: an evaluation tells them, a reader does not
    io::write_text_atomically(options_.run / "seen_impressions.txt", seen);
    io::write_text_atomically(options_.run / "most_frequent_impression.txt", frequent + "\n");
  }

  /// Weights of another file, with a list of what did not fit.
  void load_initial_weights() {
    const io::Safetensors file = io::Safetensors::read(options_.init);
    io::verify_checksum(options_.init, file.bytes());
    const io::LoadReport r = io::load_weights(model_, file);
    const auto list = [](const char* what, const std::vector<std::string>& names) {
      std::fprintf(stderr, "  %zu %s\n", names.size(), what);
      for (const auto& n : names) std::fprintf(stderr, "    %s\n", n.c_str());
    };
    std::fprintf(stderr, "weights from %s:\n", options_.init.c_str());
    std::fprintf(stderr, "  %zu loaded\n", r.loaded.size());
    list("missing", r.missing);
    list("unexpected", r.unexpected);
    list("mismatched", r.mismatched);
    if (r.loaded.empty())
      fail("train", "init", options_.init.string() + ": no tensor fits the model");
  }

  void start() {
    progress_ = {};
    progress_.data = data_hash_;
    progress_.vocabulary = vocabulary_hash(options_.run);
    begin_stage(config_.epochs_stage1 > 0 ? 1 : 2);
  }

  void train_only(int stage) {
    nn::for_each_parameter(model_, Visitor([&](const std::string& n, auto& p) {
                             p.trainable = stage == 2 || Model::in_stage1(n);
                           }));
  }

  /// Sets what the stage trains, its optimizer and, for stage 2, the teacher: a snapshot of the
  /// model as it is.
  void begin_stage(int stage) {
    progress_.stage = stage;
    progress_.stage_step = 0;
    progress_.epoch = 0;
    progress_.batch = 0;
    progress_.best = 0;
    progress_.best_epoch = -1;
    progress_.bad_epochs = 0;
    progress_.sums.clear();
    progress_.finished = epochs(stage) == 0;
    train_only(stage);
    line_.restart();
    if (stage == 2 && distils()) teacher_.emplace(model_.snapshot());
    optimizer_.emplace(model_,
                       optim::AdamWOptions{0.9, 0.999, 1e-8, config_.weight_decay, config_.clip});
  }

  // ---- checkpoints
  void save(RunLog& log) {
    log.record_lengths(progress_);
    const auto metadata = weights_metadata(config_, progress_.vocabulary);
    write_folder(options_.run / "checkpoints" / checkpoint_name(progress_.step),
                 [&](const std::filesystem::path& dir) {
                   save_model(dir / "model.safetensors", model_, metadata);
                   if (teacher_) save_model(dir / "teacher.safetensors", *teacher_);
                   save_optimizer(dir / "optimizer.safetensors", *optimizer_);
                   io::write_text(dir / "config.json", io::to_json(config_).dump(1) + "\n");
                   io::write_text(dir / "state.json", io::to_json(progress_).dump(1) + "\n");
                 });
    prune_checkpoints();
  }
  void prune_checkpoints() const {
    const auto all = list_checkpoints(options_.run);
    std::error_code ec;
    for (std::size_t i = 0; i + static_cast<std::size_t>(config_.keep_checkpoints) < all.size();
         ++i)
      std::filesystem::remove_all(all[i], ec);
  }
  /// What a killed process was writing.
  void remove_leftovers() const {
    std::error_code ec;
    for (const auto& folder : {options_.run, options_.run / "checkpoints"})
      for (const auto& e : std::filesystem::directory_iterator(folder, ec))
        if (const auto n = e.path().filename().string();
            n.starts_with(".writing-") || n.ends_with(".tmp"))
          std::filesystem::remove_all(e.path(), ec);
  }
  /// What the run learns from: its studies and their texts, in order. Where they change, a resumed
  /// run is another run.
  std::uint64_t hash_of_data() const {
    std::uint64_t h = 0;
    for (const data::Dataset* d : {&train_, &valid_}) {
      h = text_hash(std::to_string(h) + " " + std::to_string(d->studies().size()));
      for (const auto& s : d->studies()) {
        std::string all = std::to_string(h) + "\n" + s.id + "\n" + s.findings + "\n" + s.impression;
        for (const auto& image : s.images) all += "\n" + image;
        h = text_hash(all);
      }
    }
    return h;
  }
  void restore() {
    const auto checkpoints = list_checkpoints(options_.run);
    try {
      restore(checkpoints.back());
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Error& e) {
      if (checkpoints.size() < 2 || !e.hint().empty() ||
          e.reason().find(checkpoints.back().string()) == std::string::npos)
        throw;
      fail(e.area(), "resume", e.reason(),
           "remove " + checkpoints.back().string() + " to go on from " +
               checkpoints[checkpoints.size() - 2].filename().string());
    }
  }
  void restore(const std::filesystem::path& dir) {
    const std::string state = (dir / "state.json").string();
    const std::string from_here =
        "start a new run with --init " + (dir / "model.safetensors").string();
    Progress p;
    const std::vector<std::byte> bytes = io::read_file(dir / "state.json");
    const io::Json j =
        io::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, state);
    io::from_json(j, p, state);
    p.visit([&](std::string_view key, auto&) {
      if (!j.contains(std::string(key)))
        fail("train", "load", state + ": the key '" + std::string(key) + "' is missing",
             "if an earlier version wrote it, " + from_here);
    });
    if (p.stage != 1 && p.stage != 2)
      fail("train", "load",
           state + ": the key 'stage': expected 1 or 2, got " + std::to_string(p.stage));
    const std::string configuration = (dir / "config.json").string();
    const std::vector<std::byte> config_bytes = io::read_file(configuration);
    io::verify_checksum(configuration, config_bytes);
    RunConfig begun;
    io::from_json(
        io::parse_json({reinterpret_cast<const char*>(config_bytes.data()), config_bytes.size()},
                       configuration),
        begun, configuration);
    check_same_run(begun, config_, p.stage, options_.run.string());
    const std::size_t losses = p.stage == 1
                                   ? decltype(model::stage1_objective(config_.model))::size
                                   : decltype(model::stage2_objective(config_.model))::size;
    check_progress(p, epochs(p.stage), batches(), p.stage == 2 ? epochs(1) * batches() : 0, losses,
                   state);
    io::verify_checksum(dir / "state.json", bytes);
    if (dir.filename() != checkpoint_name(p.step))
      fail("train", "load",
           state + ": the key 'step': expected the number of its folder, got " +
               std::to_string(p.step));
    if (p.vocabulary != vocabulary_hash(options_.run))
      fail("train", "resume",
           (options_.run / "vocab.txt").string() +
               ": not the vocabulary that the run was trained with",
           "give it back, or " + from_here);
    if (p.data != data_hash_)
      fail("train", "resume",
           config_.data + ": its studies are not those that " + options_.run.string() +
               " was trained on: a study, a text or a split has changed",
           "give back the old data, or " + from_here);
    begin_stage(p.stage);
    load_model(dir / "model.safetensors", model_);
    if (teacher_) load_model(dir / "teacher.safetensors", *teacher_);
    load_optimizer(dir / "optimizer.safetensors", *optimizer_);
    if (optimizer_->steps() != p.stage_step)
      fail("train", "load",
           (dir / "optimizer.safetensors").string() + ": of " +
               std::to_string(optimizer_->steps()) +
               " steps, but state.json says stage_step = " + std::to_string(p.stage_step));
    progress_ = p;
    if (epochs(p.stage) == (p.stage == 1 ? begun.epochs_stage1 : begun.epochs_stage2)) return;
    const std::int64_t more = epochs(p.stage) - p.epoch;
    progress_.finished = false;
    progress_.bad_epochs = 0;  // the new epochs are not cut off by what went before
    std::fprintf(stderr,
                 "stage %d goes on for %lld epochs; its rate is now that of a schedule over %lld\n",
                 p.stage, static_cast<long long>(more), static_cast<long long>(epochs(p.stage)));
  }
  void save_best(int stage) {
    const std::string name = "best-stage" + std::to_string(stage);
    const auto metadata = weights_metadata(config_, progress_.vocabulary);
    write_folder(options_.run / (name + "-" + checkpoint_name(progress_.step)),
                 [&](const std::filesystem::path& dir) {
                   save_model(dir / "model.safetensors", model_, metadata);
                 });
    io::write_text_atomically(options_.run / (name + ".json"),
                              io::Json{{"folder", name + "-" + checkpoint_name(progress_.step)},
                                       {"stage", stage},
                                       {"epoch", progress_.epoch},
                                       {"validation_loss", progress_.best}}
                                      .dump() +
                                  "\n");
    std::error_code ec;
    for (const auto& e : std::filesystem::directory_iterator(options_.run, ec))
      if (const auto n = e.path().filename().string();
          is_numbered(n, name + "-step-") && n != name + "-" + checkpoint_name(progress_.step))
        std::filesystem::remove_all(e.path(), ec);
  }

  // ---- one epoch, from the next batch on. True: stopped on request.
  template <class O>
  bool epoch(const O& objective, RunLog& log) {
    const int stage = progress_.stage;
    const std::int64_t total = epochs(stage) * batches();
    const optim::WarmupCosine schedule{stage == 1 ? config_.lr_stage1 : config_.lr_stage2,
                                       config_.warmup, config_.lr_floor, total};
    const Philox seed = seed_.fork(static_cast<std::uint64_t>(stage));
    if (progress_.batch == batches())
      return end_of_epoch(objective, log);  // it was stopped within the validation
    data::Loader loader(train_,
                        {static_cast<std::size_t>(config_.batch), !config_.overfit_batch, true,
                         static_cast<int>(config_.overfit_batch ? 0 : config_.workers), stage == 2},
                        seed, static_cast<std::uint64_t>(progress_.epoch),
                        static_cast<std::size_t>(progress_.batch));
    if (progress_.batch == 0) progress_.sums.assign(O::size + 1, 0.0);
    while (auto host = loader.next()) {
      const double rate = schedule(progress_.stage_step);
      const auto r = train_step(model_, objective, data::upload<T, B>(*host, model_),
                                teacher_ ? &*teacher_ : nullptr, *optimizer_, rate, tape_,
                                nn::Mode::training(seed.fork(1u << 30).fork(
                                    static_cast<std::uint64_t>(progress_.stage_step))));
      ++progress_.step;
      ++progress_.stage_step;
      ++progress_.batch;
      io::Json row{{"kind", "step"},
                   {"stage", stage},
                   {"epoch", progress_.epoch + 1},
                   {"step", progress_.step},
                   {"lr", rate},
                   {"total", r.total},
                   {"grad_norm", r.gradient_norm}};
      std::string detail;
      for (std::size_t i = 0; i < O::size; ++i) {
        const double v = static_cast<double>(r.losses[i].value.item());
        if (std::isnan(v) && r.finite) continue;  // a term of weight 0 is not computed
        row[std::string(r.losses[i].name)] = v;
        progress_.sums[i] += v;
        char text[32];
        std::snprintf(text, sizeof text, " %s %.3f", std::string(r.losses[i].name).c_str(), v);
        detail += text;
      }
      progress_.sums[O::size] += r.total;
      if (!r.finite) stop_on_nan(*host, train_);
      log.write(row);
      line_.update("stage " + std::to_string(stage) + " epoch " +
                       std::to_string(progress_.epoch + 1) + "/" + std::to_string(epochs(stage)),
                   static_cast<double>(progress_.stage_step * config_.batch),
                   static_cast<double>(total * config_.batch), "samples", detail,
                   progress_.stage_step == total);
      if (progress_.batch == batches()) {
        line_.finish();
        return end_of_epoch(objective, log);
      }
      const bool stop = asked_to_stop();
      if (stop || (config_.checkpoint_every && progress_.step % config_.checkpoint_every == 0))
        save(log);
      if (stop) return stopped();
    }
    return false;
  }

  bool asked_to_stop() const {
    return interrupted() || (options_.stop_after >= 0 && progress_.step >= options_.stop_after);
  }
  bool stopped() {
    line_.finish();
    std::fprintf(stderr,
                 "stopped after step %lld, saved in %s; go on with: hybridmed pretrain --run %s "
                 "--resume%s\n",
                 static_cast<long long>(progress_.step), options_.run.c_str(),
                 shell_word(options_.run.string()).c_str(), options_.resume_with.c_str());
    return true;
  }

  /// Validation, and what follows from it. True: stopped on request.
  template <class O>
  bool end_of_epoch(const O& objective, RunLog& log) {
    validate_epoch(objective, log);
    const bool stop = asked_to_stop();
    if (stop || progress_.finished ||
        (config_.checkpoint_every ? progress_.step % config_.checkpoint_every == 0
                                  : !config_.overfit_batch))
      save(log);
    return stop && !progress_.finished && stopped();
  }

  [[noreturn]] void stop_on_nan(const data::HostBatch& b, const data::Dataset& from) {
    std::string ids;
    for (std::size_t i : b.studies) ids += (ids.empty() ? "" : ", ") + from.study(i).id;
    fail("train", "step",
         std::string("the ") + (&from == &valid_ ? "validation " : "") + "loss of step " +
             std::to_string(progress_.step) + " is not a number; its studies: " + ids,
         std::string(list_checkpoints(options_.run).empty() ? ""
                                                            : "the last checkpoint is intact; ") +
             "lower the learning rate or look at these studies");
  }

  /// Where a stop is asked for meanwhile, the epoch stays open: a resumed run validates again.
  template <class O>
  void validate_epoch(const O& objective, RunLog& log) {
    const int stage = progress_.stage;
    std::array<double, max_losses + 1> mean{};
    const std::optional<double> result = config_.overfit_batch ? 0.0 : validate(objective, mean);
    if (!result) return;
    ++progress_.epoch;
    progress_.batch = 0;
    if (config_.overfit_batch) {
      if (progress_.epoch == epochs(stage)) finish_stage();
      return;
    }
    say_odd_pictures();
    const double valid = *result;
    io::Json row{{"kind", "valid"},
                 {"stage", stage},
                 {"epoch", progress_.epoch},
                 {"step", progress_.step},
                 {"total", valid}};
    std::string text;
    for (std::size_t i = 0; i < O::size; ++i) {
      if (std::isnan(mean[i])) continue;  // a term of weight 0 is not computed
      row[names_[i]] = mean[i];
      char part[48];
      std::snprintf(part, sizeof part, "  %s %.4f", names_[i].c_str(), mean[i]);
      text += part;
    }
    log.write(row);
    const bool better = progress_.best_epoch < 0 || valid < progress_.best;
    if (better) {
      progress_.best = valid;
      progress_.best_epoch = progress_.epoch;
      progress_.bad_epochs = 0;
      save_best(stage);
    } else
      ++progress_.bad_epochs;
    std::fprintf(stderr, "stage %d epoch %lld  train %.4f  valid %.4f%s%s\n", stage,
                 static_cast<long long>(progress_.epoch),
                 progress_.sums[O::size] / static_cast<double>(batches()), valid, text.c_str(),
                 better ? "  (best)" : "");
    if (progress_.epoch == epochs(stage) ||
        (config_.patience > 0 && progress_.bad_epochs >= config_.patience)) {
      if (progress_.epoch < epochs(stage))
        std::fprintf(stderr, "stage %d stops early: no better validation loss in %lld epochs\n",
                     stage, static_cast<long long>(config_.patience));
      finish_stage();
    }
  }

  /// The best weights go on: into stage 2, or as the result of the run.
  void finish_stage() {
    const int stage = progress_.stage;
    if (config_.overfit_batch) save_best(stage);
    load_model(best_weights(options_.run, stage), model_);
    if (stage == 1)
      begin_stage(2);
    else
      progress_.finished = true;
  }

  void say_odd_pictures() {
    const auto [count, first] = train_.noted_pictures();
    if (count == 0 || std::exchange(said_odd_pictures_, true)) return;
    line_.finish();
    std::fprintf(stderr,
                 "pictures    %zu read so far are odd; the first: %s; hybridmed check --data %s "
                 "lists them\n",
                 count, first.c_str(), shell_word(config_.data).c_str());
  }

  /// The mean loss of the validation split; nothing where a stop was asked for.
  template <class O>
  std::optional<double> validate(const O& objective, std::array<double, max_losses + 1>& mean) {
    data::Loader loader(valid_,
                        {static_cast<std::size_t>(config_.batch), false, false,
                         static_cast<int>(config_.workers), progress_.stage == 2},
                        Philox(), 0);
    double total = 0;
    while (auto host = loader.next()) {
      if (interrupted()) return std::nullopt;
      const auto r = evaluate_step(model_, objective, data::upload<T, B>(*host, model_),
                                   teacher_ ? &*teacher_ : nullptr, nn::Mode::evaluation());
      if (!r.finite) stop_on_nan(*host, valid_);
      const double share =
          static_cast<double>(host->studies.size()) / static_cast<double>(valid_.size());
      total += share * r.total;
      for (std::size_t i = 0; i < O::size; ++i) {
        mean[i] += share * static_cast<double>(r.losses[i].value.item());
        names_[i] = r.losses[i].name;
      }
    }
    return total;
  }

  RunConfig config_;
  TrainerOptions options_;
  data::DataFolder folder_;
  std::vector<data::Rejected> left_out_;  // rows of both splits that cannot be used
  std::vector<data::Study> train_studies_;
  data::WordPiece vocabulary_;
  data::Dataset train_, valid_;
  Model model_;
  Philox seed_;
  std::uint64_t data_hash_ = 0;
  std::optional<model::Teacher<T, B>> teacher_;
  std::optional<optim::AdamW<T, B>> optimizer_;
  Tape tape_;
  Progress progress_;
  ProgressLine line_;
  std::array<std::string, max_losses> names_;
  bool said_odd_pictures_ = false;
  std::size_t planned_ = 0;  // bytes of the plan, once it was measured
};

}  // namespace hybridmed::train
