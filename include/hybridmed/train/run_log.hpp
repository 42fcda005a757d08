#pragma once
// The logs of a run: JSONL (one object a line) and CSV with the same numbers. They hold no clock
// readings, so that a resumed run writes the same bytes as an uninterrupted one.
#include "hybridmed/io/json.hpp"
#include "hybridmed/system/system.hpp"
#include "hybridmed/train/checkpoint.hpp"

namespace hybridmed::train {

/// Losses with their names; NaN where a term of weight 0 was not computed.
using LossValues = std::vector<std::pair<std::string, double>>;

/// Adds those of a training step, and their total, to the sums of its epoch.
inline void add_to_sums(Progress& p, const LossValues& losses, double total) {
  for (std::size_t i = 0; i < losses.size(); ++i)
    if (!std::isnan(losses[i].second)) p.sums[i] += losses[i].second;
  p.sums[losses.size()] += total;
}

/// One line of the log.
inline io::Json log_row(const char* kind, const Progress& p, std::int64_t epoch, std::int64_t step,
                        double total) {
  return {{"kind", kind}, {"stage", p.stage}, {"epoch", epoch}, {"step", step}, {"total", total}};
}

/// Adds what was computed to a row, and gives it back as text, a gap before each: " a 0.1234
/// b 2.3456".
inline std::string add_losses(io::Json& row, const LossValues& losses, const std::string& gap,
                              int digits) {
  std::string text;
  for (const auto& [name, v] : losses) {
    if (std::isnan(v)) continue;
    row[name] = v;
    char part[32];
    std::snprintf(part, sizeof part, " %.*f", digits, v);
    text += gap + name + part;
  }
  return text;
}

class RunLog {
 public:
  /// Continues the logs at the recorded lengths: what a killed run wrote after its last checkpoint
  /// is cut off. The table has a column for every loss of the stages, those of the last first.
  RunLog(const std::filesystem::path& run, const Progress& p,
         const std::vector<system::Stage>& stages)
      : jsonl_(run / "log.jsonl"), csv_(run / "log.csv"), columns_{"kind", "stage", "epoch",
                                                                   "step", "lr",    "total"} {
    for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage)
      for (const auto& loss : stage->losses)
        if (std::find(columns_.begin(), columns_.end(), loss.name) == columns_.end())
          columns_.push_back(loss.name);
    columns_.push_back("grad_norm");
    cut(jsonl_, p.log_bytes);
    cut(csv_, p.csv_bytes);
    std::string header;
    for (const auto& c : columns_) header += (header.empty() ? "" : ",") + c;
    if (p.csv_bytes == 0) append(csv_, header + "\n");
    need_header(header);
  }
  void write(const io::Json& row) {
    append(jsonl_, row.dump() + "\n");
    std::string line;
    for (const auto& c : columns_) {
      if (c != columns_[0]) line += ",";
      if (row.contains(c)) line += row[c].is_string() ? row[c].get<std::string>() : row[c].dump();
    }
    append(csv_, line + "\n");
  }
  /// What a checkpoint says of the logs must be on the disk before the checkpoint is.
  void record_lengths(Progress& p) const {
    io::sync_path(jsonl_);
    io::sync_path(csv_);
    p.log_bytes = std::filesystem::file_size(jsonl_);
    p.csv_bytes = std::filesystem::file_size(csv_);
  }

 private:
  static void cut(const std::filesystem::path& path, std::uint64_t bytes) {
    std::error_code ec;
    const bool there = std::filesystem::exists(path);
    if (!there && bytes > 0)
      fail("train", "log", path.string() + ": it is missing, and a resumed run goes on with it",
           "give it back, or start a new run with --init and the weights of the newest checkpoint");
    if (!there) io::write_text_atomically(path, "");
    if (const auto now = std::filesystem::file_size(path); now < bytes)
      fail("train", "log",
           path.string() + ": " + std::to_string(now) + " bytes, where the checkpoint has " +
               std::to_string(bytes) + ": something has cut it",
           "give back the whole file, or start a new run with --init and the weights of the newest "
           "checkpoint");
    std::filesystem::resize_file(path, bytes, ec);
    if (ec) fail("train", "log", path.string() + ": " + ec.message());
  }
  /// @throws Error where the run was begun with other losses.
  void need_header(const std::string& expected) const {
    std::string header;
    std::ifstream in(csv_);
    std::getline(in, header);
    if (header != expected)
      fail("train", "log",
           csv_.string() + ": expected the columns " + expected + ", got " + header.substr(0, 300),
           "a resumed run keeps its losses; for others start a new run, with --init for the "
           "weights");
  }
  static void append(const std::filesystem::path& path, const std::string& text) {
    std::ofstream out(path, std::ios::app | std::ios::binary);
    out << text;
    out.flush();
    if (!out) fail("train", "log", path.string() + ": " + std::strerror(errno));
  }
  std::filesystem::path jsonl_, csv_;
  std::vector<std::string> columns_;
};

}  // namespace hybridmed::train
