#pragma once
// What a person watches: one progress line with rate and time left; plain lines now and then when
// piped.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

namespace hybridmed::train {

/// 75 -> "1:15", 3700 -> "1:01:40".
inline std::string clock_text(double seconds) {
  const auto s = static_cast<long long>(seconds + 0.5);
  char text[48];
  if (s >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", s / 60, s % 60);
  return text;
}

/// Of 12.3: "12.3 samples/s"; of slow work the time of one: "8.0 s a sample"; "-- samples/s" where
/// nothing is known yet. `unit`: plural.
inline std::string rate_text(double rate, const std::string& unit) {
  char text[64];
  if (!(rate > 0)) return "-- " + unit + "/s";
  const std::string one = unit == "studies"     ? "study"
                          : unit.ends_with('s') ? unit.substr(0, unit.size() - 1)
                                                : unit;
  if (rate >= 1)
    std::snprintf(text, sizeof text, "%.1f %s/s", rate, unit.c_str());
  else if (rate > 1.0 / 120)
    std::snprintf(text, sizeof text, "%.1f s a %s", 1 / rate, one.c_str());
  else
    std::snprintf(text, sizeof text, "%.0f min a %s", 1 / rate / 60, one.c_str());
  return text;
}

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

class ProgressLine {
 public:
  explicit ProgressLine(std::FILE* out = stderr)
      : out_(out), terminal_(::isatty(::fileno(out)) == 1), start_(now()) {}
  ~ProgressLine() { finish(); }
  /// Rates count from here on.
  void restart() {
    finish();
    first_ = -1;
    last_ = -1e9;
  }

  /// `done` of `total` units of `unit`; `detail` follows. The rate is of this process alone, so it
  /// is right after a resume.
  void update(const std::string& title, double done, double total, const std::string& unit,
              const std::string& detail, bool force = false) {
    const double t = now();
    if (first_ < 0) {
      first_ = done;
      start_ = t;
    }
    if (!force && t - last_ < (terminal_ ? 0.1 : 15.0)) return;
    last_ = t;
    const double rate = t > start_ ? (done - first_) / (t - start_) : 0;
    char numbers[128];
    std::snprintf(numbers, sizeof numbers, " %3.0f%%  %s  ETA %s  ",
                  total > 0 ? 100 * done / total : 100.0, rate_text(rate, unit).c_str(),
                  rate > 0 ? clock_text((total - done) / rate).c_str() : "--");
    std::fprintf(out_, terminal_ ? "\r\033[K%s%s%s" : "%s%s%s\n", title.c_str(), numbers,
                 detail.c_str());
    std::fflush(out_);
    open_ = terminal_;
  }
  /// Ends the line, so that other text can follow.
  void finish() {
    if (open_) std::fputc('\n', out_);
    open_ = false;
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  std::FILE* out_;
  bool terminal_, open_ = false;
  double start_, last_ = -1e9, first_ = -1;
};

}  // namespace hybridmed::train
