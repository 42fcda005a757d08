#pragma once
// Weights of a model to and from safetensors, by parameter name.
#include "hybridmed/io/safetensors.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::io {

/// What a load did: names in the model's order, or the file's for `unexpected`.
struct LoadReport {
  std::vector<std::string> loaded, missing, unexpected, mismatched;
  bool complete() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
};

/// Copies every tensor of the file whose name and shape fit a parameter or buffer of `model`; any float type is converted.
/// With `only_compare` nothing is copied: the report says what would be.
template <class M>
LoadReport load_weights(M& model, const Safetensors& file, const std::string& prefix = {}, bool only_compare = false) {
  LoadReport report;
  std::map<std::string, bool> used;
  const auto load = [&]<class T, class B>(const std::string& name, Tensor<T, B>& target) {
    const StoredTensor* t = file.find(prefix + name);
    if (!t) return report.missing.push_back(name);
    used[prefix + name] = true;
    Shape shape;
    bool fits = t->shape.size() <= static_cast<std::size_t>(Shape::max_rank);
    if (fits)
      for (Index e : t->shape) shape.push_back(e);
    std::string got = "(";
    for (std::size_t i = 0; i < t->shape.size(); ++i) got += (i ? ", " : "") + std::to_string(t->shape[i]);
    if (!fits || !(shape == target.shape())) return report.mismatched.push_back(name + ": expected " + target.shape().str() + ", got " + got + ")");
    report.loaded.push_back(name);
    if (only_compare) return;
    std::vector<T> values(static_cast<std::size_t>(t->size()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(t->at(static_cast<Index>(i)));
    target = Tensor<T, B>::from_host(values, shape);
  };
  nn::for_each_state(
      model, [&](const std::string& n, auto& p) { load(n, p.value); }, [&](const std::string& n, auto& b) { load(n, b.value); });
  for (const auto& [name, t] : file.tensors())
    if (name.starts_with(prefix) && !used.count(name)) report.unexpected.push_back(name);
  return report;
}

/// Adds every parameter and buffer to the writer, names prefixed.
template <class M>
void add_weights(SafetensorsWriter& w, M& model, const std::string& prefix = {}) {
  nn::for_each_state(
      model, [&](const std::string& n, auto& p) { w.add(prefix + n, p.value); }, [&](const std::string& n, auto& b) { w.add(prefix + n, b.value); });
}

}  // namespace hybridmed::io
