#pragma once
// Checkpoints: one folder per step, written under a temporary name, synced, then renamed, so that a
// folder with its final name is always whole. Weights and optimizer moments are safetensors, the
// rest is JSON; checksums.json guards them all.
#include "hybridmed/io/checksum.hpp"
#include "hybridmed/io/weights.hpp"
#include "hybridmed/optim/adamw.hpp"

namespace hybridmed::train {

/// Where a run stands; with weights and moments this is all that a resumed run needs.
struct Progress {
  int stage = 1;
  std::int64_t step = 0;              // of the whole run
  std::int64_t stage_step = 0;        // optimizer steps of this stage
  std::int64_t epoch = 0, batch = 0;  // next batch
  double best = 0;                    // best validation loss of this stage
  std::int64_t best_epoch = -1, bad_epochs = 0;
  bool finished = false;
  std::vector<double> sums;  // of this epoch's training losses
  std::uint64_t log_bytes = 0, csv_bytes = 0;
  std::uint64_t data = 0;        // hash of the studies
  std::uint64_t vocabulary = 0;  // hash of vocab.txt

  void begin_stage(int number) {
    stage = number;
    stage_step = epoch = batch = 0;
    best = 0;
    best_epoch = -1;
    bad_epochs = 0;
    sums.clear();
  }
  void count_step() {
    ++step;
    ++stage_step;
    ++batch;
  }
  /// Of a validated epoch.
  void note(bool better, double loss) {
    bad_epochs = better ? 0 : bad_epochs + 1;
    if (!better) return;
    best = loss;
    best_epoch = epoch;
  }

  template <class F>
  void visit(F&& f) {
    f("stage", stage);
    f("step", step);
    f("stage_step", stage_step);
    f("epoch", epoch);
    f("batch", batch);
    f("best", best);
    f("best_epoch", best_epoch);
    f("bad_epochs", bad_epochs);
    f("finished", finished);
    f("sums", sums);
    f("log_bytes", log_bytes);
    f("csv_bytes", csv_bytes);
    f("data", data);
    f("vocabulary", vocabulary);
  }
};

/// Writes a folder whole: `fill(temporary)` writes the files, then everything is synced and renamed
/// over `target`.
template <class F>
void write_folder(const std::filesystem::path& target, F&& fill) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const fs::path temporary = target.parent_path() / (".writing-" + target.filename().string());
  fs::remove_all(temporary, ec);
  if (!fs::create_directories(temporary, ec))
    fail("train", "checkpoint", temporary.string() + ": " + ec.message());
  try {
    fill(temporary);
    io::write_checksums(temporary);
    io::sync_path(temporary);
  } catch (...) {
    fs::remove_all(temporary, ec);  // the previous checkpoint stays as it is
    throw;
  }
  // A folder of that name is exchanged with the new one: at every moment there is a whole one.
  if (fs::exists(target, ec) && io::exchange(temporary, target)) {
    io::sync_path(target.parent_path());
    fs::remove_all(temporary, ec);
    return;
  }
  fs::remove_all(target, ec);
  fs::rename(temporary, target, ec);
  if (ec) fail("train", "checkpoint", target.string() + ": " + ec.message());
  io::sync_path(target.parent_path());
}

inline std::string checkpoint_name(std::int64_t step) {
  std::string n = std::to_string(step);
  return "step-" + std::string(n.size() < 8 ? 8 - n.size() : 0, '0') + n;
}

/// Is this `prefix` and digits: "step-00000012"?
inline bool is_numbered(const std::string& name, const std::string& prefix) {
  return name.starts_with(prefix) && name.size() > prefix.size() &&
         name.find_first_not_of("0123456789", prefix.size()) == name.npos;
}

/// Step folders of a run, oldest first. A copy that somebody named otherwise is none.
inline std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& run) {
  std::vector<std::filesystem::path> out;
  std::error_code ec;
  for (const auto& e : std::filesystem::directory_iterator(run / "checkpoints", ec))
    if (e.is_directory() && is_numbered(e.path().filename().string(), "step-"))
      out.push_back(e.path());
  std::sort(out.begin(), out.end());
  return out;
}

/// The weights file that best-stageN.json names, or, where that file is lost, the newest of that
/// stage; empty where the run has none yet.
/// @throws Error where it names anything but a folder of this run and stage.
inline std::filesystem::path best_weights(const std::filesystem::path& run, int stage) {
  const std::string name = "best-stage" + std::to_string(stage);
  const auto file = run / (name + ".json");
  std::error_code ec;
  if (!std::filesystem::exists(file, ec)) {
    std::filesystem::path newest;
    for (const auto& e : std::filesystem::directory_iterator(run, ec))
      if (is_numbered(e.path().filename().string(), name + "-step-"))
        newest = (std::max)(newest, e.path());
    return newest.empty() ? newest : newest / "model.safetensors";
  }
  const auto folder = io::get<std::string>(io::read_json(file), "folder", file.string());
  if (!is_numbered(folder, name + "-step-"))
    fail("train", "run",
         file.string() + ": the key 'folder': expected " + name + "-step- and a number, got '" +
             folder + "'");
  return run / folder / "model.safetensors";
}

/// `metadata`: what the weights belong to, kept in the file's header.
template <class M>
void save_model(const std::filesystem::path& file, M& m,
                const std::map<std::string, std::string>& metadata = {}) {
  io::SafetensorsWriter w;
  for (const auto& [key, text] : metadata) w.metadata(key, text);
  io::add_weights(w, m);
  w.write(file);
}

/// Loads weights that must cover the whole model. `checksum`: of what was read. Tensors that the
/// model has no use for are in the report, and no error.
/// @throws Error where a weight is missing, has another shape or type, is no finite number, or the
/// file is damaged; the model is then as it was.
template <class M>
io::LoadReport load_model(const io::Safetensors& stored, const std::filesystem::path& file,
                          const std::string& checksum, M& m) {
  const io::LoadReport r = io::load_weights(m, stored, {}, true);
  if (r.missing.empty() && r.mismatched.empty()) {
    io::verify_checksum(file, checksum);
    return io::load_weights(m, stored);
  }
  const auto list = [](const char* what, const std::vector<std::string>& names) {
    std::string s;
    for (std::size_t i = 0; i < names.size() && i < 5; ++i)
      s += (i ? ", " : std::string("; ") + std::to_string(names.size()) + " " + what + ": ") +
           names[i];
    return s + (names.size() > 5 ? ", ..." : "");
  };
  fail("train", "load",
       file.string() + ": the weights do not fit the model" + list("missing", r.missing) +
           list("unexpected", r.unexpected) + list("mismatched", r.mismatched));
}
template <class M>
io::LoadReport load_model(const std::filesystem::path& file, M& m) {
  const io::Safetensors stored = io::Safetensors::read(file);
  return load_model(stored, file, io::checksum_text(stored.bytes()), m);
}

template <class T, class B>
void save_optimizer(const std::filesystem::path& file, optim::AdamW<T, B>& o) {
  io::SafetensorsWriter w;
  w.metadata("steps", std::to_string(o.steps()));
  for (auto& e : o.entries()) {
    w.add("m." + e.name, e.m);
    w.add("v." + e.name, e.v);
  }
  w.write(file);
}
template <class T, class B>
void load_optimizer(const std::filesystem::path& file, optim::AdamW<T, B>& o) {
  const io::Safetensors f = io::Safetensors::read(file);
  for (auto& e : o.entries())
    for (const char* prefix : {"m.", "v."}) {
      const auto& s = f.at(prefix + e.name);
      const Shape& want = e.m.shape();
      bool same = static_cast<int>(s.shape.size()) == want.rank();
      std::string got;
      for (std::size_t i = 0; i < s.shape.size(); ++i) {
        same = same && s.shape[i] == want[static_cast<int>(i)];
        got += (i ? ", " : "") + std::to_string(s.shape[i]);
      }
      if (!s.is_float())
        fail("train", "load",
             file.string() + ": '" + prefix + e.name + "': expected floats, got " + s.type_name);
      if (!same)
        fail("train", "load",
             file.string() + ": '" + prefix + e.name + "': expected " + want.str() + ", got (" +
                 got + ")");
      for (Index i = 0; i < s.size(); ++i) {
        const double x = static_cast<double>(static_cast<T>(s.at(i)));
        const std::string at = ", at element " + std::to_string(i);
        if (!std::isfinite(x))
          fail(
              "train", "load",
              file.string() + ": '" + prefix + e.name + "' holds a number that is not finite" + at);
        if (x < 0 && prefix[0] == 'v')
          fail("train", "load",
               file.string() + ": '" + prefix + e.name +
                   "' is a mean of squares and holds a number below 0" + at);
      }
    }
  const auto it = f.metadata().find("steps");
  if (it == f.metadata().end() || it->second.find_first_not_of("0123456789") != it->second.npos ||
      it->second.empty() || it->second.size() > 18)
    fail("train", "load", file.string() + ": no step count in its metadata");
  io::verify_checksum(file, f.bytes());
  for (auto& e : o.entries())
    for (auto [prefix, t] : {std::pair{"m.", &e.m}, std::pair{"v.", &e.v}}) {
      const auto& s = f.at(prefix + e.name);
      std::vector<T> values(static_cast<std::size_t>(s.size()));
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<T>(s.at(static_cast<Index>(i)));
      *t = Tensor<T, B>::from_host(values, t->shape());
    }
  o.set_steps(std::stoll(it->second));
}

}  // namespace hybridmed::train
