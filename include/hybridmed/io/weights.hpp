#pragma once
// Weights of a model to and from safetensors, by parameter name.
#include <set>

#include "hybridmed/io/safetensors.hpp"
#include "hybridmed/nn/module.hpp"

namespace hybridmed::io {

/// What a load did: names in the model's order, or the file's for `unexpected`.
struct LoadReport {
  std::vector<std::string> loaded, missing, unexpected, mismatched;
  bool complete() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
};

namespace detail {

// Named visitors, not lambdas: a part that two models share is visited by one type.
struct LoadWeight {
  const Safetensors& file;
  const std::string& prefix;
  const bool only_compare;
  LoadReport report{};
  std::set<std::string> used{};

  void operator()(const std::string& name, auto& state) { load(name, state.value); }

  template <class T, class B>
  void load(const std::string& name, Tensor<T, B>& target) {
    const StoredTensor* t = file.find(prefix + name);
    if (!t) return report.missing.push_back(name);
    used.insert(prefix + name);
    Shape shape;
    const bool fits = t->shape.size() <= static_cast<std::size_t>(Shape::max_rank);
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
  }
};

struct AddWeight {
  SafetensorsWriter& writer;
  const std::string& prefix;
  void operator()(const std::string& name, auto& state) const { writer.add(prefix + name, state.value); }
};

}  // namespace detail

/// Copies every tensor of the file whose name and shape fit a parameter or buffer of `model`; any float type is converted.
/// With `only_compare` nothing is copied: the report says what would be.
template <class M>
LoadReport load_weights(M& model, const Safetensors& file, const std::string& prefix = {}, bool only_compare = false) {
  detail::LoadWeight load{file, prefix, only_compare};
  nn::for_each_state(model, load, load);
  for (const auto& [name, t] : file.tensors())
    if (name.starts_with(prefix) && !load.used.count(name)) load.report.unexpected.push_back(name);
  return std::move(load.report);
}

/// Adds every parameter and buffer to the writer, names prefixed.
template <class M>
void add_weights(SafetensorsWriter& w, M& model, const std::string& prefix = {}) {
  const detail::AddWeight add{w, prefix};
  nn::for_each_state(model, add, add);
}

}  // namespace hybridmed::io
