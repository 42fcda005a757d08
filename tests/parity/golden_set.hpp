#pragma once
// Golden sets of tests/reference: how they store tensors, and their batch.
#include <cmath>
#include <string>
#include <vector>

#include "hybridmed/core/sections.hpp"
#include "hybridmed/io/config.hpp"
#include "hybridmed/io/weights.hpp"
#include "hybridmed/model/config.hpp"

namespace hybridmed::golden {

/// A whole tensor of ours in the reference's layout; entries that are not valid are not compared.
struct Mine {
  std::vector<double> data;
  std::vector<char> valid;
};

/// The entries that a set with a stride stores.
inline Mine every(const Mine& whole, Index stride) {
  Mine m;
  for (std::size_t i = 0; i < whole.data.size(); i += static_cast<std::size_t>(stride)) {
    m.data.push_back(whole.data[i]);
    if (!whole.valid.empty()) m.valid.push_back(whole.valid[i]);
  }
  return m;
}

/// Largest error of `mine` over the tensor's largest reference entry; NaN counts as infinite.
inline double error_of(const std::vector<double>& want, const Mine& mine, bool is_double) {
  double diff = 0, top = 0, own = 0;
  for (std::size_t i = 0; i < mine.data.size(); ++i) {
    if (!mine.valid.empty() && !mine.valid[i]) continue;
    const double b = want[i], a = mine.data[i], e = std::abs(a - b);
    diff = std::isnan(e) ? INFINITY : std::max(diff, e);
    top = std::max(top, std::abs(b));
    own = std::max(own, std::abs(a));
  }
  if (top < 1e-12) return own <= (is_double ? 1e-9 : 1e-5) ? 0 : INFINITY;
  return diff / top;
}

/// A tensor that a set stores: its entries, and how many of the whole lie between two of them.
struct Stored {
  std::vector<double> data;
  Index stride = 1;
};
inline std::string metadata(const io::Safetensors& set, const std::string& key) {
  const auto it = set.metadata().find(key);
  return it == set.metadata().end() ? std::string() : it->second;
}
inline Stored stored(const io::Safetensors& set, const std::string& name) {
  Stored out;
  const auto& t = set.at(name);
  for (Index i = 0; i < t.size(); ++i) out.data.push_back(t.at(i));
  const std::string stride = metadata(set, "stride:" + name);
  if (!stride.empty()) out.stride = std::stoll(stride);
  return out;
}

/// Error of a whole tensor's sum and length, which a set stores beside its entries; 0 where it does
/// not.
inline double summary_error(const io::Safetensors& set, const std::string& name,
                            const std::vector<double>& whole) {
  if (metadata(set, "sum:" + name).empty()) return 0;
  double sum = 0, square = 0;
  for (double x : whole) {
    sum += x;
    square += x * x;
  }
  const double l2 = std::stod(metadata(set, "l2:" + name)), n = static_cast<double>(whole.size());
  if (!std::isfinite(square)) return INFINITY;
  if (!(l2 > 1e-12)) return 0;
  return std::max(std::abs(sum - std::stod(metadata(set, "sum:" + name))) / (l2 * std::sqrt(n)),
                  std::abs(std::sqrt(square) - l2) / l2);
}

/// Loads every weight of a model from several files, the later ones first asked.
/// @throws Error where one is missing or does not fit.
template <class M>
void load_all(M& model, const std::vector<std::filesystem::path>& files) {
  std::set<std::string> absent;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto report = io::load_weights(model, io::Safetensors::read(files[i]));
    if (i == 0) absent.insert(report.missing.begin(), report.missing.end());
    for (const auto& name : report.loaded) absent.erase(name);
    if (!report.mismatched.empty())
      fail("golden", "weights", files[i].string() + ": " + report.mismatched[0]);
    if (files.size() == 1 && !report.unexpected.empty())
      fail("golden", "weights", files[i].string() + ": unexpected " + report.unexpected[0]);
  }
  if (!absent.empty()) fail("golden", "weights", "missing " + *absent.begin());
}

/// One section of every sample of a set.
struct Section {
  std::vector<std::int32_t> ids, offsets;
  SectionView view() const { return {ids, offsets}; }
};

/// Configuration and batch of a set.
struct GoldenSet {
  model::Config config;
  Section findings, impression;
  std::vector<std::int32_t> keys;

  explicit GoldenSet(const std::filesystem::path& dir)
      : batch_(io::Safetensors::read(dir / "batch.safetensors")) {
    const auto file = dir / "config.json";
    io::from_json(io::read_json(file), config, file.string(), true);
    config.validate();
    findings = section("findings", "has_findings");
    impression = section("impression", "has_impression");
    const auto& key = batch_.at("impression_key");
    for (Index i = 0; i < key.size(); ++i) keys.push_back(static_cast<std::int32_t>(key.at(i)));
  }
  /// (B, 3, S, S)
  template <class T, class B>
  Tensor<T, B> image() const {
    const auto& stored = batch_.at("image");
    std::vector<T> pixels;
    for (Index i = 0; i < stored.size(); ++i) pixels.push_back(static_cast<T>(stored.at(i)));
    Shape s;
    for (Index e : stored.shape) s.push_back(e);
    return Tensor<T, B>::from_host(pixels, s);
  }

 private:
  Section section(const char* name, const char* flag) const {
    const auto &t = batch_.at(name), &has = batch_.at(flag);
    const Index rows = t.shape.at(0), length = t.shape.at(1);
    Section s{{}, {0}};
    for (Index b = 0; b < rows; ++b) {
      for (Index i = 0;
           i < length && has.at(b) != 0 && static_cast<Index>(t.at(b * length + i)) != config.pad;
           ++i)
        s.ids.push_back(static_cast<std::int32_t>(t.at(b * length + i)));
      s.offsets.push_back(static_cast<std::int32_t>(s.ids.size()));
    }
    return s;
  }
  io::Safetensors batch_;
};

}  // namespace hybridmed::golden
