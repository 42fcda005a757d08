#pragma once
// What a sequence of kernels moves and computes, the least that it could move, and how long a
// device would take for it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace hybridmed::roofline {

/// Which other kernels one could share a pass with.
enum class Pass {
  product,    ///< its result may be finished where it is made: bias, activation, sum
  elements,   ///< element by element, in or out of any pass over the same elements
  rows,       ///< whole rows at a time: what is done element by element may be part of it
  attention,  ///< nothing but itself
  loss,
  index,
  update
};

/// Numbers that lie together in device memory.
struct Span {
  std::uintptr_t first = 0;
  double bytes = 0;
};

/// A kernel, or several that always come together.
struct Entry {
  std::string_view kind;
  Pass pass = Pass::elements;
  int launches = 1;
  std::vector<Span> reads, writes;  ///< each input and output, once
  double scratch = 0;  ///< bytes of scratch memory, written by one kernel and read by a later one
  double twice = 0;    ///< bytes that a later kernel of the call reads once more
  double again = 0;    ///< bytes that one kernel reads again when they may have left the caches
  double flops = 0;
  bool tensor_cores = false;  ///< of 16-bit operands
  bool library = false;       ///< moved by a library or the driver, by no kernel of this project

  double read() const { return total(reads) + scratch / 2 + twice + again; }
  double written() const { return total(writes) + scratch / 2; }
  double moved() const { return read() + written(); }
  /// What each launch touches, each byte once.
  double touched() const { return moved() - again; }

 private:
  static double total(const std::vector<Span>& spans) {
    double n = 0;
    for (const Span& s : spans) n += s.bytes;
    return n;
  }
};

/// What a device can do.
struct Device {
  std::string_view name;
  double bytes_per_s, half_flops, float_flops;
};
inline constexpr Device devices[] = {{"H100", 3.35e12, 990e12, 67e12},
                                     {"H200", 4.8e12, 990e12, 67e12}};

class Ledger {
 public:
  void add(Entry e) { entries_.push_back(std::move(e)); }
  void clear() { entries_.clear(); }
  const std::vector<Entry>& entries() const { return entries_; }

  /// Of one kind of kernels.
  struct Row {
    int launches = 0;
    double read = 0, written = 0, least = 0, flops = 0;
    bool product = false;
    std::vector<double> seconds = std::vector<double>(std::size(devices), 0.0);
    double moved() const { return read + written; }
  };

  /// By kind.
  std::map<std::string_view, Row> table() const {
    std::map<std::string_view, Row> rows;
    const std::vector<double> least = least_bytes();
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Entry& e = entries_[i];
      Row& row = rows[e.kind];
      row.launches += e.launches;
      row.read += e.read();
      row.written += e.written();
      row.least += least[i];
      row.flops += e.flops;
      row.product = e.pass == Pass::product;
      for (std::size_t d = 0; d < std::size(devices); ++d) row.seconds[d] += seconds(e, devices[d]);
    }
    return rows;
  }

  /// What is slower of moving and computing.
  static double seconds(const Entry& e, const Device& d) {
    const double moving = e.moved() / d.bytes_per_s,
                 computing = e.flops / (e.tensor_cores ? d.half_flops : d.float_flops);
    return (std::max)(moving, computing);
  }

 private:
  /// Can what `later` does with a result of `earlier` be done in one pass with it?
  static bool one_pass(const Entry& earlier, const Entry& later) {
    const auto any = [](Pass p) { return p == Pass::elements || p == Pass::rows; };
    if (earlier.pass == Pass::product) return later.pass == Pass::elements;
    if (earlier.pass == Pass::elements) return any(later.pass);
    return earlier.pass == Pass::rows && later.pass == Pass::elements;
  }

  /// Each entry's inputs and outputs, once, without those that one pass with the kernel before
  /// would keep in registers: an input that was just made (by a kernel that this one could share a
  /// pass with) is not read, and an output that only such kernels read is not written. A gradient
  /// that the norm has read is in the cache of nobody, but the update of clip, AdamW and copy
  /// counts as one group, so it is read once.
  std::vector<double> least_bytes() const {
    struct Made {
      std::size_t by;
      double bytes;
      bool needed = false;  // read by a kernel that cannot share the pass
      bool read = false;
    };
    std::map<std::uintptr_t, Made> made;
    std::vector<double> least(entries_.size(), 0.0);
    std::set<std::uintptr_t> in_update;
    const auto settle = [&](const Made& m) {
      if (!m.needed && m.read) least[m.by] -= m.bytes;
    };
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Entry& e = entries_[i];
      for (const Span& s : e.reads) {
        const auto it = made.find(s.first);
        const bool fused =
            it != made.end() && one_pass(entries_[it->second.by], e) && near(it->second.by, i);
        if (it != made.end()) {
          it->second.read = true;
          it->second.needed = it->second.needed || !fused;
        }
        if (fused) continue;
        if (e.pass == Pass::update && !in_update.insert(s.first).second) continue;
        least[i] += s.bytes;
      }
      for (const Span& s : e.writes) {
        least[i] += s.bytes;
        if (const auto it = made.find(s.first); it != made.end()) settle(it->second);
        made[s.first] = {i, s.bytes};
      }
    }
    for (const auto& [first, m] : made) settle(m);
    return least;
  }
  /// Kernels a few apart: what lies between them belongs to other branches of the same layer.
  static bool near(std::size_t earlier, std::size_t later) { return later - earlier <= 4; }

  std::vector<Entry> entries_;
};

}  // namespace hybridmed::roofline
