// Bad input to a training run: damaged checkpoints and data, a run folder that cannot be made, no
// space left, NaN, Ctrl-C. Each time the error says what and where, and what was saved before goes
// on to the result of the undisturbed run.
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "../train/tiny_run.hpp"
#include "bad_input.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/train/trained_run.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
namespace fs = std::filesystem;
using B = Cpu<cpu::EigenGemm>;
using Trainer = NamedTrainer<float, B>;

namespace {

constexpr std::int64_t epoch_steps = 3, stage1_steps = 2 * epoch_steps,
                       all_steps = 2 * stage1_steps;

/// What standard error says meanwhile.
class Listening {
 public:
  explicit Listening(const fs::path& file) : file_(file) {
    std::fflush(stderr);
    kept_ = ::dup(2);
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(fd, 2);
    ::close(fd);
  }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;
  ~Listening() { stop(); }
  std::string text() {
    stop();
    return io::read_text(file_);
  }

 private:
  void stop() {
    if (kept_ < 0) return;
    std::fflush(stderr);
    ::dup2(kept_, 2);
    ::close(std::exchange(kept_, -1));
  }
  fs::path file_;
  int kept_ = -1;
};

/// A small corpus and its undisturbed run.
struct Corpus {
  ScratchFolder scratch;
  fs::path data = scratch.path / "data", whole = scratch.path / "whole";
  Corpus() {
    data::PhantomOptions o;
    o.count = 40;
    o.side = 40;
    o.valid = 0.2;
    o.test = 0.1;
    o.missing = 0.3;
    data::write_phantoms(data, o);
    const Listening quiet(scratch.path / "whole.txt");
    if (!Trainer(tiny_config(data), {whole, false, {}, -1}).run())
      throw std::logic_error("the undisturbed run did not end");
  }
};
const Corpus& corpus() {
  static const Corpus c;
  return c;
}

/// A run of its own: what it printed, and the error that ended it.
struct Run {
  ScratchFolder scratch;
  fs::path folder = scratch.path / "run";
  train::RunConfig config = tiny_config(corpus().data);
  std::string printed;

  /// The error's text, or "".
  std::string go(bool resume, std::int64_t stop_after, const fs::path& init = {},
                 bool interrupt = false) {
    Listening ear(scratch.path / "printed.txt");
    std::string e;
    CHECK_NOTHROW(e = error_of([&] {
                    Trainer trainer(config, {folder, resume, init, stop_after});
                    if (interrupt) ::raise(SIGINT);
                    trainer.run();
                  }));
    printed = ear.text();
    return e;
  }
  void start(std::int64_t stop_after) { REQUIRE(go(false, stop_after) == ""); }
  fs::path checkpoint(std::int64_t step) const {
    return folder / "checkpoints" / train::checkpoint_name(step);
  }
  Snapshot saved() const { return snapshot(folder / "checkpoints"); }

  /// Goes on from its newest checkpoint and ends as the undisturbed run did, byte for byte.
  void goes_on() {
    config = tiny_config(corpus().data);
    const std::string e = go(true, -1);
    CHECK_MESSAGE(e == "", e);
    const fs::path last = fs::path("checkpoints") / train::checkpoint_name(all_steps);
    for (const fs::path& f :
         {fs::path("log.jsonl"), fs::path("log.csv"), last / "model.safetensors",
          last / "optimizer.safetensors", last / "teacher.safetensors", last / "state.json",
          fs::path("best-stage2.json")}) {
      REQUIRE_MESSAGE(fs::exists(folder / f), f.string());
      CHECK_MESSAGE(io::read_file(folder / f) == io::read_file(corpus().whole / f), f.string());
    }
  }
};

void nothing_changed(const Snapshot& before, const Snapshot& after) {
  CHECK_MESSAGE(changes(before, after) == "", changes(before, after));
}

}  // namespace

// ---------------------------------------------------------------- checkpoints

TEST_CASE("a damaged checkpoint is refused and changes nothing; the one before it goes on") {
  struct Row {
    std::string name, file;
    std::function<void(const fs::path&)> damage;
    std::vector<std::string> patterns;
  };
  const auto half = [](const fs::path& p) { fs::resize_file(p, fs::file_size(p) / 2); };
  const auto to = [](std::uintmax_t n) {
    return [=](const fs::path& p) { fs::resize_file(p, n); };
  };
  const auto as = [](const std::string& text) {
    return [=](const fs::path& p) { write_bytes(p, text); };
  };
  const auto edited = [](const char* key, const io::Json& value) {
    return [=](const fs::path& p) {
      io::Json j = io::read_json(p);
      if (value.is_null())
        j.erase(key);
      else
        j[key] = value;
      write_bytes(p, j.dump(1));
    };
  };
  const auto gone = [](const fs::path& p) { fs::remove(p); };
  const std::string tensor = "tensor '[a-z_0-9.]+'";
  for (const Row& row : {
           Row{"weights cut in half", "model.safetensors", half, {tensor, "cut short"}},
           {"weights cut inside the header",
            "model.safetensors",
            to(100),
            {"only 92 follow", "cut short"}},
           {"weights cut to nothing", "model.safetensors", to(0), {"offset 0", "ends"}},
           {"no weights", "model.safetensors", gone, {"No such file"}},
           {"teacher cut in half", "teacher.safetensors", half, {tensor, "cut short"}},
           {"no teacher", "teacher.safetensors", gone, {"No such file"}},
           {"moments cut in half", "optimizer.safetensors", half, {tensor, "cut short"}},
           {"moments cut inside the header",
            "optimizer.safetensors",
            to(100),
            {"only 92 follow", "cut short"}},
           {"no moments", "optimizer.safetensors", gone, {"No such file"}},
           {"state cut in half",
            "state.json",
            half,
            {"line [0-9]+, column [0-9]+", "unexpected|missing"}},
           {"state cut to nothing",
            "state.json",
            to(0),
            {"line 1, column 1", "unexpected end of input"}},
           {"no state", "state.json", gone, {"No such file"}},
           {"a state that says nothing", "state.json", as("{}"), {"missing", "'[a-z_]+'"}},
           {"a state without its step",
            "state.json",
            edited("step", nullptr),
            {"missing", "'step'"}},
           {"a state of stage 3", "state.json", edited("stage", 3), {"'?stage'?", "\\b3\\b"}},
           {"a state with a step that is a text",
            "state.json",
            edited("step", "eight"),
            {"'step'", "whole number", "eight"}},
           {"a state with an unknown key",
            "state.json",
            edited("stepp", 8),
            {"'stepp'", "unknown key"}},
       }) {
    INFO(row.name);
    Run r;
    r.start(8);
    REQUIRE(fs::exists(r.checkpoint(7)));
    row.damage(r.checkpoint(8) / row.file);
    const Snapshot before = snapshot(r.folder);
    check_error(r.go(true, 9), r.checkpoint(8) / row.file, row.patterns);
    nothing_changed(before, snapshot(r.folder));
    fs::remove_all(r.checkpoint(8));
    r.goes_on();
  }
}

TEST_CASE("a damaged checkpoint is found before older ones are given up") {
  Run r;
  r.start(8);
  fs::resize_file(r.checkpoint(8) / "model.safetensors", 1000);
  const Snapshot before = snapshot(r.folder);
  r.config.keep_checkpoints = 1;
  check_error(r.go(true, 9), r.checkpoint(8) / "model.safetensors", {"cut short"});
  nothing_changed(before, snapshot(r.folder));
  fs::remove_all(r.checkpoint(8));
  REQUIRE(fs::exists(r.checkpoint(7)));
  r.goes_on();
}

TEST_CASE("a run is not resumed with another configuration: every key that differs is named") {
  struct Row {
    std::string name;
    std::function<void(train::RunConfig&)> change;
    std::vector<std::string> patterns;
  };
  for (const Row& row :
       {Row{"wider embeddings",
            [](train::RunConfig& c) { c.model.d_e = 20; },
            {"d_e \\(was 12, is 20\\)"}},
        {"another image encoder",
         [](train::RunConfig& c) {
           c.model.resnet_depths = {1, 1, 1, 1};
         },
         {"resnet_depths \\(was \\[1,2,1,1\\]"}},
        {"another seed and rate",
         [](train::RunConfig& c) {
           c.seed = 5;
           c.lr_stage2 = 0.5;
         },
         {"lr_stage2 \\(was", "seed \\(was 0, is 5\\)"}},
        {"another batch", [](train::RunConfig& c) { c.batch = 4; }, {"batch \\(was 8, is 4\\)"}},
        {"other weights of the losses",
         [](train::RunConfig& c) { c.model.lambda_cl = 0.5; },
         {"lambda_cl"}},
        {"another precision", [](train::RunConfig& c) { c.precision = "double"; }, {"precision"}},
        {"fewer epochs",
         [](train::RunConfig& c) { c.epochs_stage2 = 1; },
         {"epochs_stage2 \\(was 2, is 1\\)"}},
        {"other sections", [](train::RunConfig& c) { c.sections = "both"; }, {"sections"}}}) {
    INFO(row.name);
    Run r;
    r.start(2);
    const Snapshot before = snapshot(r.folder);
    row.change(r.config);
    check_error(r.go(true, 9), r.folder, row.patterns);
    nothing_changed(before, snapshot(r.folder));
    r.goes_on();
  }
}

TEST_CASE("a resumed run may move, and may get more epochs, in either stage and when it is over") {
  Run r;
  r.start(2);  // in stage 1
  r.config.workers = 2;
  r.config.checkpoint_every = 2;
  r.config.keep_checkpoints = 3;
  r.config.cache_mb = 1;
  r.config.epochs_stage1 = 3;
  REQUIRE(r.go(true, stage1_steps + 1) == "");
  CHECK_MESSAGE(holds(r.printed, "stage 1 goes on for 3 epochs"), r.printed);
  CHECK(train::list_checkpoints(r.folder).back() == r.checkpoint(stage1_steps + 1));
  r.config.epochs_stage1 = 4;
  REQUIRE(r.go(true, 4 * epoch_steps + 1) == "");
  r.config.epochs_stage1 = 5;  // stage 1 is over
  CHECK(holds(r.go(true, -1), "epochs_stage1 (was 4, is 5)"));
  r.config.epochs_stage1 = 4;
  REQUIRE(r.go(true, -1) == "");
  const auto steps = [&] {
    return io::read_json(train::list_checkpoints(r.folder).back() / "state.json")["step"]
        .get<std::int64_t>();
  };
  CHECK(steps() == 6 * epoch_steps);
  r.config.epochs_stage2 = 3;  // a finished run
  REQUIRE(r.go(true, -1) == "");
  CHECK(steps() == 7 * epoch_steps);
  CHECK(io::read_json(train::list_checkpoints(r.folder).back() / "state.json")["finished"]
            .get<bool>());
  REQUIRE(r.go(true, -1) == "");  // and nothing more
  CHECK(steps() == 7 * epoch_steps);
}

TEST_CASE(
    "a state that the schedule cannot have reached, a flipped bit and another vocabulary are "
    "refused at once") {
  struct Row {
    const char* key;
    io::Json value;
  };
  for (const Row& row : {Row{"sums", io::Json::array()},
                         {"sums", io::Json{1.0}},
                         {"sums", io::Json{1, 2, 3, 4, 5, 6, 7, 8, 9}},
                         {"batch", 4},
                         {"batch", 1000000000},
                         {"batch", -1},
                         {"epoch", 2},
                         {"epoch", 7},
                         {"epoch", 9000000000000000000},
                         {"epoch", -1},
                         {"stage_step", 1},
                         {"stage_step", 100},
                         {"step", 1},
                         {"stage", 3},
                         {"stage", 0},
                         {"best_epoch", 9},
                         {"best_epoch", -2},
                         {"bad_epochs", 5},
                         {"bad_epochs", -1},
                         {"finished", true},
                         {"best", 1e-3},
                         {"data", 1},
                         {"vocabulary", 1}}) {
    INFO(row.key, " = ", row.value.dump());
    Run r;
    r.start(4);  // epoch 2, batch 1 of stage 1
    const fs::path state = r.checkpoint(4) / "state.json";
    io::Json j = io::read_json(state);
    j[row.key] = row.value;
    write_bytes(state, j.dump(1));
    const std::string e = r.go(true, -1);
    CHECK_MESSAGE(e.starts_with("[hybridmed."), e);
    CHECK_MESSAGE(holds(e, state.string()), e);
    if (std::string(row.key) != "best" && std::string(row.key) != "data" &&
        std::string(row.key) != "vocabulary")
      CHECK_MESSAGE(holds(e, "'" + std::string(row.key)), e);
  }
  for (const char* file :
       {"model.safetensors", "optimizer.safetensors", "state.json", "config.json"}) {
    INFO(file);
    Run r;
    r.start(4);
    const fs::path path = r.checkpoint(4) / file;
    std::string bytes = io::read_text(path);
    bytes[bytes.size() - 40] ^= 1;  // the lowest bit of a number, a letter of a key or a value
    write_bytes(path, bytes);
    const std::string e = r.go(true, -1);
    CHECK_MESSAGE(e.starts_with("[hybridmed."), file, ": ", e);
  }
  Run r;
  r.start(4);
  std::string vocabulary = io::read_text(r.folder / "vocab.txt");
  const auto last = vocabulary.rfind('\n', vocabulary.size() - 2),
             before = vocabulary.rfind('\n', last - 1);
  write_bytes(r.folder / "vocab.txt",
              vocabulary.substr(0, before + 1) + vocabulary.substr(last + 1) +
                  vocabulary.substr(before + 1, last - before));  // two tokens change places
  CHECK(holds(r.go(true, -1), "vocab.txt"));
}

TEST_CASE(
    "a checkpoint whose files do not belong together is refused, with and without its checksums") {
  const auto begun = [](Run& r) {
    r.start(stage1_steps + 2);  // two steps into stage 2
    return r.checkpoint(stage1_steps + 2);
  };
  const auto refused = [](Run& r, std::initializer_list<const char*> words) {
    const Snapshot before = snapshot(r.folder);
    const std::string e = r.go(true, -1);
    for (const char* word : words) CHECK_MESSAGE(holds(e, word), e);
    nothing_changed(before, snapshot(r.folder));
  };
  for (const char* list : {"{}", "[]", "3", "null", "{\"other\":\"0\"}"}) {
    Run r;
    write_bytes(begun(r) / "checksums.json", list);
    refused(r, {"checksums.json", "holds no checksum of"});
  }
  for (const std::int64_t step : {std::int64_t{9223372036854775807}, std::int64_t{4294967296},
                                  std::int64_t{stage1_steps + 3}}) {
    Run r;
    const fs::path dir = begun(r);
    fs::remove(dir / "checksums.json");
    io::Json j = io::read_json(dir / "state.json");
    j["step"] = step;
    write_bytes(dir / "state.json", j.dump(1));
    refused(r, {"state.json", "'step'"});
  }
  const auto moments = [](const fs::path& dir, const std::string& steps, const std::string& type,
                          double v) {
    fs::remove(dir / "checksums.json");
    const io::Safetensors was = io::Safetensors::read(dir / "optimizer.safetensors");
    io::SafetensorsWriter w;
    w.metadata("steps", steps.empty() ? was.metadata().at("steps") : steps);
    for (const auto& [name, t] : was.tensors()) {
      std::vector<Index> sizes = t.shape;
      Shape shape;
      if (sizes.size() == 1) shape = {sizes[0]};
      if (sizes.size() == 2) shape = {sizes[0], sizes[1]};
      if (sizes.size() == 3) shape = {sizes[0], sizes[1], sizes[2]};
      if (sizes.size() == 4) shape = {sizes[0], sizes[1], sizes[2], sizes[3]};
      std::vector<float> values(static_cast<std::size_t>(t.size()));
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(t.at(static_cast<Index>(i)));
      if (name.starts_with("v.") && v != 0 && !values.empty()) values[0] = static_cast<float>(v);
      if (type == "I32" && name.starts_with("m."))
        w.add(name, Tensor<std::int32_t, B>::full(shape, 0));
      else
        w.add(name, Tensor<float, B>::from_host(values, shape));
    }
    w.write(dir / "optimizer.safetensors");
  };
  struct Row {
    const char *steps, *type;
    double v;
    const char* says;
  };
  for (const Row& row : {Row{"0", "", 0, "of 0 steps, but state.json says stage_step = 2"},
                         {"1", "", 0, "of 1 steps"},
                         {"", "I32", 0, "expected floats, got I32"},
                         {"", "", -1000, "number below 0"}}) {
    Run r;
    moments(begun(r), row.steps, row.type, row.v);
    refused(r, {"optimizer.safetensors", row.says});
  }
  // A copy that somebody kept is no checkpoint: it is neither gone on from nor removed.
  Run r;
  const fs::path dir = begun(r);
  fs::copy(dir, dir.string() + "-keep-me", fs::copy_options::recursive);
  r.goes_on();
  CHECK(fs::exists(dir.string() + "-keep-me"));
}

TEST_CASE("settings that cannot learn are refused, or warned about") {
  const auto refusal = [](auto change) {
    train::RunConfig c = tiny_config("somewhere");
    change(c);
    return error_of([&] {
      c.validate();
      train::check_stages(c, system::stages_of_system(c.system, c.model));
    });
  };
  CHECK(refusal([](auto&) {}) == "");
  CHECK(holds(refusal([](auto& c) { c.model.lambda_sum = 0; }), "lambda_sum"));
  CHECK(refusal([](auto& c) {
          c.model.lambda_sum = 0;
          c.epochs_stage1 = 0;
        }) == "");
  CHECK(holds(refusal([](auto& c) {
                c.model.lambda_cg = c.model.lambda_cl = c.model.lambda_sum = c.model.lambda_cap =
                    c.model.lambda_dis = 0;
                c.epochs_stage1 = 0;
              }),
              "cannot learn"));
  CHECK(holds(refusal([](auto& c) {
                c.batch = 1;
                c.epochs_stage1 = 0;
                c.model.lambda_sum = c.model.lambda_cap = c.model.lambda_dis = 0;
              }),
              "batch"));
  CHECK(holds(refusal([](auto& c) { c.workers = Index{1} << 32; }), "workers"));
  CHECK(holds(refusal([](auto& c) { c.workers = 257; }), "workers"));
  CHECK(holds(refusal([](auto& c) { c.resize = 1000000; }), "resize"));
  CHECK(holds(refusal([](auto& c) { c.lr_floor = 1; }), "lr_floor: expected at most lr_stage1"));
  CHECK(holds(refusal([](auto& c) { c.clip = 1e-30; }), "clip"));
  CHECK(refusal([](auto& c) { c.clip = 0; }) == "");
  for (double x : {0.0, 1e-320, 2147483648.0, 1e308, std::nan("")})
    CHECK(holds(refusal([x](auto& c) { c.model.tau_d = x; }), "tau_d"));
  for (double x : {1e-320, 1.0, 1e308})
    CHECK(holds(refusal([x](auto& c) { c.model.image_ln_eps = x; }), "image_ln_eps"));
  CHECK(holds(refusal([](auto& c) { c.model.gamma3 = 1e308; }), "gamma3"));
  CHECK(holds(refusal([](auto& c) { c.model.lambda_cap = 1e308; }), "lambda_cap"));
  CHECK(holds(refusal([](auto& c) { c.weight_decay = 1e308; }), "weight_decay"));
  CHECK(holds(refusal([](auto& c) { c.vocab_size = -1; }),
              "vocab_size: expected at least 8, got -1"));
  CHECK(holds(refusal([](auto& c) {
                c.model.resnet_depths = {1, 1, 1, Index{1} << 62};
              }),
              "resnet_depths"));
  CHECK(holds(refusal([](auto& c) { c.model.uni_blocks = 4096; }), "uni_blocks"));
  train::RunConfig one = tiny_config("somewhere");
  one.batch = 1;
  one.epochs_stage1 = one.epochs_stage2 = 2;
  const auto warnings = [&] {
    return train::stage_warnings(one, system::stages_of_system(one.system, one.model), false);
  };
  REQUIRE(warnings().size() == 1);
  CHECK(holds(warnings()[0], "batch = 1: the contrastive terms (cg, cl)"));
  one.lr_stage2 = 0;
  CHECK(warnings().size() == 2);
  one.system = "clip";
  REQUIRE(warnings().size() == 3);
  CHECK(holds(warnings()[2], "clip has one stage: epochs_stage1"));
  CHECK(holds(refusal([](auto& c) { c.system = "clop"; }), "expected hybridmed, clip"));
}

TEST_CASE(
    "a plan that the machine has no memory for is refused before the first step, with the keys to "
    "lower") {
  Run r;
  r.config.model.d = 65536;
  r.config.model.heads = 1;
  r.config.model.uni_blocks = 64;
  const std::string e = r.go(false, -1);
  CHECK_MESSAGE(holds(e, "out of memory"), e);
  CHECK_MESSAGE(holds(e, "lower"), e);
  CHECK_FALSE(fs::exists(r.folder / "log.csv"));
}

TEST_CASE(
    "a stop that is asked for within the validation is answered there; the resumed run ends as the "
    "undisturbed one") {
  for (int delay : {0, 1, 2, 4, 8, 16, 32}) {
    Run again;
    again.config.checkpoint_every = 1;
    std::thread stop([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20 + 3 * delay));
      train::interrupted() = true;
    });
    const std::string e = again.go(false, -1);
    stop.join();
    train::interrupted() = false;
    const bool before_the_first = holds(e, "stopped on request");
    CHECK_MESSAGE((e == "" || before_the_first), e);
    if (!before_the_first && !train::list_checkpoints(again.folder).empty()) again.goes_on();
  }
}

TEST_CASE("a state saved within the validation, its epoch still open, goes on to the same result") {
  Run r;
  r.start(epoch_steps - 1);
  // Stop after the last batch of the epoch, as a Ctrl-C within its validation does: the step is
  // made, the flag is up when validation begins.
  {
    const Listening quiet(r.scratch.path / "quiet.txt");
    Trainer trainer(r.config, {r.folder, true, {}, -1});
    train::interrupted() = true;
    CHECK_FALSE(trainer.run());
    train::interrupted() = false;
  }
  const io::Json state = io::read_json(train::list_checkpoints(r.folder).back() / "state.json");
  CHECK(state["batch"].get<std::int64_t>() == epoch_steps);
  CHECK(state["epoch"].get<std::int64_t>() == 0);
  r.goes_on();
}

TEST_CASE(
    "weights to start from: all three lists are printed; weights that fit nowhere and damaged ones "
    "are errors") {
  Run r;
  const fs::path good = corpus().whole / "checkpoints" / train::checkpoint_name(all_steps) /
                        "model.safetensors",
                 init = r.scratch.path / "init.safetensors";
  r.config.model.d_e = 20;
  r.config.model.resnet_depths = {1, 1, 1, 1};
  r.config.model.dec_blocks = 2;
  REQUIRE(r.go(false, 1, good) == "");
  CHECK_MESSAGE(holds(r.printed, good.string()), r.printed);
  for (const std::string p :
       {"[1-9][0-9]* loaded\n +", "[1-9][0-9]* missing\n +decoder\\.blocks\\.1\\.",
        "[1-9][0-9]* unexpected\n +image\\.",
        "[1-9][0-9]* mismatched\n +[a-z_0-9.]+: expected \\([0-9, ]+\\), got"})
    CHECK_MESSAGE(says(r.printed, p), p, " is not said: ", r.printed);

  struct Row {
    std::string name, bytes;
    std::vector<std::string> patterns;
  };
  const std::string header = R"({"nobody":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                    whole = io::read_text(good);
  for (const Row& row : {Row{"no tensor fits",
                             std::string{static_cast<char>(header.size())} + std::string(7, '\0') +
                                 header + std::string(4, '\0'),
                             {"no tensor fits"}},
                         {"cut in half",
                          whole.substr(0, whole.size() / 2),
                          {"tensor '[a-z_0-9.]+'", "cut short"}}}) {
    INFO(row.name);
    Run other;
    write_bytes(init, row.bytes);
    check_error(other.go(false, 1, init), init, row.patterns);
    CHECK(!fs::exists(other.folder));
    CHECK(other.go(false, 1, good) == "");  // the run folder is still free
  }
  Run other;
  check_error(other.go(false, 1, r.scratch.path / "missing.safetensors"),
              r.scratch.path / "missing.safetensors", {"No such file"});
}

// ---------------------------------------------------------------- data that does not fit the run

namespace {
/// A copy of the corpus that may be changed.
fs::path copied(const Run& r) {
  const fs::path to = r.scratch.path / "data";
  fs::copy(corpus().data, to, fs::copy_options::recursive);
  return to;
}
std::vector<std::string> lines_of(const fs::path& file) {
  return data::split_names(io::read_text(file), "\n");
}
std::string joined(const std::vector<std::string>& lines) {
  std::string s;
  for (const auto& l : lines) s += l + "\n";
  return s;
}
}  // namespace

TEST_CASE("a run is not resumed on other data; on the same data in another place it is") {
  for (const std::string change :
       {"a study less", "another text", "another split", "another end of the split", "nothing"}) {
    INFO(change);
    Run r;
    r.start(4);
    const Snapshot before = r.saved();
    const fs::path data = copied(r), table = data / "studies.csv",
                   train = data / "splits" / "train.txt";
    if (change == "a study less") {
      auto ids = lines_of(train);
      ids.pop_back();
      write_bytes(train, joined(ids));
    } else if (change == "another text") {
      std::string text = io::read_text(table);
      const auto at = text.find("the lungs");
      REQUIRE(at != text.npos);
      write_bytes(table, text.replace(at, 9, "two lungs"));
    } else if (change.starts_with("another ")) {
      auto ids = lines_of(train), valid = lines_of(data / "splits" / "valid.txt");
      if (change == "another split")
        std::swap(ids.front(), valid.front());
      else {
        valid.insert(valid.begin(), ids.back());
        ids.pop_back();
      }  // the studies and their order stay
      write_bytes(train, joined(ids));
      write_bytes(data / "splits" / "valid.txt", joined(valid));
    }
    r.config.data = data.string();
    if (change == "nothing") {
      CHECK(r.go(true, 5) == "");
      continue;
    }
    check_error(r.go(true, 5), data, {"not those that .* was trained on", "--init"});
    nothing_changed(before, r.saved());
    r.goes_on();
  }
}

TEST_CASE("a study in both splits and an image that is not there are found before the first step") {
  Run r;
  const fs::path data = copied(r), train = data / "splits" / "train.txt";
  r.config.data = data.string();
  auto ids = lines_of(train);
  const std::string valid = lines_of(data / "splits" / "valid.txt").front();
  ids.push_back(valid);
  write_bytes(train, joined(ids));
  check_error(r.go(false, 1), data, {"study " + valid + " is in split 'train' and in 'valid'"});
  ids.pop_back();
  write_bytes(train, joined(ids));
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}})
    fs::remove(data / "images" / (ids[i] + ".png"));
  check_error(r.go(false, 1), data / "images" / (ids[1] + ".png"),
              {"belongs to study " + ids[1], "line [0-9]+", "2 images are missing"});
  CHECK(train::list_checkpoints(r.folder).empty());
}

TEST_CASE("two processes do not write to one run folder") {
  Run r;
  r.start(2);
  const Snapshot before = r.saved();
  {
    const io::FolderLock other(r.folder);
    check_error(r.go(true, 3), r.folder, {"another process"});
    nothing_changed(before, r.saved());
  }
  r.goes_on();

  Run fresh;  // nor before the other's first checkpoint
  fs::create_directories(fresh.folder / "checkpoints");
  write_bytes(fresh.folder / "log.jsonl", "the other's log\n");
  const Snapshot others = snapshot(fresh.folder);
  const io::FolderLock other(fresh.folder);
  check_error(fresh.go(false, 1), fresh.folder, {"another process"});
  nothing_changed(others, snapshot(fresh.folder));
}

// ---------------------------------------------------------------- run folders

TEST_CASE(
    "a run folder that cannot be made is named with the reason, and what is in the way stays") {
  struct Row {
    std::string name;
    std::function<fs::path(const fs::path&)> make;
    std::vector<std::string> patterns;
  };
  std::vector<Row> table{
      {"a file of that name",
       [](const fs::path& f) {
         write_bytes(f / "run", "notes");
         return f / "run";
       },
       {"cannot be made", "Not a directory|File exists"}},
      {"a file above it",
       [](const fs::path& f) {
         write_bytes(f / "file", "notes");
         return f / "file" / "run";
       },
       {"cannot be made", "Not a directory"}},
      {"a file in place of its checkpoints",
       [](const fs::path& f) {
         write_bytes(f / "run" / "checkpoints", "notes");
         return f / "run";
       },
       {"cannot be made", "Not a directory|File exists"}},
      {"a link that leads nowhere",
       [](const fs::path& f) {
         fs::create_symlink(f / "nowhere" / "x", f / "run");
         return f / "run";
       },
       {"cannot be made", "[A-Z][a-z]+ "}},
      {"a name that is too long",
       [](const fs::path& f) { return f / std::string(300, 'r'); },
       {"cannot be made", "name too long"}},
      {"where no folder can be",
       [](const fs::path&) { return fs::path("/proc/hybridmed-run"); },
       {"cannot be made", "No such file|not permitted|denied"}},
  };
  if (::geteuid() != 0)  // root may write anywhere
    table.push_back({"no permission",
                     [](const fs::path& f) {
                       fs::permissions(f, fs::perms::owner_read | fs::perms::owner_exec);
                       return f / "run";
                     },
                     {"cannot be made", "Permission denied"}});
  for (const Row& row : table) {
    INFO(row.name);
    const ScratchFolder f;
    Run r;
    r.folder = row.make(f.path);
    const Snapshot before = snapshot(f.path);
    check_error(r.go(false, 1), r.folder, row.patterns);
    nothing_changed(before, snapshot(f.path));
    fs::permissions(f.path, fs::perms::owner_all);
  }
  Run nothing;
  check_error(nothing.go(true, 1), nothing.folder, {"no checkpoint to resume from"});
  CHECK(!fs::exists(nothing.folder));
  Run taken;
  taken.start(2);
  const Snapshot before = snapshot(taken.folder);
  check_error(taken.go(false, 1), taken.folder, {"already holds checkpoints", "--resume"});
  nothing_changed(before, snapshot(taken.folder));
  taken.goes_on();
}

// ---------------------------------------------------------------- no space left

namespace {

/// No file may grow beyond `bytes` meanwhile: the portable stand-in for a full disk.
struct FileLimit {
  rlimit before{};
  explicit FileLimit(std::uintmax_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);  // write() then fails instead
    ::getrlimit(RLIMIT_FSIZE, &before);
    const rlimit now{static_cast<rlim_t>(bytes), before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &now) == 0);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;
  ~FileLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, SIG_DFL);
  }
};

/// What a failed save must leave: every checkpoint and best weight of before, nothing half-written.
void only_logs_differ(Snapshot before, Snapshot after) {
  for (const char* log : {"log.jsonl", "log.csv"}) {
    before.erase(log);
    after.erase(log);
  }
  nothing_changed(before, after);
}

}  // namespace

TEST_CASE("no room for a file: the error names it, the previous checkpoint survives and goes on") {
  const std::uintmax_t weights = fs::file_size(
      corpus().whole / "checkpoints" / train::checkpoint_name(all_steps) / "model.safetensors");
  struct Row {
    std::string name;
    std::int64_t saved;                              // steps saved before the disk is full
    std::function<std::uintmax_t(const Run&)> room;  // bytes a file may have
    std::string file;
  };
  for (const Row& row :
       {Row{"weights of a checkpoint, stage 1", 1, [&](const Run&) { return weights / 2; },
            "step-00000002/model.safetensors"},
        {"weights of a checkpoint, stage 2", 7, [&](const Run&) { return weights - 1; },
         "step-00000008/model.safetensors"},
        {"moments of a checkpoint, stage 2", 7, [&](const Run&) { return weights + weights / 2; },
         "step-00000008/optimizer.safetensors"},
        {"best weights at the end of an epoch", 8, [&](const Run&) { return weights / 2; },
         "best-stage2-step-00000009/model.safetensors"},
        {"the log", 10, [&](const Run& r) { return fs::file_size(r.folder / "log.jsonl") + 10; },
         "log.jsonl"}}) {
    INFO(row.name);
    Run r;
    r.start(row.saved);
    REQUIRE(row.room(r) > fs::file_size(r.folder / "config.json"));
    const Snapshot before = snapshot(r.folder);
    std::string e;
    {
      const FileLimit limit(row.room(r));
      e = r.go(true, -1);
    }
    check_error(e, fs::path(row.file).filename(), {"File too large|No space left"});
    CHECK_MESSAGE(holds(e, r.folder.string()), e);
    CHECK_MESSAGE(holds(e, fs::path(row.file).parent_path().string()), e);
    only_logs_differ(before, snapshot(r.folder));
    r.goes_on();
  }
}

TEST_CASE(
    "no room at the start of a run: the error names the file, and the same folder can be used once "
    "there is room") {
  Run r;
  {
    const FileLimit limit(50);
    const std::string e = error_of([&] { Trainer(r.config, {r.folder, false, {}, 1}).run(); });
    check_error(e, r.folder, {"run/[a-z_]+\\.(txt|json)", "File too large|No space left"});
  }
  CHECK(train::list_checkpoints(r.folder).empty());
  for (const auto& [name, bytes] : snapshot(r.folder)) CHECK_MESSAGE(!name.ends_with(".tmp"), name);
  r.start(1);
  r.goes_on();
}

TEST_CASE("a full device: the reason is the system's, the hint says what to do") {
  if (!fs::exists("/dev/full")) {
    MESSAGE("skipped: no /dev/full here");
    return;
  }
  Trainer t(tiny_config(corpus().data), {"unused", false, {}, 1});
  const std::string e = error_of([&] { train::save_model("/dev/full", t.system()); });
  check_error(e, "/dev/full", {"No space left on device", "hint: .*space"});
}

TEST_CASE("a full file system: the previous checkpoint survives and goes on") {
  Run r;
  fs::create_directories(r.folder);
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root mounts a small file system");
    return;
  }
  if (::mount("none", r.folder.c_str(), "tmpfs", 0, "size=64m") != 0) {
    MESSAGE("skipped: no file system can be mounted here: ", std::strerror(errno));
    return;
  }
  struct Unmount {
    fs::path at;
    ~Unmount() { ::umount2(at.c_str(), MNT_DETACH); }
  } const unmount{r.folder};
  r.start(7);
  const Snapshot before = snapshot(r.folder);
  const std::uintmax_t weights = fs::file_size(r.checkpoint(7) / "model.safetensors");
  const fs::path ballast = r.scratch.path / "run" / "ballast";
  {  // fill it, but for half of the weights
    struct statvfs s {};
    REQUIRE(::statvfs(r.folder.c_str(), &s) == 0);
    write_bytes(ballast,
                std::string(static_cast<std::size_t>(s.f_bavail * s.f_bsize - weights / 2), 'x'));
  }
  const std::string e = r.go(true, -1);
  check_error(e, r.folder / "checkpoints",
              {"step-00000008/model\\.safetensors", "No space left on device", "hint: .*space"});
  fs::remove(ballast);
  only_logs_differ(before, snapshot(r.folder));
  r.goes_on();
}

// ---------------------------------------------------------------- NaN

namespace {

/// Weights of an untrained model in which every parameter or buffer of a matching name holds x.
void poisoned_weights(const fs::path& file, const train::RunConfig& c, const std::string& pattern,
                      float x) {
  Trainer t(c, {"unused", false, {}, -1});
  std::size_t n = 0;
  const auto poison = [&](const std::string& name, auto& p) {
    if (says(name, pattern)) {
      p.value = Tensor<float, B>::full(p.value.shape(), x);
      ++n;
    }
  };
  nn::for_each_state(t.system(), poison, poison);
  REQUIRE(n > 0);
  train::save_model(file, t.system());
}
std::set<std::string> ids_of(const std::string& split) {
  std::set<std::string> ids;
  for (const auto& s : data::DataFolder(corpus().data).select({.split = split})) ids.insert(s.id);
  return ids;
}
/// The ids that an error lists after "studies:".
std::vector<std::string> listed(const std::string& e) {
  const auto at = e.find("studies: ");
  if (at == e.npos) return {};
  const std::string list = e.substr(at + 9, e.find(';', at) - at - 9);
  std::vector<std::string> ids;
  for (std::string id : data::split_names(list, ",")) ids.push_back(id);
  return ids;
}
std::int64_t logged_steps(const fs::path& run) {
  std::int64_t n = 0;
  std::ifstream log(run / "log.jsonl");
  for (std::string line; std::getline(log, line);)
    n += io::parse_json(line, "log")["kind"] == "step";
  return n;
}

}  // namespace

TEST_CASE("NaN in the loss stops the run with the step and its studies; what was saved stays") {
  struct Row {
    std::string name, poisoned;  // parameters or buffers to start from; empty: the learning rate is
                                 // absurd from step 2 on
    float value;
    Index stage1_epochs, batch;
    std::string split;
    std::int64_t step;  // 0: the one after the last that was logged
  };
  const float huge = 3e38f;  // weights that are not finite are refused when they are loaded; these
                             // overflow when they are used
  for (const Row& row : {
           Row{"weights that overflow, stage 1", "^text\\.", huge, 2, 8, "train", 1},
           {"an output layer that overflows, stage 1", "^decoder\\.fc_sum\\.weight$", huge, 2, 8,
            "train", 1},
           {"weights that overflow, stage 2", "^proj\\.", huge, 0, 8, "train", 1},
           {"all training studies in one batch", "^text\\.", huge, 2,
            static_cast<Index>(ids_of("train").size()), "train", 1},
           {"an absurd learning rate", "", 0, 2, 8, "train", 0},
           {"only the validation loss: a mean that overflows", "running_mean$", -huge, 0, 8,
            "valid", epoch_steps},
       }) {
    INFO(row.name);
    Run r;
    const fs::path init = r.scratch.path / "init.safetensors";
    std::string e;
    Snapshot before;
    if (row.poisoned.empty()) {
      r.config.lr_stage1 = 1e38;
      r.start(1);
      before = r.saved();
      r.config.checkpoint_every = 100;
      e = r.go(true, -1);
    } else {
      r.config.epochs_stage1 = row.stage1_epochs;
      r.config.batch = row.batch;
      poisoned_weights(init, r.config, row.poisoned, row.value);
      if (row.step > 1) {
        REQUIRE(r.go(false, row.step - 1, init) == "");
        before = r.saved();
      }
      e = row.step > 1 ? r.go(true, -1) : r.go(false, -1, init);
    }
    const std::int64_t step = row.step ? row.step : logged_steps(r.folder) + 1;
    // What was saved can be read: no number in it was lost on the way through JSON.
    for (const auto& c : train::list_checkpoints(r.folder)) {
      train::Progress p;
      CHECK_NOTHROW(io::from_json(io::read_json(c / "state.json"), p, (c / "state.json").string()));
    }
    check_error(
        e, "",
        {"step " + std::to_string(step) + "\\b", "not a number|NaN|not finite", "studies: "});
    if (e.empty()) continue;
    const auto ids = listed(e);
    const auto all = ids_of(row.split);
    const std::set<std::string> distinct(ids.begin(), ids.end());
    CHECK(distinct.size() == ids.size());
    CHECK_MESSAGE(std::includes(all.begin(), all.end(), distinct.begin(), distinct.end()), e);
    CHECK_MESSAGE(distinct.size() == std::min(static_cast<std::size_t>(row.batch), all.size()), e);
    nothing_changed(before, r.saved());
    // Without a checkpoint the error must not promise one.
    CHECK_MESSAGE(holds(e, "last checkpoint") == !before.empty(), e);
  }
}

// ---------------------------------------------------------------- Ctrl-C

TEST_CASE("Ctrl-C: the step is finished and saved, the message says how to go on, and it does") {
  struct Row {
    std::string name;
    std::int64_t saved;  // steps before; the interrupt comes in the next one
  };
  for (const Row& row : {Row{"in the first step", 0},
                         {"in stage 1", 1},
                         {"in the last step of an epoch", 2},
                         {"in the last step of stage 1", stage1_steps - 1},
                         {"in stage 2", 7}}) {
    INFO(row.name);
    Run r;
    r.config.checkpoint_every = 0;  // nothing is saved but for the interrupt
    if (row.saved) r.start(row.saved);
    const auto old = std::signal(SIGINT, [](int) { train::interrupted() = true; });
    const std::string e = r.go(row.saved > 0, -1, {}, true);
    std::signal(SIGINT, old);
    train::interrupted() = false;
    CHECK_MESSAGE(e == "", e);
    CHECK_MESSAGE(says(r.printed, "stopped after step " + std::to_string(row.saved + 1) + "\\b"),
                  r.printed);
    CHECK_MESSAGE(holds(r.printed, "saved in " + r.folder.string()), r.printed);
    CHECK_MESSAGE(holds(r.printed, "pretrain --run " + r.folder.string() + " --resume"), r.printed);
    REQUIRE(!train::list_checkpoints(r.folder).empty());
    CHECK(train::list_checkpoints(r.folder).back() == r.checkpoint(row.saved + 1));
    CHECK(logged_steps(r.folder) == row.saved + 1);
    CHECK_NOTHROW(train::TrainedRun<float, B>(r.folder));  // and it can be used as it is
    r.goes_on();
  }
  train::interrupted() = true;  // before there is anything to save
  Run r;
  CHECK(holds(r.go(false, -1), "stopped on request"));
  train::interrupted() = false;
  CHECK(train::list_checkpoints(r.folder).empty());
}

#ifdef HYBRIDMED_PROGRAM
namespace {

/// The program as a process, its standard error in a file.
struct Process {
  pid_t id = -1;
  fs::path errors;
  Process(const std::string& command, fs::path errors_to, const fs::path& output = "/dev/null")
      : errors(std::move(errors_to)) {
    const std::string line =
        "exec " + command + " >'" + output.string() + "' 2>'" + errors.string() + "'";
    id = ::fork();
    if (id != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that is killed leaves no trainer behind
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  int exit_code() {
    int status = 0;
    ::waitpid(std::exchange(id, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  bool running() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(id), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }
  std::string said() const { return fs::exists(errors) ? io::read_text(errors) : ""; }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (id > 0) {
      ::kill(id, SIGKILL);
      exit_code();
    }
  }
};
std::string in_quotes(const fs::path& p) { return "'" + p.string() + "'"; }
int finish(const std::string& command, const fs::path& errors,
           const fs::path& output = "/dev/null") {
  return Process(command, errors, output).exit_code();
}

}  // namespace

TEST_CASE(
    "Ctrl-C in the program: it ends with 130 and a command that goes on to the undisturbed "
    "result") {
  const std::string program = HYBRIDMED_PROGRAM;
  if (!fs::exists(program)) {
    MESSAGE("skipped: ", program, " is not built");
    return;
  }
  for (const std::string name :
       {"run", "a run"}) {  // the command that is printed also works for a name with a space
    INFO(name);
    Run r;
    auto c = r.config;
    c.epochs_stage1 = 1000000;
    c.checkpoint_every = 0;
    write_bytes(r.scratch.path / "config.json", io::to_json(c).dump());
    const fs::path run = r.scratch.path / name, whole = r.scratch.path / "whole",
                   errors = r.scratch.path / "errors.txt";
    const auto train = [&](const fs::path& to) {
      return in_quotes(program) + " --threads 1 pretrain --config " +
             in_quotes(r.scratch.path / "config.json") + " --run " + in_quotes(to);
    };
    {
      Process p(train(run), errors);
      for (int i = 0; i < 6000 && p.running() && logged_steps(run) < 2; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      REQUIRE_MESSAGE(p.running(), p.said());
      ::kill(p.id, SIGINT);
      CHECK(p.exit_code() == 130);
    }
    const std::string said = io::read_text(errors);
    std::smatch command;
    REQUIRE_MESSAGE(
        std::regex_search(said, command,
                          std::regex("stopped after step ([0-9]+), saved in .*; go on with: "
                                     "hybridmed (pretrain --run [^\n]+ --resume --threads 1)\n")),
        said);
    const std::int64_t step = std::stoll(command[1]);
    CHECK(train::list_checkpoints(run).back().filename() == train::checkpoint_name(step));
    const std::string limit = " --stop-after " + std::to_string(step + 2);
    const int code = finish(in_quotes(program) + " " + command[2].str() + limit, errors);
    CHECK_MESSAGE(code == 130, "the command '", command[2].str(), "' ended with ", code, ": ",
                  io::read_text(errors));
    if (code != 130) continue;
    CHECK(finish(train(whole) + limit, errors) == 130);
    const fs::path last = fs::path("checkpoints") / train::checkpoint_name(step + 2);
    CHECK(fs::exists(whole / last));
    nothing_changed(snapshot(whole / last), snapshot(run / last));
    CHECK(io::read_text(whole / "log.jsonl") == io::read_text(run / "log.jsonl"));
  }
}

TEST_CASE("the program reports an error on standard error and ends with 1") {
  const std::string program = HYBRIDMED_PROGRAM;
  if (!fs::exists(program)) {
    MESSAGE("skipped: ", program, " is not built");
    return;
  }
  const ScratchFolder f;
  write_bytes(f.path / "config.json", R"({"batsh": 8})");
  CHECK(finish(in_quotes(program) + " pretrain --config " + in_quotes(f.path / "config.json") +
                   " --run " + in_quotes(f.path / "run"),
               f.path / "errors.txt") == 1);
  const std::string said = io::read_text(f.path / "errors.txt");
  CHECK_MESSAGE(said.starts_with("error: "), said);
  check_error(said.substr(said.find('[')), f.path / "config.json",
              {"'batsh'", "unknown key", "'batch'"});
  CHECK(!fs::exists(f.path / "run"));

  // What was printed and did not arrive is not a success.
  CHECK(finish(in_quotes(program) + " check --data " + in_quotes(corpus().data),
               f.path / "errors.txt", "/dev/full") == 1);
  CHECK(holds(io::read_text(f.path / "errors.txt"), "standard output cannot be written"));
  CHECK(finish(in_quotes(program) + " pretrain --config " + in_quotes(f.path / "config.json") +
                   " --run ''",
               f.path / "errors.txt") != 0);
  CHECK(holds(io::read_text(f.path / "errors.txt"), "--run"));
  // A configuration tells `check` how the table is named.
  const fs::path data = f.path / "data";
  fs::copy(corpus().data, data, fs::copy_options::recursive);
  fs::rename(data / "studies.csv", data / "reports.csv");
  write_bytes(f.path / "names.json", R"({"table": "reports.csv"})");
  CHECK(finish(in_quotes(program) + " check --data " + in_quotes(data), f.path / "errors.txt",
               f.path / "report.txt") == 0);
  CHECK(holds(io::read_text(f.path / "report.txt"),
              "no studies.csv"));  // labelled images without reports are a data folder too
  CHECK(finish(in_quotes(program) + " check --data " + in_quotes(data) + " --config " +
                   in_quotes(f.path / "names.json"),
               f.path / "errors.txt") == 0);

  // An id that a split lists and the table lacks is reported; a damaged picture is an error.
  const std::string check = in_quotes(program) + " check --data " + in_quotes(data) + " --config " +
                            in_quotes(f.path / "names.json");
  write_bytes(data / "splits" / "valid.txt",
              io::read_text(data / "splits" / "valid.txt") + "nobody\n");
  CHECK(finish(check, f.path / "errors.txt", f.path / "report.txt") == 0);
  CHECK(holds(io::read_text(f.path / "report.txt"),
              "study 'nobody': listed in splits/valid.txt, but not in the table"));
  write_bytes(data / "images" / "phantom3.png", "not a picture");
  CHECK(finish(check, f.path / "errors.txt", f.path / "report.txt") == 1);
  CHECK(says(io::read_text(f.path / "report.txt"),
             "line [0-9]+, study 'phantom3': .*phantom3\\.png"));

  // Of several pictures, the damaged one is left out and named.
  const std::string of_run = " --run " + in_quotes(corpus().whole);
  std::string pictures;
  for (int i : {1, 2, 3, 4})
    pictures += " " + in_quotes(data / "images" / ("phantom" + std::to_string(i) + ".png"));
  for (const std::string command : {"caption", "embed"}) {
    INFO(command);
    CHECK(finish(in_quotes(program) + " " + command + of_run + pictures, f.path / "errors.txt",
                 f.path / "out.txt") == 1);
    CHECK(holds(io::read_text(f.path / "errors.txt"), "phantom3.png"));
    const std::string out = io::read_text(f.path / "out.txt");
    for (int i : {1, 2, 4}) CHECK(holds(out, "phantom" + std::to_string(i) + ".png"));
    CHECK(!holds(out, "phantom3.png"));
  }
}
#endif

// ---------------------------------------------------------------- data

TEST_CASE(
    "a picture that is missing or damaged in the middle of a run: named, nothing lost, and on it "
    "goes once it is back") {
  struct Row {
    std::string name;
    std::function<void(const fs::path&)> damage;
    std::vector<std::string> patterns;
  };
  const auto valid = *ids_of("valid").begin();
  for (const Row& row :
       {Row{"missing", [](const fs::path& p) { fs::remove(p); }, {"No such file"}},
        {"cut", [](const fs::path& p) { fs::resize_file(p, 200); }, {"ends|[Pp]remature"}},
        {"no picture",
         [](const fs::path& p) { write_bytes(p, "notes"); },
         {"neither PNG nor JPEG"}}}) {
    INFO(row.name);
    Run r;
    fs::copy(corpus().data, r.scratch.path / "data", fs::copy_options::recursive);
    r.start(8);  // the next step ends the epoch: every validation picture is read
    r.config.data = (r.scratch.path / "data").string();
    row.damage(r.scratch.path / "data" / "images" / (valid + ".png"));
    const Snapshot before = r.saved();
    auto patterns = row.patterns;
    patterns.push_back("\\b" + valid + "\\b(?!\\.png)");
    patterns.push_back("line [0-9]+");
    check_error(r.go(true, -1), r.scratch.path / "data" / "images" / (valid + ".png"), patterns);
    nothing_changed(before, r.saved());
    r.goes_on();
  }
}

TEST_CASE("a table that training cannot use") {
  struct Row {
    std::string name, table;
    std::vector<std::string> patterns;
  };
  const std::string header = "study_id,split,frontal_images,findings,impression\n";
  std::string empty = header, unsplit = "study_id,frontal_images,findings,impression\n",
              no_valid = header;
  for (int i = 0; i < 20; ++i) {
    const std::string n = std::to_string(i);
    empty += "s" + n + (i % 2 ? ",train," : ",valid,") + n + ".png,,\n";
    unsplit += "s" + n + "," + n + ".png,Clear.,Normal.\n";
    no_valid += "s" + n + ",train," + n + ".png,Clear.,Normal.\n";
  }
  for (const Row& row :
       {Row{"every report is empty",
            empty,
            {"'train'", "no study", "neither findings nor impression|empty"}},
        {"no split column and no splits/: training and validation would be the same studies",
         unsplit,
         {"studies\\.csv", "'split'", "missing"}},
        {"no validation studies", no_valid, {"studies\\.csv", "'valid'", "no row"}}}) {
    INFO(row.name);
    Run r;
    const fs::path data = r.scratch.path / "data";
    write_bytes(data / "studies.csv", row.table);
    for (int i = 0; i < 20; ++i) {
      fs::create_directories(data / "images");
      fs::copy_file(corpus().data / "images" / "phantom0.png",
                    data / "images" / (std::to_string(i) + ".png"));
    }
    r.config.data = data.string();
    check_error(r.go(false, 1), data, row.patterns);
    CHECK(!fs::exists(r.folder));
  }
}

TEST_CASE("an empty report: training leaves it out and says which, where and why") {
  Run r;
  const fs::path data = r.scratch.path / "data";
  fs::copy(corpus().data, data, fs::copy_options::recursive);
  std::string table = io::read_text(data / "studies.csv");
  const auto row = table.find("phantom3,train,phantom3.png");
  REQUIRE(row != table.npos);
  const auto line =
      1 + std::count(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(row), '\n');
  table.replace(row, table.find('\n', row) - row, "phantom3,train,phantom3.png,,0,0,,");
  write_bytes(data / "studies.csv", table);
  r.config.data = data.string();
  std::string said;
  {
    Listening ear(r.scratch.path / "printed.txt");
    Trainer t(r.config, {r.folder, false, {}, 1});
    said = t.describe();
    CHECK_FALSE(t.run());
    said += ear.text();
  }
  CHECK(says(said, "\\b" + std::to_string(ids_of("train").size() - 1) + " training"));
  for (const std::string& p :
       {std::string("studies\\.csv"), "line " + std::to_string(line) + "\\b",
        std::string("phantom3\\b"), std::string("neither findings nor impression")})
    CHECK_MESSAGE(says(said, p), p, " is not said: ", said);
}
